"""What a library answers with.

Frozen records whose fields carry the names of the documented JSON; `to_json()` gives exactly that
JSON (docs/cli.md). Ids are strings: "a17" is an asset, "r5" a region. Boxes are (x, y, width,
height) in pixels of the upright photograph.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regard.api.library.pictures import NOTEBOOK_PIXELS, draw_region, html_tile
from regard.core.errors import RegardError
from regard.search.answers import ChannelMatch

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from regard.core.catalog import Failure
    from regard.core.geometry import Mask
    from regard.indexer.report import IndexReport

BBox = tuple[int, int, int, int]

_STATES = {
    "live": "live",
    "kept": "kept for a rollback",
    "unfinished": "unfinished",
    "deleting": "partly deleted",
}

LoadPicture = Callable[[int], "Picture"]
"""Loads a photograph scaled so that its longer side has at most the given number of pixels."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Photographs that belong together: how many, and the id of the one that stands for them.

    `search("stack:ID")` lists them, with the id of any of them.
    """

    id: str
    count: int

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return {"id": self.id, "count": self.count}


@dataclass(frozen=True, slots=True)
class Asset:
    """A photograph in a collection.

    `uri` is the path as indexed, or a URL; `path` is the same as raw bytes, which `uri` cannot
    always show. `width` and `height` are pixels, `size` is bytes. A video has a `duration_ms`;
    `stack` is None for what belongs to no other. Hits leave `format`, `size` and `collection` out.
    """

    id: str
    uri: str
    width: int
    height: int
    caption: str | None
    path: bytes = field(default=b"", repr=False)
    format: str | None = field(default=None, repr=False)
    size: int | None = field(default=None, repr=False)
    collection: str | None = field(default=None, repr=False)
    duration_ms: int | None = None
    stack: Stack | None = None
    load_picture: LoadPicture | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The fields that a hit shows."""
        return {
            "id": self.id,
            "uri": self.uri,
            "width": self.width,
            "height": self.height,
            "caption": self.caption,
            **({} if self.duration_ms is None else {"duration_ms": self.duration_ms}),
            **({} if self.stack is None else {"stack": self.stack.to_json()}),
        }


@dataclass(frozen=True, slots=True)
class Region:
    """A segment of a photograph; `area` counts its pixels, `score` is its objectness where
    known.

    A region may also be a line of text in the photograph, with its `text`; `score` is then how sure
    its letters are. Or it is a moment of a video: the whole frame at `time_ms`.
    """

    id: str
    bbox: BBox
    area: int
    caption: str | None
    text: str | None = None
    score: float | None = field(default=None, compare=False)
    load_mask: Callable[[], Mask] | None = field(default=None, repr=False, compare=False)
    time_ms: int | None = None

    def mask(self) -> Mask | None:
        """Its pixels as run lengths; None where they can no longer be read."""
        with contextlib.suppress(RegardError):
            return None if self.load_mask is None else self.load_mask()
        return None

    def to_json(self) -> dict[str, Any]:
        """The fields that a hit shows; `text` only of a line of text, `time_ms` of a moment."""
        return {
            "id": self.id,
            "bbox": list(self.bbox),
            "area": self.area,
            "caption": self.caption,
            **({} if self.text is None else {"text": self.text}),
            **({} if self.time_ms is None else {"time_ms": self.time_ms}),
        }


