"""The calibrations that a library made for itself, as searches use them."""

from __future__ import annotations

import threading
import time

from regard.core.relevance import Calibrations
from regard.models.profiles.calibration import parse_calibrations
from regard.storage.database.catalog import Catalog
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.retrieval.calibrations import SqlCalibrations

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
