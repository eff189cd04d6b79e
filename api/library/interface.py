"""The Library interface: one home or server, opened, indexed and searched.

`LocalLibrary` works on a home, `RemoteLibrary` on a server. Both take the same arguments, give the
same results (`results.py`) and raise the same errors. What a server cannot do raises UsageError
there. A library is for one thread at a time; open one for each thread.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from regard.api.library.arguments import checked
from regard.api.library.queries import DEFAULT_COLLECTION, WrittenSearch, scope_of, write_search
from regard.api.library.results import (
    Album,
    Answer,
    Asset,
    Details,
    Duplicates,
    Hit,
    ModelChange,
    Pipelines,
    Pruned,
    Rebuilt,
    Region,
    Status,
    Suggestion,
)
from regard.core.duplicates import DuplicateKind
from regard.core.errors import UsageError
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.search.answers import Scope, parse_identifier

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from regard.indexer.reading import ReadReport
    from regard.indexer.sidecar_writing import SidecarReport
    from regard.storage.export.exporting import ExportReport
    from regard.storage.export.imported_rows import ImportReport
    from regard.storage.retrieval.recall import RecallReport
    from regard.storage.retrieval.verification import Finding

PathLike = str | bytes | os.PathLike[str]
AssetLike = str | Asset | Hit

DEFAULT_KINDS = ("exact", "edited", "burst")


class Library(ABC):
    """A library of photographs: index, search, and maintain it.

    Long operations take a `progress`; one that was stopped returns with `interrupted` set. Errors
    are `RegardError`s: UsageError for wrong arguments, another CannotWork for what cannot work
    now.
    """

    def __init_subclass__(cls) -> None:
        """Check the arguments of every operation by what is annotated here."""
        for name, declared in vars(Library).items():
            if name in vars(cls) and not name.startswith("_"):
                setattr(cls, name, checked(vars(cls)[name], declared))

    @abstractmethod
    def index(
        self,
        *paths: PathLike,
        collection: str = DEFAULT_COLLECTION,
        retry_failed: bool = False,
        reread: bool = False,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        clear_exclusions: bool = False,
        read: bool = True,
        progress: Progress = SILENT,
    ) -> IndexReport:
        """Index the photographs at or below the paths; unchanged ones cost no time.

        A path may also be `s3://bucket/prefix`, except on a server. Files that cannot be used do
        not stop the run; the report lists them. Those that failed before are tried again when they
        have changed, or with `retry_failed`. With `reread`, metadata of unchanged files are read
        again, as after an upgrade of regard: nothing is analysed, and what people edited stays.

        `exclude` are patterns in gitignore's syntax, relative to each path, of what to leave out,
        besides what `.regardignore` files and `remove` leave out and what programs make for
        themselves; `include` are patterns of what not to leave out. A home remembers them for
        later calls; `clear_exclusions` first forgets what it remembers at or below the paths.

        Then the text in photographs that were not read yet is read as `read` does, if the profile
        has a reader, and unless `read` is False. A server reads on its own.

        Raises UsageError for a malformed pattern, RootUnavailable for a path that is missing or
        suddenly empty, StoreUnavailable for a bucket that does not answer, LeaseHeld while another
        process indexes.
        """

    @abstractmethod
    def watch(
        self,
        *paths: PathLike,
        collection: str = DEFAULT_COLLECTION,
        poll: bool = False,
        read: bool = True,
        progress: Progress = SILENT,
    ) -> Iterator[IndexReport]:
        """Index what changes below the folders, until `progress` says to stop; a report each run.

        What differs already is indexed first. A file counts once it has been quiet for a second.
        Where the file system does not tell of changes, as over a network, the folders are looked
        through again and again; `poll` says so of those that regard does not know. Between the
        runs, other processes may write. A folder that goes away loses nothing, and is watched
        again when it is back. A path may also be `s3://bucket/prefix`.

        Raises RootUnavailable for a path that is missing now, CannotWork for a file. A server
        watches its own folders: `regard serve --import DIR --watch`.
        """

    @abstractmethod
    def read(self, *, progress: Progress = SILENT) -> ReadReport:
        """Read the text in all photographs that the profile's reader has not read yet.

        Nothing is analysed again. Stopped or killed, the same call continues. Raises CannotWork if
        the profile has no reader.
        """

    @abstractmethod
    def remove(self, *paths: PathLike, collection: str = DEFAULT_COLLECTION) -> int:
        """Forget what is indexed at or below the paths; returns the number of photographs.

        No file is touched. `index` leaves the paths out from then on, until it is called with
        them or includes them.
        """

    @abstractmethod
    def write_metadata(
        self,
        query: str | None = None,
        *,
        collection: str | None = None,
        dry_run: bool = False,
        progress: Progress = SILENT,
    ) -> SidecarReport:
        """Write what people said of photographs into XMP sidecars beside them.

        These are tags, titles and ratings that the files do not have. A sidecar that is written
        also tells the position, and keeps whatever else it has. The photographs are not touched, and a
        later `index` analyses nothing because of it. `query` are filters in the query language,
        such as `tag:lake`. With `dry_run`, nothing is written. Uploads, and photographs in
        buckets, get no sidecar.

        A photograph whose sidecar can't be written is a failure in the report. Raises UsageError
        for a query with words, LeaseHeld while another process indexes.
        """

    @checked
    def search(
        self,
        text: str | None = None,
        *,
        image: PathLike | None = None,
        box: Sequence[int] | None = None,
        like: str | Hit | Asset | Region | None = None,
        target: str = "image",
        limit: int = 10,
        collection: str | None = None,
        min_relevance: float | None = None,
        exact: bool = False,
        refine: bool = False,
        sort: str = "relevance",
        fold_stacks: bool | None = None,
    ) -> Answer:
        """Find photographs, or with target "region" the things in them.

        `text` is in the query language (docs/query-language.md). `image` is a picture file, `box`
        a part of it as x, y, width, height in pixels. `like` is an id, or something that was
        found; a hit stands for its region when the target is "region". Several of these are
        searched for together. `min_relevance`, from 0 to 1, decides `Answer.matched` in place of
        the profile's own threshold. `exact` compares the query with every photograph, so that none
        is missed; it is slower in large libraries. `refine` looks in the photographs of the first
        20 hits for what the text names (`Hit.refined`); that takes a moment for each. `sort` is
        "relevance", or "newest" or "oldest" for the likely ones of the first hits by date. With
        `fold_stacks`, only the best of each stack (docs/stacks.md), and of the moments of each
        video, is a hit; None means that for all but lists, which are queries of filters alone.

        Raises UnanswerableQuery, MalformedQuery, DecodeError for a picture that cannot be used.
        """
        scope = scope_of(target, limit, collection, min_relevance, exact, refine, sort, fold_stacks)
        return self._search(write_search(text, image, box, like, scope.target), scope)

    @checked
    def search_texts(
        self,
        texts: Iterable[str],
        *,
        target: str = "image",
        limit: int = 10,
        collection: str | None = None,
        min_relevance: float | None = None,
        exact: bool = False,
        refine: bool = False,
        sort: str = "relevance",
        fold_stacks: bool | None = None,
    ) -> list[Answer | UsageError]:
        """Answer many plain texts, which are not parsed as queries; order in is order out.

        A text that cannot be answered gives its error in the place of an answer. The other
        arguments are those of `search`.
        """
        scope = scope_of(target, limit, collection, min_relevance, exact, refine, sort, fold_stacks)
        return self._search_texts(list(texts), scope)

    @abstractmethod
    def duplicates(
        self,
        kinds: str | Iterable[str] = DEFAULT_KINDS,
        *,
        collection: str | None = None,
        progress: Progress = SILENT,
    ) -> Duplicates:
        """Find copies, edited copies and bursts, and with the kind "object" the same things."""

    @abstractmethod
    def merge_duplicates(self, keep: AssetLike, discard: str | Iterable[AssetLike]) -> int:
        """Move photographs to the trash, and give one their tags, albums and best rating.

        All or none; returns how many were moved. No file is touched. Raises NotFound, Conflict.
        """

    @abstractmethod
    def mark_distinct(self, assets: str | Iterable[AssetLike], *, distinct: bool = True) -> int:
        """Remember that no two of these are duplicates, or forget it; returns the pairs.

        `duplicates` then lists them in no common group. Raises NotFound, UsageError.
        """

    @abstractmethod
    def stack(self, assets: str | Iterable[AssetLike]) -> int:
        """Put photographs of one folder, with all that are in their stacks, into one stack.

        Uploads that were taken on one day count as files of one folder. Later runs of `index`
        keep the stack. Returns how many files it has. Raises NotFound, UsageError for fewer than
        two, Conflict for those of different folders.
        """

    @abstractmethod
    def unstack(self, assets: str | Iterable[AssetLike]) -> int:
        """Take photographs out of their stacks, which keep the others; returns how many left.

        Later runs of `index` put them into none. Raises NotFound.
        """

    @abstractmethod
    def restack(self, assets: str | Iterable[AssetLike]) -> int:
        """Leave photographs and their stacks to the rules; returns how many people had put somewhere.

        Raises NotFound.
        """

    @abstractmethod
    def details(self, asset: AssetLike) -> Details:
        """A photograph with its facts, title and tags; raises NotFound."""

    @abstractmethod
    def rate(self, assets: AssetLike | Iterable[AssetLike], rating: int) -> None:
        """Give photographs 1 to 5 stars, or 0 for none, all of them or none of them.

        This outranks the ratings in their files, until `write_metadata` has written it there.
        Raises NotFound, UsageError.
        """

    @abstractmethod
    def regions(self, asset: AssetLike) -> list[Region]:
        """The regions of a photograph, with the lines of text in it; raises NotFound."""

    @abstractmethod
    def picture(self, asset: AssetLike, longest: int = 512) -> Picture:
        """A photograph as a Pillow image, upright, its longer side at most `longest` pixels.

        Raises NotFound, DecodeError when the file can no longer be read.
        """

    @abstractmethod
    def motion_video(self, asset: AssetLike) -> bytes:
        """The MP4 video in a motion photo (docs/stacks.md).

        Raises NotFound where there is none, DecodeError when the file can no longer be read.
        """

    @abstractmethod
    def suggest(self, text: str, limit: int = 10) -> list[Suggestion]:
        """Tags, albums, places, cameras and lenses that complete the end of a query.

        `text` is the query as typed so far; the best suggestions come first, at most `limit` of
        them, from 1 to 50. Raises UsageError.
        """

    @abstractmethod
    def albums(self) -> list[Album]:
        """All albums, by name."""

    @abstractmethod
    def create_album(self, name: str, query: str | None = None) -> Album:
        """Create an empty album or, with a query in the query language, a saved search.

        A search names it as `album:NAME`. Raises NameTaken, MalformedQuery.
        """

    @abstractmethod
    def change_album(
        self,
        name: str,
        *,
        add: str | Iterable[AssetLike] = (),
        remove: str | Iterable[AssetLike] = (),
    ) -> int:
        """Add photographs to an album and take others out; returns how many joined or left.

        All of this happens or none of it; one that is in both is taken out. Raises NotFound,
        Conflict for a saved search.
        """

    @abstractmethod
    def rename_album(self, name: str, new_name: str) -> Album:
        """Rename an album; raises NotFound, NameTaken."""

    @abstractmethod
    def delete_album(self, name: str) -> None:
        """Delete an album, and none of its photographs; raises NotFound."""

    @abstractmethod
    def status(self) -> Status:
        """Collections, counts and models."""

    @abstractmethod
    def verify(self) -> list[Finding]:
        """Check the catalog and all indexes; what does not hold, nothing when all is well."""

    @abstractmethod
    def measure_recall(self) -> RecallReport:
        """Measure how many of the nearest photographs, regions and captions searches find.

        Compares searches with exact ones, with samples of the library's own vectors as queries.
        """

    @abstractmethod
    def rebuild(self) -> Rebuilt:
        """Rebuild vector indexes, the keyword index and counters from the catalog alone."""

    @abstractmethod
    def pipelines(self) -> Pipelines:
        """The models that are kept, and how many photographs each has analysed."""

    @abstractmethod
    def reindex(self, profile: str | None = None, *, progress: Progress = SILENT) -> ModelChange:
        """Analyse all photographs with another profile's models; they go live when all is
        analysed.

        None is the library's own profile as it is installed now. Searches use the previous models
        until then.
        """

    @abstractmethod
    def rollback(self, *, at_once: bool = False, progress: Progress = SILENT) -> ModelChange:
        """Restore the previous models, after analysing with them what was indexed since.

        `at_once` restores them without that.
        """

    @abstractmethod
    def prune(
        self,
        pipelines: Sequence[str] = (),
        *,
        unfinished: bool = False,
        progress: Progress = SILENT,
    ) -> Pruned:
        """Delete what previous models made.

        `pipelines` are beginnings of fingerprints; none given means all pipelines that are kept,
        and with `unfinished` those that never went live too.
        """

    @abstractmethod
    def export(
        self, folder: str | os.PathLike[str], collections: Sequence[str] = ()
    ) -> ExportReport:
        """Write the catalog as Parquet, .npy and COCO files into a new or empty folder."""

    @abstractmethod
    def import_(
        self, folder: str | os.PathLike[str], *, progress: Progress = SILENT
    ) -> ImportReport:
        """Take in what `export` wrote; no model runs, and what is here already stays as it is."""

    @abstractmethod
    def close(self) -> None:
        """Release the database or the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _search(self, search: WrittenSearch, scope: Scope) -> Answer: ...

    @abstractmethod
    def _search_texts(self, texts: Sequence[str], scope: Scope) -> list[Answer | UsageError]: ...


