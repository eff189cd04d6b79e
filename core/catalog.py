"""Records that the catalog reads and writes, and the Protocols of its users."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from regard.core.assets import Asset, StoredRegion
from regard.core.facts import PhotoFacts
from regard.core.filters import AssetFilter
from regard.core.records import Analysis, Channel, Float32Array, Int64Array
from regard.core.signatures import Signature
from regard.core.words import is_word


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells that a file is unchanged, without reading it.

    `path` is the absolute path as the file system's bytes, symlinks unresolved; `sidecar` stands
    for the metadata file beside it, None when there is none. Numbers are clamped to 64 bits, which
    is what databases store: some file systems keep times before 1677 and after 2262.
    """

    path: bytes
    size: int
    mtime_ns: int
    sidecar: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", clamp_int64(self.size))
        object.__setattr__(self, "mtime_ns", clamp_int64(self.mtime_ns))


def clamp_int64(number: int) -> int:
    """The nearest number that a signed 64-bit integer can hold."""
    return min(max(number, -(2**63)), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class KnownAsset:
    """An asset as an earlier run left it; `failure_reason` says why that run could not use it."""

    id: int
    stamp: FileStamp
    failure_reason: str | None


@dataclass(frozen=True, slots=True)
class ContentHeader:
    """The identity and form of exact bytes; `width` and `height` in pixels, oriented."""

    sha256: str
    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that is no usable photograph, and why."""

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class WaitingContent:
    """A content that a pipeline has yet to analyse; `paths` are where its file may lie, best
    first."""

    id: int
    sha256: str
    width: int
    height: int
    paths: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """What embeddings describe, in their order: ids of contents and of regions, 0 for none.

    Both are int64 of the shape of the embeddings; an embedding that was deleted has no content.
    """

    contents: Int64Array
    regions: Int64Array


@dataclass(frozen=True, slots=True)
class HitRecords:
    """What an answer shows, read at one moment: assets by content, ordered by id, and regions by
    id."""

    assets: Mapping[int, Sequence[Asset]]
    regions: Mapping[int, StoredRegion]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelQuery:
    """A query of one channel: the `k` best rows for each of `vectors` (n, d)."""

    channel: Channel
    vectors: Float32Array
    k: int


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Vectors kept for an asset's content or a region, by channel."""

    content: int
    region: int | None
    vectors: Mapping[Channel, Float32Array]


class WordField(StrEnum):
    """Where a word of a photograph stands: in what an asset is called, or in a caption."""

    TITLE = "title"
    TAG = "tag"
    FILE_NAME = "file_name"
    FOLDER = "folder"
    DESCRIPTION = "description"
    CAPTION = "caption"
    REGION_CAPTION = "region_caption"


WORD_FIELDS = tuple(WordField)


@dataclass(frozen=True, slots=True)
class Words:
    """What to look up: one word, or a phrase of several that stand side by side as they are.

    `words` are as `regard.core.words` splits them, two or more for a phrase. A single word is
    found in its other forms too (bus, buses) unless it is `exact`, as phrases are.
    """

    words: tuple[str, ...]
    exact: bool = False

    def __post_init__(self) -> None:
        if not self.words or (len(self.words) > 1 and not self.exact):
            raise ValueError("one word, or several that are exact")
        if not all(map(is_word, self.words)):
            raise ValueError("words are letters and digits")


@dataclass(frozen=True, slots=True, eq=False)
class Occurrences:
    """Where several `Words` were found: arrays (m,), one row for each text that holds one of them.

    `places` are their positions in the query, `fields` places in `WORD_FIELDS`, `regions` those
    that a caption is about, 0 for none. `total`: about how many contents were searched. `more`
    has, by place, about how many texts hold words that too many hold to list them all.
    """

    places: Int64Array
    fields: Int64Array
    contents: Int64Array
    regions: Int64Array
    total: int
    more: Mapping[int, int] = field(default_factory=dict)


class WriterLease(Protocol):
    """The right to write: one holder at a time, with a heartbeat."""

    def check(self) -> None:
        """Raise LeaseHeld when another process has taken over."""


class IndexingCatalog(Protocol):
    """The catalog as the indexer sees it: one collection, one live pipeline, one writer.

    Each method is one transaction. After each of them a content that no asset needs any
    more is gone with all that it owns, in the same transaction.
    """

    def writer_lease(self) -> AbstractContextManager[WriterLease]:
        """Hold the lease for the block; raises LeaseHeld, which says who holds it."""

    def known_assets(self, root: bytes) -> Iterator[KnownAsset]:
        """The assets at or below `root`, ordered by path bytes; read page by page."""

    def is_analysed(self, sha256: str) -> bool:
        """Whether an analysis of the content is stored."""

    def has_asset(self, path: bytes, sha256: str) -> bool:
        """Whether the collection has an asset of the content at this path."""

    def assets_of_content(self, sha256: str) -> Iterator[KnownAsset]:
        """The collection's assets of a content by id, read page by page."""

    def save(
        self,
        stamp: FileStamp,
        content: ContentHeader,
        facts: PhotoFacts,
        analysis: Analysis,
        *,
        signature: Signature | None = None,
    ) -> None:
        """Write an asset and its content, whose analysis is new, and its signature where it is at
        hand.

        This and the following raise UnstorableValue, after which nothing was written.
        """

    def attach(
        self, stamp: FileStamp, sha256: str, facts: PhotoFacts, *, moved_from: int | None = None
    ) -> None:
        """Write an asset of a content that is stored already.

        `moved_from` is the asset to carry to the new path, when the file was moved.
        """

    def fail(self, stamp: FileStamp, reason: str) -> None:
        """Write an asset that could not be used."""

    def remove(self, assets: Sequence[KnownAsset]) -> int:
        """Delete assets that still lie where they did; the number deleted."""

    def failures(self, roots: Sequence[bytes]) -> list[Failure]:
        """All failed assets at or below the roots, ordered by path."""


class ReindexingCatalog(Protocol):
    """The catalog as reindexing sees it: one pipeline that is not live, one builder.

    What waits is what the live pipeline has analysed and this one has not. Each method is one
    transaction.
    """

    def builder_lease(self, *, retry_failed: bool) -> AbstractContextManager[WriterLease]:
        """Hold the builder's lease for the block; raises LeaseHeld, which says who holds it.

        With `retry_failed`, what an earlier builder could not analyse waits again.
        """

    def count(self) -> int:
        """How many contents wait."""

    def waiting(self, after: int, limit: int) -> Sequence[WaitingContent]:
        """The next contents that wait, by id."""

    def save(self, content: WaitingContent, analysis: Analysis) -> bool:
        """Write what the pipeline says of a content; False when the content has gone meanwhile."""

    def fail(self, content: WaitingContent, reason: str) -> None:
        """Write that a content can't be analysed now: the pipeline may go live without it."""

    def failures(self) -> list[Failure]:
        """What could not be analysed and is not to be tried again, by content."""

    def go_live(self) -> bool:
        """Make the pipeline the live one, unless something waits; whether it is.

        Raises LeaseHeld while another process indexes, CannotWork when it would lose many
        photographs.
        """


class SearchCatalog(Protocol):
    """The catalog as search sees it; reads only."""

    def owners(self, embeddings: Int64Array) -> Owners:
        """What each embedding describes; negative ids describe nothing."""

    def hit_records(
        self, contents: Collection[int], regions: Collection[int], asset_filter: AssetFilter
    ) -> HitRecords:
        """The assets of contents that pass the filter, and those of the regions that belong to
        them.

        What was deleted is absent.
        """

    def newest(self, asset_filter: AssetFilter, offset: int, limit: int) -> list[Asset]:
        """A page of the analysed assets that pass the filter, by date, newest first.

        Raises NotFound for an unknown collection.
        """

    def asset_vectors(self, asset: int) -> StoredVectors:
        """Vectors of the whole image of an asset; raises NotFound."""

    def region_vectors(self, region: int) -> StoredVectors:
        """Vectors of a region; raises NotFound."""


class ChannelSearch(Protocol):
    """Nearest neighbours in the live pipeline's channels, as fresh as the catalog."""

    def search(
        self, asked: Sequence[ChannelQuery], asset_filter: AssetFilter
    ) -> list[tuple[Float32Array, Int64Array]]:
        """For each channel the best embeddings whose content has an asset that passes the filter.

        All as of one moment of the catalog, or later. Scores (n, m), descending, and embedding ids
        (n, m) with m ≤ k, filled up with -inf and -1 where fewer exist: that a row ends so tells
        that it holds all. Raises NotFound for an unknown collection.
        """


class KeywordSearch(Protocol):
    """The keyword index, always at the catalog's moment."""

    def find(
        self, asked: Sequence[Sequence[Words]], asset_filter: AssetFilter
    ) -> list[Occurrences]:
        """For each query, where its words are found.

        In captions of the live pipeline whose content has an asset that passes the filter, and in
        what assets that pass and are analysed are called. Of a word that very many texts hold,
        only the newest of these. An unknown collection holds nothing.
        """


class DerivedIndexes(Protocol):
    """The vector indexes, brought up to the catalog and kept on disk."""

    def catch_up(self) -> None:
        """Apply what the catalog has committed."""

    def snapshot(self) -> None:
        """Write what is not on disk yet."""