@dataclass(frozen=True, slots=True)
class Details:
    """A photograph with what its metadata and people say of it.

    `state` is indexed, pending, failed or trashed. `taken_at` is the local time where it was taken;
    if `taken_precision` is "year", "month" or "day" and not "time", it is the start of that.
    `facts` are those of the HTTP API (docs/http.md): position, place, exposure, rating and so on,
    None where unknown. `albums` are the names of those that it was put into, without saved
    searches.
    """

    asset: Asset
    state: str
    title: str | None
    tags: tuple[str, ...]
    camera: str | None
    taken_at: datetime | None
    taken_precision: str | None
    facts: Mapping[str, Any] = field(repr=False)
    albums: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields, those of the asset first."""
        return {
            **self.asset.to_json(),
            "format": self.asset.format,
            "size": self.asset.size,
            "collection": self.asset.collection,
            "state": self.state,
            "title": self.title,
            "tags": list(self.tags),
            "camera": self.camera,
            "taken_at": None if self.taken_at is None else self.taken_at.isoformat(),
            "taken_precision": self.taken_precision,
            "facts": dict(self.facts),
            "albums": list(self.albums),
        }


@dataclass(frozen=True, slots=True)
class RefinedRegion:
    """What a query's text names, found in the photograph itself; it is not stored.

    `score` is how sure the model is of the place, in [0, 1]. The mask does not reach out of the
    box, and `area` counts its pixels.
    """

    bbox: BBox
    area: int
    score: float
    mask: Mask = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        mask = self.mask
        return {
            "bbox": list(self.bbox),
            "area": self.area,
            "score": round(self.score, 4),
            "mask": {"size": [mask.height, mask.width], "counts": mask.counts.decode("ascii")},
        }


@dataclass(frozen=True, slots=True)
class Hit:
    """One photograph that was found, perhaps the region that matched best, and why.

    `score` compares only within one answer. `relevance` is the estimated probability that the hit
    is right, None where the models are not calibrated for such queries. `refined` is what the text
    names, if it was searched for with `refine` and the photograph shows it.
    """

    rank: int
    score: float
    relevance: float | None
    asset: Asset
    region: Region | None
    channels: tuple[ChannelMatch, ...] = field(repr=False)
    refined: RefinedRegion | None = None

    @property
    def caption(self) -> str:
        """The photograph's caption and the region's: "A street. Region: motor scooter.".

        Of a line of text, what it says: "A street. Text: “Stop”.".
        """
        if self.region is not None and self.region.text is not None:
            return " ".join(filter(None, (self.asset.caption, f"Text: “{self.region.text}”.")))
        region = self.region and self.region.caption
        of_region = f"Region: {region.rstrip('.')}." if region else ""
        return " ".join(filter(None, (self.asset.caption, of_region)))

    def to_json(self, asset: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The documented JSON; `asset` replaces that of the photograph."""
        return {
            "rank": self.rank,
            "score": round(self.score, 6),
            "relevance": None if self.relevance is None else round(self.relevance, 4),
            "asset": self.asset.to_json() if asset is None else asset,
            "region": None if self.region is None else self.region.to_json(),
            **({} if self.refined is None else {"refined": self.refined.to_json()}),
            "channels": [match.to_json() for match in self.channels],
        }

    def picture(self, longest: int) -> Picture:
        """The photograph with its region outlined, at most `longest` pixels a side: the refined
        one if there is one.

        Raises DecodeError or another RegardError when the photograph can no longer be read.
        """
        if self.asset.load_picture is None:
            raise ValueError("the hit was not made by a library")
        picture = self.asset.load_picture(longest)
        scale = picture.width / self.asset.width
        if self.refined is not None:
            draw_region(picture, self.refined.bbox, self.refined.mask, scale)
        elif self.region is not None and self.region.time_ms is None:
            draw_region(picture, self.region.bbox, self.region.mask(), scale)
        return picture

    def _repr_html_(self) -> str:
        return f"<div>{self._tile()}</div>"

    def _tile(self) -> str:
        shown: Picture | str
        try:
            shown = self.picture(NOTEBOOK_PIXELS)
        except RegardError as error:
            shown = error.message
        name = self.asset.id if self.region is None else f"{self.asset.id} {self.region.id}"
        score = f", score {self.score:.4f}" if self.channels else ""
        relevance = "" if self.relevance is None else f", {self.relevance:.0%} likely"
        label = f"{self.rank}. {name}{score}{relevance}"
        return html_tile(shown, self.asset.uri, label, self.caption)


def unread_words(words: Sequence[str]) -> str:
    """The sentence for words of a query that the models can't read."""
    quoted = ", ".join(f"“{word}”" for word in words)
    sought = "titles, tags, descriptions, captions, names and text in photographs"
    it = "them" if len(words) > 1 else "it"
    return f"The models can't read {quoted}: only {sought} were searched for {it}."


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query, best first.

    `query` says what was searched for. `matched` is False when even the best hits are probably
    wrong; the hits are there all the same. `unknown_words` are those that the models can't read,
    such as words in a script that they were not trained on; only titles, tags, descriptions,
    captions, names and text in photographs are searched for them. `relevance_source` says what
    relevance was calibrated on: the labelled photographs of the `profile`, or the `library` itself;
    None where relevance is unknown.
    """

    query: Mapping[str, Any]
    took_ms: float
    matched: bool
    hits: tuple[Hit, ...]
    unknown_words: tuple[str, ...] = ()
    relevance_source: str | None = None

    def relevant(self, min_relevance: float | None = None) -> tuple[Hit, ...]:
        """The hits worth showing to people: none when nothing matched, else all.

        With `min_relevance`, hits that are less relevant are left out too.
        """
        if not self.matched:
            return ()
        return tuple(
            hit
            for hit in self.hits
            if min_relevance is None or hit.relevance is None or hit.relevance >= min_relevance
        )

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return {
            "query": dict(self.query),
            "took_ms": round(self.took_ms, 1),
            "matched": self.matched,
            "relevance_source": self.relevance_source,
            **({"unknown_words": list(self.unknown_words)} if self.unknown_words else {}),
            "hits": [hit.to_json() for hit in self.hits],
        }

    def _repr_html_(self) -> str:
        tiles = "".join(hit._tile() for hit in self.hits) or "Nothing was found."
        is_unmatched = self.hits and not self.matched
        notice = "<p>Nothing here matches. The nearest hits:</p>" if is_unmatched else ""
        if self.unknown_words:
            notice += f"<p>{html.escape(unread_words(self.unknown_words))}</p>"
        return f"<div>{notice}{tiles}</div>"


@dataclass(frozen=True, slots=True)
class DuplicateMember:
    """A photograph of a group; `similarity`, at most 1, is to the one that the group was made
    around.

    `region` is the id of the region that shows the thing, for groups of the kind `object`.
    """

    asset: Asset
    similarity: float
    region: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        asset = self.asset
        more = {"format": asset.format, "size": asset.size, "collection": asset.collection}
        return {
            "asset": {**asset.to_json(), **more},
            "similarity": self.similarity,
            "region": self.region,
        }


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Photographs that belong together; `keeper` is the id of the one to keep, `reasons` say
    why."""

    kind: str
    keeper: str
    reasons: tuple[str, ...]
    members: tuple[DuplicateMember, ...]

    @property
    def paths(self) -> list[bytes]:
        """The paths of all members, the keeper's first."""
        members = sorted(self.members, key=lambda member: member.asset.id != self.keeper)
        return [member.asset.path for member in members]

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return {
            "kind": self.kind,
            "keeper": self.keeper,
            "reasons": list(self.reasons),
            "members": [member.to_json() for member in self.members],
        }


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of duplicates.

    `unusable` are photographs whose files could not be compared, `left_out` counts those that a
    server does not name.
    """

    groups: tuple[DuplicateGroup, ...] = ()
    unusable: tuple[Failure, ...] = ()
    left_out: int = 0
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return {
            "groups": [group.to_json() for group in self.groups],
            "unusable": [dataclasses.asdict(failure) for failure in self.unusable],
        }


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value of the library, and the query that has it in place of what was typed last.

    `kind` is tag, album, saved search, city, country, camera or lens.
    """

    kind: str
    value: str
    query: str


