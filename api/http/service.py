"""The service's parts over one opened home, shared by all requests.

Everything here may be used from several threads. What a request may do is decided per call, by its caller.
What depends on the home's models is one object, which is replaced by another when other models have gone
live and are loaded; each request keeps the one that it began with.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyio import CapacityLimiter

from regard.api.http.access import Access
from regard.api.http.documents import Documents
from regard.api.http.duplicate_lists import DuplicateLists
from regard.api.http.metrics import Metrics
from regard.api.library.home import Home
from regard.core.assets import AssetState
from regard.core.catalog import FileStamp
from regard.core.errors import Conflict, RegardError
from regard.core.jobs import JobKind, JobState
from regard.core.keys import Caller
from regard.photos.decoding import DecodeLimits
from regard.search.engine import SearchEngine
from regard.storage.assets.collections import SqlCollections
from regard.storage.assets.editing import Purged, SqlAssetEditing
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.uploads import SqlUploads
from regard.storage.database.lease import hold_writer_lease
from regard.storage.files.originals import Originals, open_original
from regard.storage.files.thumbnails import Thumbnails
from regard.storage.pipelines.pruning import serving_mark
from regard.storage.service.idempotency import SqlIdempotency
from regard.storage.service.jobs import SqlJobQueue
from regard.storage.service.keys import SqlKeys

_log = logging.getLogger(__name__)

DEFAULT_UPLOAD_BYTES = 200 << 20
DEFAULT_UPLOAD_FILES = 100
_MANY_JOBS = 10_000
# How often to look whether other models are live, and when loading them has failed.
_LOOK_SECONDS, _RETRY_SECONDS = 0.5, 10.0
# How long a request may go on with the models that it began with.
_LONGEST_REQUEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the operator decides.

    `roots`: folders that imports may name, by name, absolute. `allowed_hosts`: names and addresses that
    requests may be made to. `keys_required`: whether every caller needs a key.
    """

    allowed_hosts: Sequence[str]
    roots: Mapping[str, Path] = field(default_factory=dict)
    cors_origins: Sequence[str] = ()
    keys_required: bool = False
    upload_bytes: int = DEFAULT_UPLOAD_BYTES
    upload_files: int = DEFAULT_UPLOAD_FILES


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Serving:
    """What answers from one pipeline."""

    library: Home
    assets: SqlAssetReading
    engine: SearchEngine


