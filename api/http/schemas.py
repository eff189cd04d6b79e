"""The documents of the API, as OpenAPI shows them and the Python client reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

# A camera's wall clock: ISO 8601 without a zone, which OpenAPI's `date-time` would demand.
LocalTime = Annotated[
    datetime,
    WithJsonSchema(
        {
            "type": "string",
            "description": "ISO 8601 without a zone",
            "examples": ["2024-05-01T07:30:00"],
        }
    ),
]


class Document(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="forbid")


class CollectionName(Document):
    """A collection as other documents name it."""

    id: str = Field(examples=["c1"])
    name: str = Field(examples=["holiday"])


class CollectionDocument(CollectionName):
    """A collection and its counts; `assets` are all but those in the trash."""

    created_at: datetime | None
    assets: int
    pending: int
    failed: int
    trashed: int


class CollectionList(Document):
    """A page of collections, by name."""

    items: list[CollectionDocument]
    next: str | None


class AssetUrls(Document):
    """Where to get more of an asset; relative to the server."""

    self: str = Field(examples=["/v1/assets/a17"])
    original: str
    thumbnail: str
    thumbnail_512: str
    thumbnail_1024: str
    similar: str


class AssetDocument(Document):
    """An asset as lists and hits show it."""

    id: str = Field(examples=["a17"])
    collection: CollectionName
    external_id: str | None
    uri: str
    path: str | None = Field(examples=["photos/2024/harbour.jpg"])
    file_name: str
    title: str | None
    tags: list[str]
    custom: dict[str, Any]
    state: Literal["indexed", "pending", "failed", "trashed"]
    width: int | None
    height: int | None
    format: str | None
    size: int
    taken_at: LocalTime | None
    added_at: datetime
    dated_at: LocalTime
    camera: str | None
    caption: str | None
    urls: AssetUrls


class FacetDocument(Document):
    """How many assets that pass the filters have a value."""

    value: str
    count: int


class AssetList(Document):
    """A page of assets; `facets`, where they were asked for, count all that are on any page."""

    items: list[AssetDocument]
    next: str | None
    facets: dict[str, list[FacetDocument]] | None = None


class DuplicateMember(Document):
    """A photograph of a group; `similarity`, at most 1, is to the one that the group was made around."""

    asset: AssetDocument
    similarity: float
    region: str | None = Field(description="For `object`, the region that shows the thing.")


class DuplicateGroupDocument(Document):
    """Photographs that belong together, the id of the one to keep, and why that one."""

    kind: Literal["exact", "edited", "burst", "object"]
    keeper: str = Field(examples=["a17"])
    reasons: list[str] = Field(examples=[["most pixels: 4000 × 3000"]])
    members: list[DuplicateMember]


class DuplicateList(Document):
    """A page of groups; `complete` is whether all photographs that are analysed were compared.

    While `waiting`, asking again gets further. Photographs whose files can't be read are left out.
    """

    groups: list[DuplicateGroupDocument]
    complete: bool
    waiting: bool
    left_out: int = Field(description="How many photographs can't be told from their copies.")
    next: str | None


class RegionUrls(Document):
    """Where to get more of a region."""

    crop: str
    mask: str
    similar: str


class RegionDocument(Document):
    """A region: [x, y, width, height] and area in pixels of the oriented photograph."""

    id: str = Field(examples=["r92"])
    bbox: list[int] = Field(min_length=4, max_length=4)
    area: int
    score: float
    caption: str | None
    urls: RegionUrls


class RegionWithAsset(RegionDocument):
    """A region and the asset that it was found on."""

    asset: AssetDocument


class CaptionDocument(Document):
    """A sentence; `region` is None for one about the whole."""

    text: str
    model: str
    region: str | None


class FactsDocument(Document):
    """What the file's metadata says."""

    camera_make: str | None
    camera_model: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    altitude_m: float | None
    exposure_seconds: float | None
    f_number: float | None
    iso: int | None
    focal_length_mm: float | None
    rating: int | None
    description: str | None
    keywords: list[str]
    utc_offset_minutes: int | None


class AssetDetailDocument(AssetDocument):
    """An asset with all that is known of it."""

    sha256: str | None
    failure: str | None
    deleted_at: datetime | None
    facts: FactsDocument
    regions: list[RegionDocument]
    captions: list[CaptionDocument]


