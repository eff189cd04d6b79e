"""Relevance for profiles without a calibration: one is made on the library, and kept in the catalog.

It is made at the end of indexing, once the library has enough photographs, and again each time
their number has doubled or halved. Searches use the former one until then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from regard.api.library.home import Home
from regard.core.errors import RegardError
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.relevance import Calibrations, RelevanceSource
from regard.indexer.report import SILENT, Progress
from regard.models.profiles.calibration import to_json
from regard.search.library_relevance import (
    LEAST_PHOTOGRAPHS,
    MOST_CAPTIONS,
    calibrate_library,
)
from regard.storage.retrieval.calibrations import SqlCalibrations

_log = logging.getLogger(__name__)


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
    profile = home.profile
    return calibrate_library(
        home.engine(),
        profile.routes,
        captions,
        asset_filter,
        progress.should_stop,
        cosine_scales={
            space.name: profile.encoder(space.name).cosine_scale for space in profile.spaces
        },
    )
