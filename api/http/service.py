"""The parts of the service over one open home, shared by all requests. Thread-safe.

Everything that depends on the home's models is in one object, `Serving`. It is replaced once newly
live models are loaded; each request keeps the object that it started with.
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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from anyio import CapacityLimiter

from regard.api.http.access import Access
from regard.api.http.documents import Documents
from regard.api.http.duplicate_lists import DuplicateLists
from regard.api.http.metrics import Metrics
from regard.api.http.one_at_a_time import OneAtATime
from regard.api.library.home import Home, open_originals, open_thumbnails
from regard.api.library.purging import Purging
from regard.core.assets import Asset, AssetState
from regard.core.catalog import FileStamp, clamp_int64
from regard.core.errors import Conflict, OutsideRoots, RegardError
from regard.core.jobs import JobKind, JobState
from regard.core.keys import Caller
from regard.core.machine import usable_cores
from regard.core.records import Image, Target
from regard.photos.buckets import is_object, object_status
from regard.photos.decoding import DecodeLimits
from regard.photos.files import Confinement, path_below
from regard.photos.media import decode_picture
from regard.photos.video import has_decoder
from regard.search.answers import Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.storage.assets.albums import SqlAlbums
from regard.storage.assets.collections import SqlCollections
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.overview import first_outside
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.review import SqlDuplicateReview
from regard.storage.assets.uploads import SqlUploads
from regard.storage.database.lease import hold_writer_lease
from regard.storage.files.originals import open_original
from regard.storage.pipelines.pruning import serving_mark
from regard.storage.service.idempotency import SqlIdempotency
from regard.storage.service.jobs import SqlJobQueue
from regard.storage.service.keys import SqlKeys

_log = logging.getLogger(__name__)

DEFAULT_UPLOAD_BYTES = 200 << 20
DEFAULT_UPLOAD_FILES = 100
DEFAULT_VIDEO_BYTES = 10 << 30
_MANY_JOBS = 10_000
_ADD_ROOT = "start the server with --root NAME=DIR for the folder of the original"
# How often to check for newly live models, normally and after loading them failed.
_LOOK_SECONDS, _RETRY_SECONDS = 0.5, 10.0
# How long `/readyz` waits for the vector indexes; balancers wait for it one to five seconds.
_CHECK_SECONDS = 1.0
# Searches of one caller that may run at once on a small machine.
_SEARCHES_AT_ONCE = 8
# How often a server looks for thumbnails of what another one purged.
_THUMBNAILS_SECONDS = 600.0
# What a server searches for before it is ready.
_FIRST_TEXT = "a photograph"
# How long requests may keep using replaced models.
_LONGEST_REQUEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Settings of the operator.

    `roots` maps names to what may be imported: absolute folders, or `s3://bucket/prefix`.
    `allowed_hosts` are the accepted `Host` names and addresses. `keys_required` refuses requests
    without a key. `prefix` is the sub-path of a proxy, see `regard.api.http.sub_path`.
    """

    allowed_hosts: Sequence[str]
    roots: Mapping[str, bytes] = field(default_factory=dict)
    cors_origins: Sequence[str] = ()
    keys_required: bool = False
    upload_bytes: int = DEFAULT_UPLOAD_BYTES
    upload_files: int = DEFAULT_UPLOAD_FILES
    video_bytes: int = DEFAULT_VIDEO_BYTES
    prefix: str = ""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Serving:
    """The parts that answer from one pipeline."""

    library: Home
    assets: SqlAssetReading
    engine: SearchEngine


