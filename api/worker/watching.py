"""Watches a root for the worker: what changes below it becomes jobs."""

from __future__ import annotations

import logging
import os
import threading

from regard.api.library.home import indexing_catalog, nothing_indexed, own_folders
from regard.api.library.queries import DEFAULT_COLLECTION
from regard.api.library.settings import Settings
from regard.core.errors import RegardError
from regard.indexer.report import Stoppable
from regard.indexer.watching import Watch
from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.database.catalog import Catalog
from regard.storage.service.jobs import SqlJobQueue

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_IMPORT_SECONDS = 0.5


class _Notes(Stoppable):
    def note(self, sentence: str) -> None:
        _log.warning("%s", sentence)


class RootWatch:
    """The watch over a root by its name; `wake` is set when there is a new job."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        name: str,
        folder: bytes,
        wake: threading.Event,
        *,
        is_polled: bool,
    ) -> None:
        """Nothing is watched yet."""
        self._settings = settings
        self._catalog = catalog
        self._queue = SqlJobQueue(catalog)
        self._name = name
        self._folder = folder
        self._wake = wake
        self._is_polled = is_polled

    def keep_adding(self, ended: threading.Event) -> None:
        """Add jobs until `ended` is set, once the root is imported."""
        while not ended.is_set():
            try:
                self._add_jobs(ended)
            except RegardError as error:
                _log.warning("watching begins again soon: %s", error)
                ended.wait(_RETRY_SECONDS)

    def _add_jobs(self, ended: threading.Event) -> None:
        # Jobs for what an import has yet to come to would wait for it, and be out of date by then.
        while self._queue.is_importing(DEFAULT_COLLECTION, self._name):
            if ended.wait(_IMPORT_SECONDS):
                return
        watch = Watch(
            self._indexing_catalog,
            [self._folder],
            own_folders(self._settings),
            _Notes(ended.is_set),
            is_polled=self._is_polled,
            confined_to=self._folder,
        )
        for changed in watch.changes():
            below = [os.fsdecode(part[len(self._folder) :].lstrip(b"/")) for part in changed.parts]
            self._queue.add_changes(DEFAULT_COLLECTION, self._name, below)
            self._wake.set()

    def _indexing_catalog(self) -> SqlIndexingCatalog:
        pipeline = self._catalog.live_pipeline()
        if pipeline is None:
            raise nothing_indexed(self._settings)
        return indexing_catalog(self._settings, self._catalog, pipeline, DEFAULT_COLLECTION)
