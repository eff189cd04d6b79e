"""The search for duplicates, wired to a library; the command line and the service share it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import BinaryIO

from regard.api.same_objects import compared_channel, object_finder
from regard.api.wiring import Library
from regard.core.catalog import FileStamp
from regard.core.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.core.records import Kind
from regard.indexer.report import Progress
from regard.indexer.signing import SigningReport, sign_contents
from regard.search.duplicates.finder import DuplicateFinder
from regard.storage.originals import open_original
from regard.storage.signatures import SqlDuplicates


class LibraryDuplicates:
    """Duplicates of one library under its live pipeline; for one thread at a time."""

    def __init__(self, library: Library) -> None:
        """Raises CannotWork when the profile compares no images."""
        self.store = SqlDuplicates(library.catalog, library.pipeline)
        self.finder = DuplicateFinder(
            self.store,
            library.search_catalog,
            library.indexes,
            compared_channel(library, Kind.IMAGE),
            functools.partial(object_finder, library),
        )

    def sign(
        self,
        *,
        after: int = 0,
        within: Sequence[bytes] | None = None,
        limits: DecodeLimits = DEFAULT_LIMITS,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> SigningReport:
        """Give contents of older homes their signatures; files outside of `within` are not opened."""
        # No time is asked for: the file's digest is looked at.
        open_file = functools.partial(_open, within=within)
        return sign_contents(
            self.store,
            open_file,
            after=after,
            limits=limits,
            progress=progress,
            should_stop=should_stop,
        )


def _open(stamp: FileStamp, *, within: Sequence[bytes] | None) -> BinaryIO:
    return open_original(stamp.path, size=stamp.size, mtime_ns=None, within=within)