def asset_number(asset: AssetLike) -> int:
    """The number in the id of a photograph, given in any form; raises UsageError for other ids."""
    if isinstance(asset, Hit):
        asset = asset.asset
    reference = parse_identifier(asset if isinstance(asset, str) else asset.id)
    if reference.is_region:
        raise UsageError(f"r{reference.id} is a region", remedy="give the id of its photograph")
    return reference.id


def asset_numbers(assets: AssetLike | Iterable[AssetLike]) -> list[int]:
    """The numbers of several photographs, or of a single one; raises UsageError."""
    several = [assets] if isinstance(assets, str | Asset | Hit) else assets
    return [asset_number(one) for one in several]


def asset_id(asset: AssetLike) -> str:
    """The id of a photograph, given in any form; raises UsageError for other ids."""
    return f"a{asset_number(asset)}"


def asset_ids(assets: AssetLike | Iterable[AssetLike]) -> list[str]:
    """The ids of several photographs, or of a single one; raises UsageError."""
    return [f"a{number}" for number in asset_numbers(assets)]


def duplicate_kinds(kinds: str | Iterable[str]) -> list[DuplicateKind]:
    """The kinds of these names, or the one of a single name, each once; raises UsageError."""
    known = {kind.value: kind for kind in DuplicateKind}
    named = dict.fromkeys([kinds] if isinstance(kinds, str) else kinds)
    for kind in named:
        if kind not in known:
            raise UsageError(
                f"{kind!r} is not a kind of duplicate", remedy=f"use {', '.join(known)}"
            )
    return [known[kind] for kind in named]


def expanded(paths: Sequence[PathLike]) -> list[bytes]:
    """Paths as bytes, with `~` replaced in those that are text."""
    return [
        path if isinstance(path, bytes) else os.fsencode(os.path.expanduser(path)) for path in paths
    ]
