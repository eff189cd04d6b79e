"""The searches for duplicates and for the same objects, wired to a home."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Collection, Mapping
from typing import BinaryIO

from regard.api.library.home import Home
from regard.core.catalog import FileStamp
from regard.core.duplicates import DuplicateKind
from regard.core.errors import CannotWork, RegardError
from regard.core.jobs import JobKind
from regard.core.records import Channel, Kind, QueryKind, Target
from regard.indexer.report import SILENT, IndexReport, Progress, Stoppable
from regard.indexer.signing import SigningReport, sign_contents
from regard.search.same_objects.finder import ThingComparer
from regard.search.same_objects.things import Colours
from regard.storage.database.catalog import Catalog
from regard.storage.files.originals import open_original
from regard.storage.retrieval.duplicates import SqlDuplicates
from regard.storage.retrieval.objects import SqlObjects

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 10.0
_SAME_KIND = {
    Kind.IMAGE: (QueryKind.IMAGE, Target.IMAGE, "whole photographs"),
    Kind.REGION: (QueryKind.REGION, Target.REGION, "regions"),
}


class HomeDuplicates:
    """Duplicates of a home under its live pipeline; for one thread at a time."""

    def __init__(self, home: Home) -> None:
        """Raises CannotWork when the profile cannot compare images."""
        # Imported here: scipy's filters would take a sixth of the time in which a server starts.
        from regard.search.duplicates.finder import DuplicateFinder

        self.store = SqlDuplicates(home.catalog, home.pipeline)
        self.finder = DuplicateFinder(
            self.store,
            home.indexes,
            compared_channel(home, Kind.IMAGE),
            SqlObjects(home.catalog, home.pipeline),
            functools.partial(thing_comparer, home),
        )

    def sign(self, *, progress: Progress = SILENT) -> SigningReport:
        """Compute the signatures that are missing, as `keep_signing` does."""
        return sign_contents(self.store, open_catalogued, progress=progress)


# What a job of each kind compares.
COMPARED_KINDS: Mapping[JobKind, Collection[DuplicateKind]] = {
    JobKind.COPIES: (),
    JobKind.OBJECTS: (DuplicateKind.OBJECT,),
}


def compare_photographs(home: Home, kind: JobKind, progress: Progress) -> IndexReport:
    """Compare new photographs as a job of this kind does, until none is left or it has to stop."""
    started = time.monotonic()
    finder, kinds = HomeDuplicates(home).finder, COMPARED_KINDS[kind]
    progress.expect(finder.waiting(kinds))
    finished = finder.compare(kinds, should_stop=progress.should_stop, advance=progress.advance)
    return IndexReport(interrupted=not finished, seconds=time.monotonic() - started)


def keep_signing(catalog: Catalog, stop: threading.Event) -> None:
    """Compute missing signatures until `stop`: those of older homes and of imported catalogs.

    Only files that the catalog knows are read, and only those whose bytes are still the indexed
    ones are used.
    """
    through = 0
    while not stop.is_set():
        try:
            through = _sign_after(catalog, through, Stoppable(stop.is_set))
        except RegardError as error:
            _log.warning("signatures of older photographs have to wait: %s", error)
        stop.wait(_PAUSE_SECONDS)


def _sign_after(catalog: Catalog, after: int, progress: Progress) -> int:
    """Sign the contents after an id; returns the last id that was tried."""
    live = catalog.live_pipeline()
    if live is None:
        return after
    report = sign_contents(
        SqlDuplicates(catalog, live), open_catalogued, after=after, progress=progress
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


def thing_comparer(home: Home, *, use_colours: bool = True) -> ThingComparer:
    """A comparer over the live pipeline; raises CannotWork when no regions are compared."""
    return ThingComparer(
        SqlObjects(home.catalog, home.pipeline),
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
