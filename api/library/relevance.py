"""Relevance for profiles without a calibration: one is made on the library, and kept in the catalog.

It is made at the end of indexing, once the library has enough photographs, and again each time
their number has doubled or halved. Searches use the former one until then.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regard.core.errors import RegardError
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.relevance import Calibrations, RelevanceSource
from regard.indexer.report import SILENT, Progress
from regard.models.profiles.calibration import parse_calibrations, to_json
from regard.search.library_relevance import (
    LEAST_PHOTOGRAPHS,
    MOST_CAPTIONS,
    calibrate_library,
)
from regard.storage.database.catalog import Catalog
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.retrieval.calibrations import SqlCalibrations

if TYPE_CHECKING:
    from regard.api.library.home import Home

_log = logging.getLogger(__name__)

_CURRENT_SECONDS = 1.0


class StoredRelevance:
    """The calibrations of one pipeline as the catalog has them, at most a second old.

    Thread-safe.
    """

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._store = SqlCalibrations(catalog, pipeline)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._document: str | None = None
        self._calibrations: Calibrations = {}

    def __call__(self) -> Calibrations:
        """The calibrations by form and target; none if none are stored."""
        with self._lock:
            if time.monotonic() - self._read_at >= _CURRENT_SECONDS:
                stored = self._store.read()
                document = None if stored is None else stored.document
                if document != self._document:
                    self._calibrations = _parse(document)
                    self._document = document
                self._read_at = time.monotonic()
            return self._calibrations


def _parse(document: str | None) -> Calibrations:
    """The calibrations of a stored document, which is empty if the models tell no texts apart."""
    return parse_calibrations(document) if document else {}


@dataclass(frozen=True, slots=True)
class RelevanceStatus:
    """What relevance is calibrated on now; without a `source`, the `reason` why it is unknown.

    `photographs` is the number that a library's calibration was made on.
    """

    source: RelevanceSource | None
    photographs: int | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return {
            "source": None if self.source is None else self.source.value,
            "photographs": self.photographs,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        if self.source is None:
            return f"  relevance is unknown: {self.reason}"
        if self.source is RelevanceSource.PROFILE:
            return "  relevance is calibrated with the profile"
        return f"  relevance is calibrated on {self.photographs} photographs of this library"


def relevance_status(home: Home) -> RelevanceStatus:
    """What the relevance of searches for a text is calibrated on."""
    try:
        of_profile = home.profile.calibrations
    except RegardError:
        # A status can be given without the profile, too.
        of_profile = None
    if of_profile is not None:
        source = RelevanceSource.PROFILE if of_profile else None
        reason = None if of_profile else "the profile has an empty calibration"
        return RelevanceStatus(source, reason=reason)
    store = SqlCalibrations(home.catalog, home.pipeline)
    stored = store.read()
    if stored is not None and stored.document:
        return RelevanceStatus(RelevanceSource.LIBRARY, stored.contents)
    if store.count_contents() < LEAST_PHOTOGRAPHS:
        reason = f"the library has fewer than {LEAST_PHOTOGRAPHS} photographs"
    elif stored is None:
        reason = "it is calibrated at the end of the next indexing run"
    else:
        reason = "the models of the profile tell no texts apart"
    return RelevanceStatus(None, reason=reason)


def calibrate_if_due(home: Home, progress: Progress = SILENT) -> None:
    """Calibrate relevance on the library if its profile has no calibration and it is time to.

    Errors are logged: what was indexed counts all the same, and the next run tries again.
    """
    store = SqlCalibrations(home.catalog, home.pipeline)
    try:
        if home.profile.calibrations is not None:
            return
        stored, contents = store.read(), store.count_contents()
        is_due = stored is None or not stored.contents / 2 < contents < stored.contents * 2
        if contents < LEAST_PHOTOGRAPHS or not is_due:
            return
        progress.begin("calibrating relevance")
        calibrations = calibrate(home, EVERYTHING, progress)
        if calibrations is not None:
            store.replace(to_json(calibrations) if calibrations else "", contents)
    except RegardError as error:
        _log.warning("relevance could not be calibrated: %s", error)


def calibrate(
    home: Home, asset_filter: AssetFilter, progress: Progress = SILENT
) -> Calibrations | None:
    """Calibrate relevance on the photographs that pass a filter; None if it was stopped."""
    store = SqlCalibrations(home.catalog, home.pipeline)
    captions = [
        caption
        for caption in store.captions(asset_filter, 4 * MOST_CAPTIONS)
        if home.profile.names_thing(caption)
    ]
    return calibrate_library(
        home.engine(), home.profile.routes, captions, asset_filter, progress.should_stop
    )
