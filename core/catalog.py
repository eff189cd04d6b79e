"""Records that the catalog reads and writes, and the Protocols of its users."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

import numpy as np

from regard.core.assets import Asset, StoredRegion
from regard.core.facts import PhotoFacts
from regard.core.filters import AssetFilter
from regard.core.records import Analysis, Channel, Float32Array, Int64Array, Signature
from regard.core.words import is_word

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells that a file is unchanged, without reading it.

    `path` is the absolute path as the file system's bytes, symlinks unresolved, or an object's URI;
    `sidecar` stands for the metadata file beside it, None when there is none. Numbers are clamped
    to 64 bits, which is what databases store: some file systems keep times before 1677 and after
    2262. An object of a bucket has an `etag`, which tells more than its time: a copy of the same
    bytes has a later time.
    """

    path: bytes
    size: int
    mtime_ns: int
    sidecar: str | None = None
    etag: str | None = None

    def __post_init__(self) -> None:
        if not (self.size <= _MAX_INT64 and _MIN_INT64 <= self.mtime_ns <= _MAX_INT64):
            object.__setattr__(self, "size", clamp_int64(self.size))
            object.__setattr__(self, "mtime_ns", clamp_int64(self.mtime_ns))

    def is_unchanged_since(self, earlier: FileStamp) -> bool:
        """Whether the file and its sidecar are as they were."""
        if (self.size, self.sidecar) != (earlier.size, earlier.sidecar):
            return False
        if self.etag is not None and earlier.etag is not None:
            return self.etag == earlier.etag
        return self.mtime_ns == earlier.mtime_ns


def clamp_int64(number: int) -> int:
    """The nearest number that a signed 64-bit integer can hold."""
    return min(max(number, _MIN_INT64), _MAX_INT64)


@dataclass(frozen=True, slots=True)
class KnownAsset:
    """An asset as an earlier run left it; `failure_reason` says why that run could not use it.

    `upload_name` is the name that an upload was sent with; it is stored under another one.
    """

    id: int
    stamp: FileStamp
    failure_reason: str | None
    upload_name: str | None = None


@dataclass(frozen=True, slots=True)
class ContentHeader:
    """The identity and form of exact bytes; `width` and `height` in pixels, oriented.

    A video has a `duration_ms`, which its analysis may correct.
    """

    sha256: str
    format: str
    width: int
    height: int
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that is not a usable photograph, and why."""

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What a person said about files to index; later ones take precedence.

    What `pattern` matches below the folder `path` is left out, or is not; None stands for the path
    itself, which was removed or named. `id` is 0 before it is stored.
    """

    path: bytes
    pattern: bytes | None
    is_left_out: bool
    id: int = 0


@dataclass(frozen=True, slots=True)
class WaitingContent:
    """A content that a pipeline must still analyse; `paths` are its possible files, best first."""

    id: int
    sha256: str
    width: int
    height: int
    paths: tuple[bytes, ...]


class Neighbours(NamedTuple):
    """The nearest embeddings of n queries, best first, padded with -inf, -1 and 0.

    `scores` (n, k) float32; `ids` (n, k), and the ids of their contents and regions (0: none),
    int64.
    """

    scores: Float32Array
    ids: Int64Array
    contents: Int64Array
    regions: Int64Array

    @classmethod
    def empty(cls, queries: int, k: int) -> Self:
        """Padding alone."""
        return cls(
            np.full((queries, k), -np.inf, np.float32),
            np.full((queries, k), -1, np.int64),
            np.zeros((queries, k), np.int64),
            np.zeros((queries, k), np.int64),
        )


@dataclass(frozen=True, slots=True)
class HitRecords:
    """One consistent read for an answer: assets by content, in id order, and regions by id."""

    assets: Mapping[int, Sequence[Asset]]
    regions: Mapping[int, StoredRegion]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelQuery:
    """A query of one channel: the `k` best rows for each of `vectors` (n, d).

    An index may miss a few of them unless it is `exact`.
    """

    channel: Channel
    vectors: Float32Array
    k: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Vectors kept for an asset's content or a region, by channel."""

    content: int
    region: int | None
    vectors: Mapping[Channel, Float32Array]