class BulkAnswer(Document):
    """How many assets a bulk call changed."""

    done: int


class PurgeAnswer(Document):
    """How many assets were forgotten for good."""

    purged: int


class JobDocument(Document):
    """A job; see docs/http.md."""

    id: str = Field(examples=["j4"])
    kind: Literal["import", "upload", "reindex", "pipeline", "prune"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    collection: CollectionName | None = Field(description="null: the job is on the whole home")
    profile: str | None
    pipelines: list[str]
    root: str | None
    path: str | None
    total: int | None
    done: int
    failed: int
    report: dict[str, Any] | None
    message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobList(Document):
    """A page of jobs, newest first."""

    items: list[JobDocument]
    next: str | None


class JobFailure(Document):
    """A file that a job's collection could not use, and why."""

    asset: str
    file_name: str
    reason: str


class JobFailureList(Document):
    """A page of failures."""

    items: list[JobFailure]
    next: str | None


class UploadItem(Document):
    """What became of one file of an upload."""

    file_name: str
    status: Literal["created", "existing", "restored", "refused"]
    asset: AssetDocument | None
    problem: dict[str, Any] | None


class UploadAnswer(Document):
    """What became of an upload, file by file, and the job that analyses what is new."""

    items: list[UploadItem]
    job: JobDocument | None


class PipelineDocument(Document):
    """A pipeline that the home has, and how complete it is; see docs/model-change.md."""

    profile: str
    fingerprint: str
    state: Literal["live", "kept", "unfinished", "deleting"]
    models: dict[str, str]
    spaces: dict[str, int]
    analysed: int
    missing: int
    failed: int
    embeddings: int
    live_since: datetime | None
    replaced_at: datetime | None


class PipelineList(Document):
    """All pipelines, the live one first; `serving` is the fingerprint of the one that answers here."""

    items: list[PipelineDocument]
    serving: str


class RollbackDocument(Document):
    """What came of going back; where photographs were missing, the job that analyses them first."""

    profile: str
    fingerprint: str
    missing: int
    live: bool
    jobs: list[JobDocument]


class HitRegion(Document):
    """The region of a hit."""

    id: str
    bbox: list[int]
    area: int
    caption: str | None
    urls: RegionUrls


class WordDocument(Document):
    """A word or phrase of the query, and where the hit has it."""

    text: str
    field: Literal[
        "title", "tag", "file_name", "folder", "description", "caption", "region_caption"
    ]


class ChannelDocument(Document):
    """Which channel found the hit, at what rank and with what score, and its part of the hit's score.

    The keyword index has `words` in the place of a `space`.
    """

    space: str | None = None
    kind: str
    rank: int
    score: float
    contribution: float
    words: list[WordDocument] | None = None


class HitDocument(Document):
    """One answer of a search; `score` compares only within one answer."""

    rank: int
    score: float
    relevance: float | None
    asset: AssetDocument
    region: HitRegion | None
    channels: list[ChannelDocument]


class SearchAnswer(Document):
    """Hits, best first."""

    query: dict[str, Any]
    took_ms: float
    matched: bool
    hits: list[HitDocument]
    next: str | None
    facets: dict[str, list[FacetDocument]] | None = None


class ChangeDocument(Document):
    """One entry of the log of assets."""

    position: int
    kind: Literal["added", "changed", "removed"]
    asset: str
    collection: CollectionName | None
    at: datetime


class ChangeList(Document):
    """What happened, in order; `next` is the position to go on from."""

    changes: list[ChangeDocument]
    next: int
    more: bool


class Counts(Document):
    """What the catalog holds, as far as the caller may see."""

    assets: int
    contents: int
    regions: int
    captions: int
    embeddings: int


class Limits(Document):
    """What a call may carry."""

    upload_bytes: int
    upload_files: int
    pixels: int
    page: int
    hits: int


class InfoDocument(Document):
    """The server, and who one is to it."""

    version: str
    profile: str
    spaces: dict[str, int]
    counts: Counts
    limits: Limits
    roots: list[str]
    scope: Literal["read", "write", "admin"]
    collections: list[str] | None
    keys_required: bool


class Health(Document):
    """That the process lives."""

    status: Literal["ok"] = "ok"


class Readiness(Document):
    """Whether searches can be answered, and if not, why."""

    status: Literal["ready", "not ready"]
    reasons: list[str] = []
