"""The search for duplicates, wired to a library; the command line and the service share it."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import BinaryIO

from regard.api.library.home import Home
from regard.api.library.same_objects import compared_channel, object_finder
from regard.core.catalog import FileStamp
from regard.core.errors import RegardError
from regard.core.records import Kind
from regard.indexer.report import Progress
from regard.indexer.signing import SigningReport, sign_contents
from regard.search.duplicates.finder import DuplicateFinder
from regard.storage.database.catalog import Catalog
from regard.storage.files.originals import open_original
from regard.storage.retrieval.duplicates import SqlDuplicates

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0


class HomeDuplicates:
    """Duplicates of one library under its live pipeline; for one thread at a time."""

    def __init__(self, library: Home) -> None:
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
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> SigningReport:
        """Give contents that have none their signatures; as `keep_signing` does."""
        return sign_contents(
            self.store, open_catalogued, progress=progress, should_stop=should_stop
        )


def keep_signing(catalog: Catalog, stop: threading.Event) -> None:
    """A server's upkeep, until `stop`: contents of older homes and imported catalogs get their
    signatures.

    Nobody asks for it, and nobody names what is read: it is what the catalog knows already,
    wherever it lies, and used only where its bytes are those that were indexed.
    """
    through = 0
    while not stop.is_set():
        try:
            through = _sign_after(catalog, through, stop.is_set)
        except RegardError as error:
            _log.warning("signatures of older photographs have to wait: %s", error)
        stop.wait(_LOOK_SECONDS)


def _sign_after(catalog: Catalog, after: int, should_stop: Callable[[], bool]) -> int:
    """The last content that was looked at."""
    live = catalog.live_pipeline()
    if live is None:
        return after
    report = sign_contents(
        SqlDuplicates(catalog, live), open_catalogued, after=after, should_stop=should_stop
    )
    if report.unusable:
        first = report.unusable[0]
        _log.warning(
            "copies of %d photographs can't be told, the first is %s: %s",
            len(report.unusable),
            first.uri,
            first.reason,
        )
    return report.through


def open_catalogued(stamp: FileStamp) -> BinaryIO:
    """The file of an asset; no time is asked for, since who reads it looks at its digest."""
    return open_original(stamp.path, size=stamp.size, mtime_ns=None, within=None)