class WordField(StrEnum):
    """Where a word of a photograph stands: in what an asset is called, in a caption, or in the
    picture, as it was read there or as a similar word."""

    TITLE = "title"
    TAG = "tag"
    FILE_NAME = "file_name"
    FOLDER = "folder"
    DESCRIPTION = "description"
    CAPTION = "caption"
    REGION_CAPTION = "region_caption"
    TEXT = "text"
    SIMILAR_TEXT = "similar_text"


WORD_FIELDS = tuple(WordField)
# What people call a photograph.
NAME_FIELDS = frozenset({WordField.TITLE, WordField.TAG, WordField.FILE_NAME, WordField.FOLDER})


@dataclass(frozen=True, slots=True)
class Words:
    """What to look up: one word, or a phrase of several that stand side by side as they are.

    `words` are as `regard.core.words` splits them, two or more for a phrase. A single word is
    found in its other forms too (bus, buses) unless it is `exact`, as phrases are. `whole` words
    are found where they are all words of a title, a tag, a file name or a folder's name; with a
    `suffix`, such as "jpg", only in the names of files that end with it.
    """

    words: tuple[str, ...]
    exact: bool = False
    whole: bool = False
    suffix: str = ""

    def __post_init__(self) -> None:
        if self.whole and not self.exact:
            raise ValueError("a whole name is exact")
        if self.suffix and not self.whole:
            raise ValueError("only a whole name has a suffix")
        if not self.words or (len(self.words) > 1 and not self.exact):
            raise ValueError("one word, or several that are exact")
        if not all(map(is_word, self.words)):
            raise ValueError("words are letters and digits")


@dataclass(frozen=True, slots=True, eq=False)
class Occurrences:
    """Where several `Words` were found: arrays (m,), one row for each text that holds one of them.

    `places` are positions in the query, `fields` positions in `WORD_FIELDS`, `regions` the regions
    that captions are about or that lines of text are, 0 for none. `total` estimates the number of
    contents searched, `more` the number of texts with a word, by place, where these are too many to
    list.
    """

    places: Int64Array
    fields: Int64Array
    contents: Int64Array
    regions: Int64Array
    total: int
    more: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnalysedFile:
    """A file with its newly analysed content and, if known, the content's signature."""

    stamp: FileStamp
    content: ContentHeader
    facts: PhotoFacts
    analysis: Analysis
    signature: Signature | None = None


class WriterLease(Protocol):
    """The right to write: one holder at a time, with a heartbeat."""

    def check(self) -> None:
        """Raise LeaseHeld when another process has taken over."""


class IndexingCatalog(Protocol):
    """The catalog as the indexer sees it: one collection, one live pipeline, one writer.

    Each method is one transaction, which also deletes contents that no asset needs any more.
    """

    def writer_lease(self) -> AbstractContextManager[WriterLease]:
        """Hold the lease for the block; raises LeaseHeld, which says who holds it."""

    def known_assets(self, root: bytes) -> Iterator[KnownAsset]:
        """The assets at or below `root`, ordered by path bytes; read page by page.

        Files of the managed store are of no root but themselves.
        """

    def is_analysed(self, sha256: str) -> bool:
        """Whether an analysis of the content is stored."""

    def has_asset(self, path: bytes, sha256: str) -> bool:
        """Whether the collection has an asset of the content at this path."""

    def assets_of_content(self, sha256: str) -> Iterator[KnownAsset]:
        """The collection's assets of a content by id, read page by page."""

    def save(self, files: Sequence[AnalysedFile]) -> None:
        """Write assets with their newly analysed contents.

        Like the next two methods, it raises UnstorableValue and then writes nothing.
        """

    def attach(
        self, stamp: FileStamp, sha256: str, facts: PhotoFacts, *, moved_from: int | None = None
    ) -> None:
        """Write an asset of a stored content; `moved_from` is the asset whose file moved here."""

    def fail(self, stamp: FileStamp, reason: str) -> None:
        """Write an asset that could not be used."""

    def remove(self, assets: Sequence[KnownAsset]) -> int:
        """Delete assets whose path is unchanged; returns the number deleted."""

    def failures(self, roots: Sequence[bytes]) -> list[Failure]:
        """All failed assets at or below the roots, ordered by path."""

    def update_stacks(self) -> None:
        """Find the stacks in the folders whose files changed, in a transaction for each."""

    def exclusions(self) -> list[Exclusion]:
        """What is remembered about files to index, oldest first."""

    def change_exclusions(self, forget: Collection[int], add: Sequence[Exclusion]) -> None:
        """Forget exclusions by their ids, and remember others."""


