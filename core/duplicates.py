"""Duplicates: their kinds and groups, and what finding them needs of the catalog.

Contents are compared once, across collections, and the pairs are stored. Which assets a list
shows, and which of them to keep, is decided when it is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from regard.core.assets import Asset
from regard.core.catalog import FileStamp
from regard.core.filters import AssetFilter
from regard.core.records import Channel, Float32Array, Signature


class DuplicateKind(StrEnum):
    """Why photographs belong together.

    `exact`: the same bytes. `edited`: the same picture re-encoded, resized or lightly edited.
    `burst`: taken within seconds by one camera and alike. `object`: the same thing in different
    photographs.
    """

    EXACT = "exact"
    EDITED = "edited"
    BURST = "burst"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A member of a group: an asset, and for `object` the region that shows the thing.

    `similarity` is to the member that the group was made around, at most 1; 1 for that one itself.
    """

    asset: Asset
    similarity: float
    region: int | None = None


# Where a list goes on: a number that grows along it, and the count of groups that share it.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Photographs that belong together; `reasons` says why to keep `members[keeper]`."""

    kind: DuplicateKind
    place: Place
    members: tuple[Duplicate, ...]
    keeper: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A content without a signature, and the files that hold or held its bytes."""

    content: int
    sha256: str
    files: tuple[FileStamp, ...]


@dataclass(frozen=True, slots=True, order=True)
class CopyPair:
    """Two contents, `first` < `second`, that are one picture; `similarity` 0 to 1."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """An asset of a known camera and time; `taken_at` on the clock of the place."""

    asset: int
    content: int
    camera: str
    taken_at: datetime


class SignatureStore(Protocol):
    """The store of signatures, as used to add those of older contents."""

    def unsigned(self, after: int, limit: int) -> list[Unsigned]:
        """The next contents by id that are analysed, have a live asset and no signature."""

    def save_signatures(self, signatures: Mapping[int, Signature | None]) -> None:
        """Save signatures by content, None for unreadable files; ignore deleted contents."""


class DuplicateCatalog(Protocol):
    """The catalog as the search for duplicates sees it."""

    def signatures(self, contents: Collection[int]) -> dict[int, Signature]:
        """Signatures by content; those without one are absent."""

    def uncompared(self, channel: Channel, after: int, limit: int) -> list[int]:
        """The next contents by id with signature, vector and live asset that were not compared."""

    def count_uncompared(self, channel: Channel) -> int:
        """How many contents `uncompared` has left."""

    def image_vectors(self, channel: Channel, contents: Collection[int]) -> dict[int, Float32Array]:
        """Vectors of whole images, (d,) by content."""

    def has_videos(self) -> bool:
        """Whether there is a video, which has many vectors and no signature."""

    def save_comparisons(self, contents: Sequence[int], pairs: Sequence[CopyPair]) -> None:
        """Save pairs found among neighbours, and mark the contents as compared."""

    def copy_pairs(self) -> Iterator[CopyPair]:
        """All pairs, ordered."""

    def pairs_among(self, contents: Collection[int]) -> set[tuple[int, int]]:
        """Pairs whose contents are both among these."""

    def distinct_pairs(self) -> set[tuple[int, int]]:
        """Pairs of contents that people marked as distinct, the lower id first.

        They are in no pair of copies. A content may stand twice: its files are all wanted.
        """

    def repeated_contents(self, asset_filter: AssetFilter, first: int) -> Iterator[int]:
        """Contents from id `first` on that have several assets that pass the filter, by id."""

    def exposures(self, asset_filter: AssetFilter, first: int) -> Iterator[Exposure]:
        """Assets that pass, by camera, time and id, starting at the asset `first`; 0 for all.

        Raises UsageError when that asset no longer exists.
        """

    def records(
        self, contents: Collection[int], asset_filter: AssetFilter
    ) -> Mapping[int, Sequence[Asset]]:
        """Assets that pass the filter, by content, each by id."""