class Service:
    """What handlers call; `wake_worker` notifies the worker of a new job."""

    def __init__(
        self,
        library: Home,
        options: ServiceOptions,
        wake_worker: Callable[[], None] = lambda: None,
    ) -> None:
        catalog = library.catalog
        self.options = options
        self.wake_worker = wake_worker
        self._closing = threading.Event()
        self._draining = threading.Event()
        self._is_warm = False
        self._not_ready = "the models and indexes are loading"
        self._check = OneAtATime[None]("readiness")
        self.limits = DecodeLimits(max_bytes=options.upload_bytes)
        self.editing = SqlAssetEditing(catalog)
        self.uploads = SqlUploads(catalog)
        self.collections = SqlCollections(catalog)
        self.albums = SqlAlbums(catalog)
        self.review = SqlDuplicateReview(catalog)
        self.jobs = SqlJobQueue(catalog)
        self.idempotency = SqlIdempotency(catalog)
        self.originals = open_originals(library.settings, catalog)
        self.thumbnails = open_thumbnails(library.settings)
        self.purging = Purging(catalog, self.originals, self.thumbnails)
        self.access = Access(SqlKeys(catalog), required=options.keys_required)
        # Limits threads that render pictures, so that others stay free.
        self.rendering_threads = CapacityLimiter(4)
        # Threads that group copies and bursts use a core; searches must not wait for many of them.
        self.grouping_threads = CapacityLimiter(2)
        self._searching_threads: dict[str, CapacityLimiter] = {}
        self.duplicates = DuplicateLists(self.jobs, wake_worker)
        self.metrics = Metrics(self.jobs, lambda: self.library)
        self._serving = self._serve(library)

    def at_one_moment(self) -> Service:
        """A copy that keeps the current models for one whole request."""
        return copy.copy(self)

    def searching_threads(self, caller: Caller) -> CapacityLimiter:
        """The threads that a caller's searches take; further ones wait, and others' go on."""
        most = max(_SEARCHES_AT_ONCE, 2 * usable_cores())
        return self._searching_threads.setdefault(caller.identity, CapacityLimiter(most))

    @property
    def is_closing(self) -> bool:
        """Whether the server is stopping; endless responses must end then."""
        return self._closing.is_set()

    def drain(self) -> None:
        """Answer as before, but let `/readyz` tell balancers to send nothing more."""
        self._draining.set()

    def close(self) -> None:
        """Stop background work and endless responses."""
        self._closing.set()

    @property
    def video_bytes(self) -> int | None:
        """The largest video of an upload; None if videos can't be read here."""
        return self.options.video_bytes if has_decoder() else None

    @property
    def library(self) -> Home:
        """The home with the current models."""
        return self._serving.library

    @property
    def assets(self) -> SqlAssetReading:
        """Reads assets as analysed by the current models."""
        return self._serving.assets

    @property
    def engine(self) -> SearchEngine:
        """Searches with the current models."""
        return self._serving.engine

    def _serve(self, library: Home) -> Serving:
        engine = library.engine(observe=self.metrics.observe_stage, load_image=self._load_image)
        return Serving(library, SqlAssetReading(library.catalog, library.pipeline), engine)

    def documents(self, caller: Caller) -> Documents:
        """The documents as this caller may see them."""
        return Documents(caller, self.options.roots)

    def first_hidden(self) -> bytes | None:
        """The path of an asset whose pictures are not served to callers with keys; None if all
        are."""
        if not self.options.keys_required:
            return None
        return first_outside(self.library.catalog, self.folders)

    def has_original(self, stamp: FileStamp) -> bool:
        """Whether an asset's file is unchanged since it was indexed; raises StoreUnavailable."""
        if is_object(stamp.path):
            try:
                there = object_status(stamp.path)
            except FileNotFoundError:
                return False
            return there.size == stamp.size and stamp.etag in {None, there.etag}
        try:
            file = open_original(stamp.path, size=stamp.size, mtime_ns=stamp.mtime_ns, within=None)
        except RegardError:
            return False
        file.close()
        return True

    def open_original(self, asset: Asset) -> BinaryIO:
        """Open the file of an asset if it is still the one that was indexed and may be read.

        Raises OriginalGone, OriginalChanged, OutsideRoots, StoreUnavailable.
        """
        if is_object(asset.path):
            path = self.require_readable(asset)
            return open_original(path, size=asset.size, mtime_ns=None, etag=asset.etag, within=None)
        folders = self.folders
        # Without keys, callers are on this machine and may read what its command line indexed.
        is_elsewhere = not any(asset.path.startswith(folder + b"/") for folder in folders)
        within = None if is_elsewhere and not self.options.keys_required else folders
        # Managed files are named by their digest, and restoring a backup may truncate their times.
        mtime_ns = None if asset.managed else asset.mtime_ns
        try:
            return open_original(asset.path, size=asset.size, mtime_ns=mtime_ns, within=within)
        except OutsideRoots as error:
            raise OutsideRoots(error.message, remedy=_ADD_ROOT) from error

    def require_readable(self, asset: Asset) -> bytes:
        """The URI of an asset's object; raises OutsideRoots if only its indexer may read it."""
        is_served = asset.managed or not self.options.keys_required
        if not (is_served or any(Confinement(one).holds(asset.path) for one in self.folders)):
            raise OutsideRoots(
                "the original lies outside the folders that may be read", remedy=_ADD_ROOT
            )
        return asset.path

    def _load_image(self, asset: Asset, time_ms: int | None) -> Image:
        with self.open_original(asset) as file:
            return decode_picture(file, self.limits, time_ms=time_ms)

    def analyse_restored(self, assets: Collection[int]) -> None:
        """Analyse restored uploads that were trashed before they were analysed."""
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
        """Cancel unfinished jobs of a collection."""
        waiting = [JobState.QUEUED, JobState.RUNNING]
        for job in self.jobs.list(states=waiting, collections=[collection], limit=_MANY_JOBS):
            # It may have ended in the meantime.
            with contextlib.suppress(Conflict):
                self.jobs.cancel(job.id)

    def take_up(self) -> None:
        """Recover the state that an earlier server left, even if it was killed or the home was
        moved.

        Updates the paths of uploads, removes leftovers of interrupted uploads and purges, and adds
        jobs for stored uploads without one.
        """
        self.uploads.relocate_originals(self.originals.path_of, _mtime_of)
        self.originals.sweep(discard_placed=self.purging.discard_unneeded)
        self.purging.delete_left_files()
        for collection in self.uploads.collections_without_job():
            self.jobs.add(JobKind.UPLOAD, collection)

    def warm(self) -> None:
        """Load what searches need, so that the first one does not wait; raises RegardError."""
        _load(self._serving)
        # Scanning these permanent objects in each garbage collection would delay searches.
        gc.collect()
        gc.freeze()
        self._is_warm = True

    def run_in_background(self) -> None:
        """Load what searches need, then follow the home's live pipeline until the service closes.

        Failures are logged and reported by `/readyz`.
        """
        try:
            self.warm()
        except RegardError as error:
            # Requests report the same error.
            _log.error("the models and indexes can't be loaded: %s", error)
            self._not_ready = "the models or indexes can't be loaded; see the server's log"
        pause = _LOOK_SECONDS
        while not self._closing.wait(pause):
            pause = _LOOK_SECONDS
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - the loaded models keep answering
                _log.error("the home's new models can't be loaded: %s", error)
                pause = _RETRY_SECONDS

    def keep_discarding_thumbnails(self) -> None:
        """Delete thumbnails of unknown contents now and every few minutes until the service
        closes."""
        while True:
            try:
                self.purging.discard_unknown_thumbnails()
            except RegardError as error:
                _log.warning("thumbnails of unknown contents have to wait: %s", error)
            if self._closing.wait(_THUMBNAILS_SECONDS):
                return

    def _follow(self) -> None:
        """If another pipeline is live, load it while the current one answers, then replace
        that."""
        catalog, before = self.library.catalog, self.library.pipeline
        live = catalog.live_pipeline()
        if live is None or live.id == before.id:
            return
        # The lease keeps the old pipeline from being pruned while requests use it.
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
        """Why searches can't be answered now; empty if they can.

        Does not wait for a vector engine that is away: all else works without it.
        """
        if self._draining.is_set():
            return ["the server is stopping"]
        if not self._is_warm:
            return [self._not_ready]
        try:
            self.library.catalog.live_pipeline()
            self._check.run(self.library.indexes.catch_up, _CHECK_SECONDS)
        except RegardError as error:
            _log.error("not ready: %s", error)
            return ["the database or the indexes can't be used; see the server's log"]
        return []

    @property
    def folders(self) -> list[bytes]:
        """The folders that files may be read from: the managed store and the roots."""
        managed = os.fsencode(self.library.settings.home / "originals")
        return [managed, *self.options.roots.values()]

    def import_folder(self, root: str, path: str) -> bytes | None:
        """The folder below a root; None for an unknown root or a path that leads outside it.

        Symlinks are resolved: the real path must be inside the real root.
        """
        base = self.options.roots.get(root)
        if base is None or "\0" in path or os.path.isabs(path):
            return None
        folder = path_below(base, path)
        return folder if folder is not None and Confinement.to(base).holds(folder) else None


def _load(serving: Serving) -> None:
    library = serving.library
    library.indexes.catch_up()
    for space in library.profile.spaces:
        encoder = library.profile.encoder(space.name)
        if encoder.takes_texts:
            encoder.encode_texts([_FIRST_TEXT])
    # These searches are in no metrics; an error is left to the searches of clients.
    engine = library.engine()
    for target in Target:
        with contextlib.suppress(RegardError):
            engine.search(TextQuery(_FIRST_TEXT), Scope(target))


def _mtime_of(path: bytes) -> int | None:
    try:
        return clamp_int64(os.stat(path).st_mtime_ns)
    except OSError:
        return None