class ReindexingCatalog(Protocol):
    """The catalog as reindexing sees it: one pipeline that is not live, one builder.

    A content waits while only the live pipeline has analysed it. Each method is one transaction.
    """

    def builder_lease(self, *, retry_failed: bool) -> AbstractContextManager[WriterLease]:
        """Hold the builder's lease for the block; raises LeaseHeld, which says who holds it.

        With `retry_failed`, what an earlier builder could not analyse waits again.
        """

    def count(self) -> int:
        """How many contents wait."""

    def waiting(self, after: int, limit: int) -> Sequence[WaitingContent]:
        """The next contents that wait, by id."""

    def save(
        self, contents: Sequence[WaitingContent], analyses: Sequence[Analysis]
    ) -> frozenset[int]:
        """Write the analyses of contents; return the ids of those not deleted meanwhile.

        Raises UnstorableValue and then writes nothing.
        """

    def fail(self, content: WaitingContent, reason: str) -> None:
        """Write that a content can't be analysed now: the pipeline may go live without it."""

    def failures(self) -> list[Failure]:
        """Contents that failed and will not be tried again, by id."""

    def go_live(self) -> bool:
        """Make the pipeline live unless a content waits; returns whether it is live.

        Raises LeaseHeld while another process indexes, CannotWork if many photographs would go.
        """


class SearchCatalog(Protocol):
    """The catalog as search sees it; reads only."""

    def hit_records(
        self, contents: Collection[int], regions: Collection[int], asset_filter: AssetFilter
    ) -> HitRecords:
        """The contents' assets that pass the filter, and their regions; deleted ones are absent."""

    def newest(
        self,
        asset_filter: AssetFilter,
        offset: int,
        limit: int,
        *,
        oldest_first: bool = False,
        folded: bool = False,
    ) -> list[Asset]:
        """A page of the analysed assets that pass the filter, newest first.

        If `folded`, without those for which another one of their stack stands that passes. Raises
        NotFound for an unknown collection.
        """

    def asset_vectors(self, asset: int) -> StoredVectors:
        """Vectors of the whole image of an asset; raises NotFound."""

    def region_vectors(self, region: int) -> StoredVectors:
        """Vectors of a region; raises NotFound."""


class ChannelSearch(Protocol):
    """Nearest neighbours in the live pipeline's channels, as fresh as the catalog."""

    def search(self, asked: Sequence[ChannelQuery], asset_filter: AssetFilter) -> list[Neighbours]:
        """For each channel the best embeddings whose content has an asset that passes the filter.

        All come from one state of the catalog, no older than the call. At most `k` columns; a row
        that ends with padding holds every match. Raises NotFound for an unknown collection.
        """


class KeywordSearch(Protocol):
    """The keyword index, always at the catalog's moment."""

    def find(
        self, asked: Sequence[Sequence[Words]], asset_filter: AssetFilter
    ) -> list[Occurrences]:
        """For each query, where its words are found.

        Searches the live pipeline's captions, the names of analysed assets that pass the filter,
        and the text that was read in them. A very common word yields only its newest texts, an
        unknown collection nothing.
        """


class DerivedIndexes(Protocol):
    """The vector indexes that follow the catalog.

    While their engine is away, both methods return: later calls do what these could not.
    """

    def catch_up(self) -> None:
        """Apply what the catalog has committed."""

    def snapshot(self) -> None:
        """Make durable what is not yet, and searches fast."""
