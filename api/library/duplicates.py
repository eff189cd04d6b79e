"""The searches for duplicates and for the same objects, wired to a home."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import BinaryIO
from weakref import WeakKeyDictionary

from regard.api.library.home import Home
from regard.core.catalog import FileStamp
from regard.core.errors import CannotWork, RegardError
from regard.core.records import Channel, Kind, QueryKind, Target
from regard.indexer.report import Progress
from regard.indexer.signing import SigningReport, sign_contents
from regard.search.duplicates.finder import DuplicateFinder
from regard.search.same_objects.finder import Colours, ObjectFinder
from regard.storage.database.catalog import Catalog
from regard.storage.files.originals import open_original
from regard.storage.retrieval.duplicates import SqlDuplicates
from regard.storage.retrieval.regions import SqlRegions

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 10.0
_SAME_KIND = {
    Kind.IMAGE: (QueryKind.IMAGE, Target.IMAGE, "whole photographs"),
    Kind.REGION: (QueryKind.REGION, Target.REGION, "regions"),
}
# A finder keeps its last comparison, which takes seconds.
_OBJECT_FINDERS: WeakKeyDictionary[Home, ObjectFinder] = WeakKeyDictionary()


class HomeDuplicates:
    """Duplicates of a home under its live pipeline; for one thread at a time."""

    def __init__(self, home: Home) -> None:
        """Raises CannotWork when the profile cannot compare images."""
        self.store = SqlDuplicates(home.catalog, home.pipeline)
        self.finder = DuplicateFinder(
            self.store,
            home.search_catalog,
            home.indexes,
            compared_channel(home, Kind.IMAGE),
            functools.partial(object_finder, home),
        )

    def sign(
        self,
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> SigningReport:
        """Compute the signatures that are missing, as `keep_signing` does."""
        return sign_contents(
            self.store, open_catalogued, progress=progress, should_stop=should_stop
        )


def keep_signing(catalog: Catalog, stop: threading.Event) -> None:
    """Compute missing signatures until `stop`: those of older homes and of imported catalogs.

    Only files that the catalog knows are read, and only those whose bytes are still the indexed
    ones are used.
    """
    through = 0
    while not stop.is_set():
        try:
            through = _sign_after(catalog, through, stop.is_set)
        except RegardError as error:
            _log.warning("signatures of older photographs have to wait: %s", error)
        stop.wait(_PAUSE_SECONDS)


def _sign_after(catalog: Catalog, after: int, should_stop: Callable[[], bool]) -> int:
    """Sign the contents after an id; returns the last id that was tried."""
    live = catalog.live_pipeline()
    if live is None:
        return after
    report = sign_contents(
        SqlDuplicates(catalog, live), open_catalogued, after=after, should_stop=should_stop
    )
    if report.unusable:
        first = report.unusable[0]
        _log.warning(
            "copies of %d photographs can't be recognised, the first is %s: %s",
            len(report.unusable),
            first.uri,
            first.reason,
        )
    return report.through


def open_catalogued(stamp: FileStamp) -> BinaryIO:
    """Open the file of an asset. Its mtime is not compared, since callers compare its digest."""
    return open_original(stamp.path, size=stamp.size, mtime_ns=None, within=None)


def object_finder(home: Home) -> ObjectFinder:
    """The home's only finder; raises CannotWork when the profile cannot compare regions."""
    if home not in _OBJECT_FINDERS:
        _OBJECT_FINDERS[home] = new_object_finder(home)
    return _OBJECT_FINDERS[home]


def new_object_finder(home: Home, *, use_colours: bool = True) -> ObjectFinder:
    """A finder over the live pipeline; raises CannotWork when no regions are compared."""
    return ObjectFinder(
        SqlRegions(home.catalog, home.pipeline),
        home.search_catalog,
        home.indexes,
        compared_channel(home, Kind.REGION),
        _colours(home) if use_colours else None,
    )


def compared_channel(home: Home, kind: Kind) -> Channel:
    """The channel that best compares whole images, or regions, with each other.

    Raises CannotWork when there is none.
    """
    query, target, compared = _SAME_KIND[kind]
    routed = home.profile.routes.get((query, target), ())
    channels = [weighted for weighted in routed if weighted.channel.kind is kind]
    if not channels:
        raise CannotWork(
            f"the profile {home.profile.name} does not compare {compared}",
            remedy="use a home whose profile does",
        )
    return max(channels, key=lambda weighted: weighted.weight).channel


def _colours(home: Home) -> Colours | None:
    """How to read colours from the vectors of `lite`, whose joint space has a block for them."""
    from regard.models.lite.encoder import JOINT, colours_of_regions

    channel = Channel(JOINT.name, Kind.REGION)
    return Colours(channel, colours_of_regions) if channel in home.pipeline.channels else None
