"""The JSON documents of the API, for OpenAPI and the Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

# A camera's local time has no zone, which OpenAPI's `date-time` requires.
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
    """Base class of all answers."""

    model_config = ConfigDict(extra="forbid")


class CollectionName(Document):
    """Id and name of a collection."""

    id: str = Field(examples=["c1"])
    name: str = Field(examples=["holiday"])


class CollectionDocument(CollectionName):
    """A collection and its counts; `assets` excludes trashed ones."""

    created_at: datetime | None
    assets: int
    pending: int
    failed: int
    trashed: int


class CollectionList(Document):
    """A page of collections, sorted by name."""

    items: list[CollectionDocument]
    next: str | None


class AlbumDocument(Document):
    """An album. With a `query` it is a saved search, which has no count and no cover.

    `assets` excludes trashed ones; `cover` is the id of the newest one.
    """

    id: str = Field(examples=["b1"])
    name: str = Field(examples=["Best of 2024"])
    query: str | None = Field(examples=["rating:>=4 taken:2024"])
    created_at: datetime
    assets: int | None
    cover: str | None


class AlbumList(Document):
    """A page of albums, sorted by name."""

    items: list[AlbumDocument]
    next: str | None


class SuggestionDocument(Document):
    """A value of the library that completes a query; `query` is the query that has it."""

    kind: Literal["tag", "album", "saved search", "city", "country", "camera", "lens"]
    value: str = Field(examples=["harbour"])
    query: str = Field(examples=["red boat tag:harbour"])


class SuggestionList(Document):
    """Suggestions, the best first."""

    items: list[SuggestionDocument]


class AssetUrls(Document):
    """URLs of an asset, relative to the server."""

    self: str = Field(examples=["/v1/assets/a17"])
    original: str
    thumbnail: str
    thumbnail_512: str
    thumbnail_1024: str
    thumbnail_4096: str
    similar: str


class StackDocument(Document):
    """A stack: the id of the asset that stands for it, and the number of its assets."""

    id: str = Field(examples=["a17"])
    count: int


class AssetDocument(Document):
    """An asset in lists and hits."""

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
    duration_ms: int | None = Field(description="Of a video alone.")
    stack: StackDocument | None = Field(description="Null for what belongs to no other asset.")
    size: int
    taken_at: LocalTime | None
    taken_precision: Literal["year", "month", "day", "time"] | None = Field(
        description="What is known of `taken_at`, which is else the start of the year, month or day."
    )
    added_at: datetime
    dated_at: LocalTime
    camera: str | None
    caption: str | None
    urls: AssetUrls


class FacetDocument(Document):
    """A value and the number of matching assets that have it."""

    value: str
    count: int


class AssetList(Document):
    """A page of assets; requested `facets` count the assets of all pages."""

    items: list[AssetDocument]
    next: str | None
    facets: dict[str, list[FacetDocument]] | None = None


class MonthDocument(Document):
    """A month and the number of assets whose `dated_at` lies in it."""

    month: str = Field(examples=["2024-05"])
    count: int


class AssetMonths(Document):
    """The months of a list, newest first.

    With `through` as a parameter, `/v1/assets` lists the counted assets alone, even if others are
    added. `through` is null if there are none.
    """

    months: list[MonthDocument]
    total: int
    through: str | None = Field(examples=["a5012"])


class PlaceDocument(Document):
    """Where assets were taken: their mean position, and the `box` around them, which a filter
    `gps_box` takes: west, south, east, north.

    `asset` is the one of them that was added last; `country` and `city` are where it lies.
    """

    latitude: float
    longitude: float
    box: list[float]
    count: int
    asset: str = Field(examples=["a17"])
    thumbnail: str
    country: str | None
    city: str | None


class AssetPlaces(Document):
    """Assets by the cells of a grid, the fullest first; `total` are all with a position."""

    places: list[PlaceDocument]
    total: int


class DuplicateMember(Document):
    """A photograph of a group; `similarity` to its central photograph is at most 1."""

    asset: AssetDocument
    similarity: float
    region: str | None = Field(description="For `object`: the region that shows it.")


class DuplicateGroupDocument(Document):
    """A group of duplicates, the id of the one to keep, and the reasons."""

    kind: Literal["exact", "edited", "burst", "object"]
    keeper: str = Field(examples=["a17"])
    reasons: list[str] = Field(examples=[["most pixels: 4000 × 3000"]])
    members: list[DuplicateMember]


class DuplicateList(Document):
    """A page of groups; `complete` says whether all analysed photographs were compared.

    While `waiting` is true, a job compares them: repeat the request. Photographs with unreadable
    files are left out.
    """

    groups: list[DuplicateGroupDocument]
    complete: bool
    waiting: bool
    left_out: int = Field(description="Number of photographs that could not be compared.")
    next: str | None


class RegionUrls(Document):
    """URLs of a region, relative to the server."""

    crop: str
    mask: str
    similar: str


class RegionDocument(Document):
    """A region; `bbox` is [x, y, width, height] in pixels of the oriented photograph.

    A line of text in the photograph is a region, too. It alone has a `text` and four `corners` [x, y]
    in order around it, the first two along it; its `score` is how sure the letters are. So is a
    moment of a video, which alone has a `time_ms`: the whole frame at that time.
    """

    id: str = Field(examples=["r92"])
    bbox: list[int] = Field(min_length=4, max_length=4)
    area: int
    score: float
    caption: str | None
    time_ms: int | None
    text: str | None = None
    corners: list[list[int]] | None = None
    urls: RegionUrls


class RegionWithAsset(RegionDocument):
    """A region and its asset."""

    asset: AssetDocument


class CaptionDocument(Document):
    """A caption; `region` is null for the whole photograph."""

    text: str
    model: str
    region: str | None


class FactsDocument(Document):
    """The metadata of the file."""

    camera_make: str | None
    camera_model: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    country: str | None
    city: str | None
    altitude_m: float | None
    exposure_seconds: float | None
    f_number: float | None
    iso: int | None
    focal_length_mm: float | None
    motion_video_offset: int | None = Field(
        description="where the video in a motion photo begins in the original, in bytes"
    )
    rating: int | None
    description: str | None
    keywords: list[str]
    utc_offset_minutes: int | None


class AlbumName(Document):
    """Id and name of an album."""

    id: str = Field(examples=["b1"])
    name: str = Field(examples=["Best of 2024"])


class AssetDetailDocument(AssetDocument):
    """An asset with its facts, regions and captions; `texts` are regions that are lines of text.

    `albums` are those that it was put into: no saved searches, and none while it is in the trash.
    """

    sha256: str | None
    failure: str | None
    deleted_at: datetime | None
    facts: FactsDocument
    regions: list[RegionDocument]
    captions: list[CaptionDocument]
    texts: list[RegionDocument] = []
    albums: list[AlbumName] = []


class BulkAnswer(Document):
    """The number of changed assets."""

    done: int


class JobDocument(Document):
    """A job in the background."""

    id: str = Field(examples=["j4"])
    kind: Literal[
        "import", "upload", "reindex", "pipeline", "prune", "purge", "copies", "objects", "read"
    ]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    collection: CollectionName | None = Field(description="null for a job on the whole home")
    profile: str | None
    pipelines: list[str]
    root: str | None
    path: str | None
    changed: int | None = Field(
        description="how many files and folders of a watched folder are indexed; null for all"
    )
    total: int | None
    done: int
    failed: int
    report: dict[str, Any] | None
    message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class PurgeAnswer(Document):
    """How many assets are permanently deleted, and the jobs that delete the rest."""

    purged: int
    jobs: list[JobDocument]


class JobList(Document):
    """A page of jobs, newest first."""

    items: list[JobDocument]
    next: str | None


class JobFailure(Document):
    """A file that could not be indexed, and the reason."""

    asset: str
    file_name: str
    reason: str


class JobFailureList(Document):
    """A page of failures."""

    items: list[JobFailure]
    next: str | None


class UploadItem(Document):
    """The outcome for one uploaded file."""

    file_name: str
    status: Literal["created", "existing", "restored", "refused"]
    asset: AssetDocument | None
    problem: dict[str, Any] | None


class UploadAnswer(Document):
    """The outcome for each uploaded file, and the job that analyses new ones."""

    items: list[UploadItem]
    job: JobDocument | None


class PipelineDocument(Document):
    """A pipeline of the home and how complete it is."""

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
    """All pipelines, the live one first; `serving` is the fingerprint that this server uses."""

    items: list[PipelineDocument]
    serving: str


class RollbackDocument(Document):
    """The outcome of a rollback; `jobs` analyse missing photographs."""

    profile: str
    fingerprint: str
    missing: int
    live: bool
    jobs: list[JobDocument]


class HitRegion(Document):
    """The region of a hit; only a line of text has a `text`, only a moment a `time_ms`."""

    id: str
    bbox: list[int]
    area: int
    caption: str | None
    text: str | None = None
    time_ms: int | None = None
    urls: RegionUrls


class RunLengths(Document):
    """A mask as compressed run lengths of COCO; `size` is height and width."""

    size: list[int]
    counts: str


class RefinedDocument(Document):
    """What the text names, found in the photograph itself when a search asks for it.

    It is not stored and has no id. `score` is how sure the model is of the place, from 0 to 1.
    `outline` is the mask's edge as data of an SVG path, in half pixels of the photograph.
    """

    bbox: list[int]
    area: int
    score: float
    mask: RunLengths
    outline: str


class WordDocument(Document):
    """A matching word or phrase of the query, and the field that has it."""

    text: str
    field: Literal[
        "title",
        "tag",
        "file_name",
        "folder",
        "description",
        "caption",
        "region_caption",
        "text",
        "similar_text",
    ]


class ChannelDocument(Document):
    """Which channel found the hit, at what rank and with what score, and its part of the hit's
    score.

    The keyword index, `keyword`, and text in the picture, `text`, have `words` in the place of a
    `space`.
    """

    space: str | None = None
    kind: str
    rank: int
    score: float
    contribution: float
    words: list[WordDocument] | None = None


class HitDocument(Document):
    """One hit; compare `score` only within one answer."""

    rank: int
    score: float
    relevance: float | None
    asset: AssetDocument
    region: HitRegion | None
    refined: RefinedDocument | None = Field(
        default=None,
        description="With `refine`: what the text names, if the photograph shows it.",
    )
    channels: list[ChannelDocument]


class SearchAnswer(Document):
    """Hits, best first."""

    query: dict[str, Any]
    took_ms: float
    matched: bool
    relevance_source: Literal["profile", "library"] | None = Field(
        description="What `relevance` was calibrated on; null if it is unknown.",
    )
    unknown_words: list[str] = Field(
        default=[],
        description="Words of the query that the models can't read: only titles, tags, descriptions,"
        " captions, names and text in photographs are searched for them.",
    )
    hits: list[HitDocument]
    next: str | None
    facets: dict[str, list[FacetDocument]] | None = None


class ChangeDocument(Document):
    """One entry of the change log."""

    position: int
    kind: Literal["added", "changed", "removed"]
    asset: str
    collection: CollectionName | None
    at: datetime


class ChangeList(Document):
    """Changes in order; pass `next` as `since` of the next request."""

    changes: list[ChangeDocument]
    next: int
    more: bool


class Counts(Document):
    """Counts of what the caller may see."""

    assets: int
    contents: int
    regions: int
    captions: int
    embeddings: int


class Limits(Document):
    """Limits of one request."""

    upload_bytes: int
    upload_files: int
    video_bytes: int | None = Field(
        description="Largest video of an upload; null if this server can't read videos."
    )
    pixels: int
    page: int
    hits: int


class EstimateDocument(Document):
    """A share from 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


class ChannelRecallDocument(Document):
    """The shares of a channel's 10 and 100 nearest vectors that a search finds.

    `query_kind` is the kind of stored vectors that stood for queries; captions stand for texts.
    """

    space: str
    kind: str
    query_kind: str
    queries: int
    is_exact: bool
    at_10: EstimateDocument
    at_100: EstimateDocument


class RecallDocument(Document):
    """The last measurement of recall, and the position of the change log at which it was made."""

    taken_at: str
    applied_through: int
    channels: list[ChannelRecallDocument]


class InfoDocument(Document):
    """The server, and the caller's permissions."""

    version: str
    profile: str
    refines: bool = Field(description="Whether searches may ask to `refine` hits.")
    spaces: dict[str, int]
    counts: Counts
    limits: Limits
    roots: list[str]
    scope: Literal["read", "write", "admin"]
    collections: list[str] | None
    keys_required: bool
    recall: RecallDocument | None


class Health(Document):
    """The process is running."""

    status: Literal["ok"] = "ok"


class Readiness(Document):
    """Whether searches can be answered, and the reasons if not."""

    status: Literal["ready", "not ready"]
    reasons: list[str] = []
