"""Assets as lists and services show them, and the edits that they accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from regard.core.facts import DatePrecision, PhotoFacts, Place
from regard.core.filters import GpsBox
from regard.core.geometry import Box, Corners


class AssetState(StrEnum):
    """Where an asset is: analysed, waiting for that, unusable, or in the trash."""

    INDEXED = "indexed"
    PENDING = "pending"
    FAILED = "failed"
    TRASHED = "trashed"


class AssetOrder(StrEnum):
    """How a list of assets is sorted; the minus is descending."""

    NEWEST = "-date"
    OLDEST = "date"
    LAST_ADDED = "-added"
    FIRST_ADDED = "added"

    @property
    def by_date(self) -> bool:
        """By `dated_at`, not by when it was added."""
        return self in {AssetOrder.NEWEST, AssetOrder.OLDEST}

    @property
    def descending(self) -> bool:
        """Latest first."""
        return self.value.startswith("-")


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset as a list shows it.

    `path` is the path's bytes, `uri` its printable form; `managed` files belong to the home.
    `sha256`, `format`, `width` and `height` (pixels) are None for a failed asset. `size` is in
    bytes. `taken_at` and `dated_at` are local times, `added_at` and `deleted_at` naive UTC. `etag`
    is that of an object that was indexed in its bucket. A video has a `duration_ms`, and the time
    `poster_ms` of the frame that stands for it. `stack_id` is the asset that stands for its stack,
    which has `stack_count` assets outside the trash; both are None without a stack.
    """

    id: int
    content_id: int | None
    collection_id: int
    collection: str
    external_id: str | None
    uri: str
    path: bytes
    managed: bool
    file_name: str
    title: str | None
    tags: tuple[str, ...]
    custom: Mapping[str, Any]
    state: AssetState
    sha256: str | None
    format: str | None
    width: int | None
    height: int | None
    size: int
    mtime_ns: int
    taken_at: datetime | None
    taken_precision: DatePrecision | None
    added_at: datetime
    dated_at: datetime
    deleted_at: datetime | None
    camera: str | None
    caption: str | None
    failure_reason: str | None
    etag: str | None = None
    duration_ms: int | None = None
    poster_ms: int | None = None
    stack_id: int | None = None
    stack_count: int | None = None


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """A stored region of a content; `score` is its objectness.

    A line of text in the picture is a region, too: with its `text`, its `corners`, and the
    confidence of its letters as `score`. So is a moment of a video: the whole frame at `time_ms`.
    """

    id: int
    content_id: int
    box: Box
    area: int
    score: float
    caption: str | None
    text: str | None = None
    corners: Corners | None = None
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StoredCaption:
    """A sentence, the model that wrote it, and the region that it is about, None for the whole."""

    text: str
    model: str
    region: int | None


@dataclass(frozen=True, slots=True)
class AssetDetail:
    """An asset with its facts, the place of its position, regions and captions.

    `texts` are regions that are lines of text. `albums` are the ids and names of the albums that it
    is in, by name, without saved searches; none of an asset in the trash.
    """

    asset: Asset
    facts: PhotoFacts
    place: Place | None
    regions: tuple[StoredRegion, ...]
    captions: tuple[StoredCaption, ...]
    texts: tuple[StoredRegion, ...] = ()
    albums: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AssetEdit:
    """Changes to the attributes named in `fields`; the others stay.

    A `title` of None restores the file's own, `tags` replaces all tags, and `custom` is merged: a
    value of None deletes its field. A `rating` is 0 (none) to 5 stars, and outranks the file's.
    """

    fields: frozenset[str]
    title: str | None = None
    tags: tuple[str, ...] = ()
    custom: Mapping[str, Any] | None = None
    external_id: str | None = None
    rating: int = 0


@dataclass(frozen=True, slots=True)
class AssetChange:
    """An entry of the log of assets; `kind` is added, changed or removed. `at` is naive UTC."""

    position: int
    kind: str
    asset: int
    collection_id: int
    collection: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection and its counts of assets by state; `assets` are all but those in the trash."""

    id: int
    name: str
    created_at: datetime | None
    assets: int
    pending: int
    failed: int
    trashed: int


@dataclass(frozen=True, slots=True)
class AlbumRecord:
    """An album; with a `query` it is a saved search, whose assets are not counted.

    `assets` are those outside the trash that the caller may see, `cover` the newest of them.
    """

    id: int
    name: str
    query: str | None
    created_at: datetime
    assets: int | None
    cover: int | None


@dataclass(frozen=True, slots=True)
class FacetValue:
    """How many assets have a value."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class PlaceCount:
    """How many assets were taken in a cell of a grid: their mean position and the box around them.

    Degrees, north and east positive. `newest` is the greatest id of them, `sha256` its content, and
    `place` where it lies.
    """

    latitude: float
    longitude: float
    box: GpsBox
    count: int
    newest: int
    sha256: str | None
    place: Place | None


@dataclass(frozen=True, slots=True)
class PlaceCounts:
    """The fullest cells of a grid, and how many assets have a position in all of its cells."""

    cells: tuple[PlaceCount, ...]
    total: int


@dataclass(frozen=True, slots=True)
class MonthCounts:
    """How many assets are dated in each month (`2024-05`), newest month first.

    `newest` is the greatest id of the counted assets.
    """

    months: tuple[FacetValue, ...]
    newest: int | None