@dataclass(frozen=True, slots=True)
class Album:
    """An album; with a `query` it is a saved search, whose photographs are not counted."""

    name: str
    query: str | None
    assets: int | None

    def to_json(self) -> dict[str, Any]:
        """The JSON of the command line."""
        return {"name": self.name, "query": self.query, "assets": self.assets}


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection and its photographs: all that are not in the trash, and some of their
    states."""

    name: str
    assets: int
    pending: int = 0
    failed: int = 0
    trashed: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What a library holds.

    `location` is the home's path or the server's URL. `details` is the JSON document, whose fields
    differ between a home and a server (docs/cli.md); `lines` are the same for people.
    """

    location: str
    profile: str
    collections: tuple[CollectionStatus, ...]
    contents: int
    regions: int
    captions: int
    embeddings: int
    details: Mapping[str, Any] = field(repr=False)
    lines: tuple[str, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return dict(self.details)

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many vectors and indexes were rebuilt from the catalog."""

    vectors: int
    indexes: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Models at exact revisions, and how many photographs they have analysed
    (docs/model-change.md).

    `state` is live, kept, unfinished or deleting. Times are ISO 8601 in UTC.
    """

    profile: str
    fingerprint: str
    state: str
    models: Mapping[str, str] = field(repr=False)
    spaces: Mapping[str, int] = field(repr=False)
    analysed: int
    missing: int
    failed: int
    embeddings: int
    live_since: str | None
    replaced_at: str | None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        missing = f", {self.missing} missing" if self.missing else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"  pipeline {self.fingerprint[:12]} {self.profile}: {_STATES[self.state]}; "
            f"{self.analysed} contents{missing}{failed}"
        )


@dataclass(frozen=True, slots=True)
class Pipelines:
    """All pipelines, the live one first; `serving` is the fingerprint that a server answers
    with."""

    items: tuple[Pipeline, ...]
    serving: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        document: dict[str, Any] = {"pipelines": [one.to_json() for one in self.items]}
        return document if self.serving is None else {**document, "serving": self.serving}


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What changing the models did.

    `was_live`: the models were live already. `missing` counts photographs without analysis by the
    models that are live now, `failed` those that could not be analysed. `report` is what a reindex
    did; `job` is the server's job. `message` is what the server says of it.
    """

    profile: str | None
    fingerprint: str | None
    live: bool
    was_live: bool = False
    missing: int = 0
    failed: int = 0
    interrupted: bool = False
    report: IndexReport | None = None
    job: Mapping[str, Any] | None = None
    message: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON: a server's job where there is one."""
        if self.job is not None:
            return dict(self.job)
        made = {"profile": self.profile, "fingerprint": self.fingerprint, "live": self.live}
        return {
            **made,
            **({"missing": self.missing} if self.report is None else self.report.to_json()),
        }


@dataclass(frozen=True, slots=True)
class Pruned:
    """The fingerprints of the pipelines that were deleted; `job` is the server's job."""

    fingerprints: Sequence[str]
    interrupted: bool = False
    job: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON: a server's job where there is one."""
        return {"pruned": list(self.fingerprints)} if self.job is None else dict(self.job)