class Service:
    """What the handlers call; `wake_worker` tells the worker that there is a job."""

    def __init__(
        self,
        library: Home,
        options: ServiceOptions,
        wake_worker: Callable[[], None] = lambda: None,
    ) -> None:
        catalog, home = library.catalog, library.settings.home
        self.options = options
        self.wake_worker = wake_worker
        self._closing = threading.Event()
        self._is_warm = False
        self._not_ready = "the models and indexes are being loaded"
        self.limits = DecodeLimits(max_bytes=options.upload_bytes)
        self.editing = SqlAssetEditing(catalog)
        self.uploads = SqlUploads(catalog)
        self.collections = SqlCollections(catalog)
        self.jobs = SqlJobQueue(catalog)
        self.idempotency = SqlIdempotency(catalog)
        self.originals = Originals(home / "originals")
        self.thumbnails = Thumbnails(home / "thumbnails")
        self.access = Access(SqlKeys(catalog), required=options.keys_required)
        # Threads that may wait for pictures; all others stay free for the rest.
        self.rendering_threads = CapacityLimiter(4)
        # Comparing pictures takes a core, and searches must not wait behind many who do.
        self.comparing_threads = CapacityLimiter(2)
        self.duplicates = DuplicateLists()
        self.metrics = Metrics(self.jobs, lambda: self.library)
        self._serving = self._serve(library)

    def at_one_moment(self) -> Service:
        """This service with the models that it has now, for one request from start to end."""
        return copy.copy(self)

    @property
    def is_closing(self) -> bool:
        """Whether the server ends, so that answers without an end do, too."""
        return self._closing.is_set()

    def close(self) -> None:
        """Have everything that goes on by itself end."""
        self._closing.set()

    @property
    def library(self) -> Home:
        """The home with the models that are answered from."""
        return self._serving.library

    @property
    def assets(self) -> SqlAssetReading:
        """Assets as those models see them."""
        return self._serving.assets

    @property
    def engine(self) -> SearchEngine:
        """Searches with those models."""
        return self._serving.engine

    def _serve(self, library: Home) -> Serving:
        engine = library.engine(observe=self.metrics.observe_stage)
        return Serving(library, SqlAssetReading(library.catalog, library.pipeline), engine)

    def documents(self, caller: Caller) -> Documents:
        """Makes documents that a caller may see."""
        return Documents(caller, self.options.roots)

    def discard(self, purged: Purged) -> None:
        """Delete managed files that no asset needs any more, and what was rendered of them."""
        self._delete(purged.originals)

    def _delete(self, digests: Collection[str]) -> None:
        """Delete managed files that purges left, and let nobody look for them again."""
        self.discard_unneeded(digests)
        self.uploads.forget_originals(digests)

    def discard_unneeded(self, digests: Iterable[str]) -> None:
        """Delete those of the managed files that no asset needs, by their SHA-256."""
        for sha256 in digests:
            is_needed = partial(self.uploads.needs, self.originals.path_of(sha256))
            self.originals.discard(sha256, unless=is_needed)
            if not is_needed():
                # Of a file that is gone already, too: a process may have been killed in between.
                self.thumbnails.discard(sha256)

    def has_original(self, stamp: FileStamp) -> bool:
        """Whether an imported asset's file is still the one that was indexed."""
        try:
            file = open_original(stamp.path, size=stamp.size, mtime_ns=stamp.mtime_ns, within=None)
        except RegardError:
            return False
        file.close()
        return True

    def analyse_restored(self, assets: Collection[int]) -> None:
        """Have uploads analysed that went into the trash before they were, and came back."""
        restored = self.assets.by_ids(assets).values()
        waiting = {
            asset.collection
            for asset in restored
            if asset.managed and asset.state is AssetState.PENDING
        }
        for collection in waiting:
            self.jobs.add(JobKind.UPLOAD, collection)
        if waiting:
            self.wake_worker()

    def cancel_jobs(self, collection: str) -> None:
        """Cancel what is still to be done in a collection."""
        waiting = [JobState.QUEUED, JobState.RUNNING]
        for job in self.jobs.list(states=waiting, collections=[collection], limit=_MANY_JOBS):
            # It may have ended just now.
            with contextlib.suppress(Conflict):
                self.jobs.cancel(job.id)

    def take_up(self) -> None:
        """Go on where an earlier server ended, perhaps in the midst of things, perhaps elsewhere.

        Uploads are found where the home lies now, what killed ones and killed purges left is cleared away,
        and uploads that were stored without a job get one.
        """
        self.uploads.relocate_originals(self.originals.path_of, _mtime_of)
        self.originals.sweep(discard_placed=lambda sha256: self.discard_unneeded([sha256]))
        self._delete(self.uploads.forgotten_originals())
        for collection in self.uploads.collections_without_job():
            self.jobs.add(JobKind.UPLOAD, collection)

    def warm(self) -> None:
        """Load what searches need, so that the first does not wait for it; raises RegardError."""
        _load(self._serving)
        # What was loaded stays: looking through it for garbage again and again would make searches wait.
        gc.collect()
        gc.freeze()
        self._is_warm = True

    def run_in_background(self) -> None:
        """Load what searches need, then follow the home's models, until the service is closed.

        A failure is logged, and readiness tells of it.
        """
        try:
            self.warm()
        except RegardError as error:
            # Each request tells the same.
            _log.error("the models and indexes can't be loaded: %s", error)
            self._not_ready = "the models or indexes can't be loaded; the server's log tells why"
        pause = _LOOK_SECONDS
        while not self._closing.wait(pause):
            pause = _LOOK_SECONDS
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - what is loaded goes on answering
                _log.error("the home's new models can't be loaded: %s", error)
                pause = _RETRY_SECONDS

    def _follow(self) -> None:
        """When another pipeline is live, load it while the one before answers, and replace that."""
        catalog, before = self.library.catalog, self.library.pipeline
        live = catalog.live_pipeline()
        if live is None or live.id == before.id:
            return
        # Nobody deletes what is still answered from.
        mark = f"{serving_mark(before.id)}{uuid.uuid4().hex[:16]}"
        with hold_writer_lease(catalog.database, mark):
            serving = self._serve(Home(self.library.settings, catalog, live))
            _load(serving)
            replaced = weakref.ref(self._serving)
            self._serving = serving
            deadline = time.monotonic() + _LONGEST_REQUEST_SECONDS
            while replaced() is not None and time.monotonic() < deadline:
                if self._closing.wait(_LOOK_SECONDS):
                    return
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._is_warm = True

    def reasons_not_ready(self) -> list[str]:
        """Why searches can't be answered now; empty when they can."""
        if not self._is_warm:
            return [self._not_ready]
        try:
            self.library.indexes.catch_up()
        except RegardError as error:
            _log.error("not ready: %s", error)
            return ["the database or the indexes can't be used now; the server's log tells why"]
        return []

    @property
    def folders(self) -> list[bytes]:
        """Where files may be read from: the managed store and the roots."""
        managed = self.library.settings.home / "originals"
        return [os.fsencode(folder) for folder in (managed, *self.options.roots.values())]

    def import_folder(self, root: str, path: str) -> Path | None:
        """The folder below a root; None when there is no such root or the path leads out of it.

        Symlinks are looked through: what the path really is has to lie in what the root really is.
        """
        base = self.options.roots.get(root)
        if base is None or "\0" in path or os.path.isabs(path):
            return None
        folder = Path(os.path.normpath(base / path))
        real, real_base = os.path.realpath(folder), os.path.realpath(base)
        inside = os.path.commonpath([real, real_base]) == real_base
        named_inside = os.path.commonpath([folder, base]) == str(base)
        return folder if inside and named_inside else None


def _load(serving: Serving) -> None:
    library = serving.library
    library.indexes.catch_up()
    serving.library.search_catalog.preload()
    for space in library.profile.spaces:
        encoder = library.profile.encoder(space.name)
        if encoder.takes_texts:
            encoder.encode_texts(["a photograph"])


def _mtime_of(path: bytes) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
