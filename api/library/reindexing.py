"""Changes a home's models: builds a pipeline beside the live one, and deletes those not needed.

Does the jobs that need no indexer, too.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from regard.api.library.duplicates import COMPARED_KINDS, compare_photographs
from regard.api.library.home import (
    Home,
    analysis_setup,
    home_engine,
    load_ready_profile,
    nothing_indexed,
    open_originals,
    open_thumbnails,
)
from regard.api.library.purging import Purging
from regard.api.library.reading import read_photographs
from regard.api.library.relevance import calibrate_if_due
from regard.api.library.settings import Settings
from regard.core.errors import PipelineConflict
from regard.core.jobs import Job, JobKind
from regard.core.protocols import Profile
from regard.indexer.reindexing import Reindexer
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.database.catalog import Catalog
from regard.storage.pipelines.pruning import prune
from regard.storage.pipelines.reindexing import SqlReindexing
from regard.storage.pipelines.states import read_pipelines
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.service.jobs import SqlJobQueue

_ASK_SECONDS = 1.0


def target_profile(settings: Settings, catalog: Catalog, name: str | None) -> Profile:
    """The profile to change to; `name` None is the home's own, as it is installed now.

    Raises HomeError for a home without photographs, UsageError for an unknown name, ModelError or
    MissingDependency when the profile cannot run here.
    """
    live = catalog.live_pipeline()
    if live is None:
        raise nothing_indexed(settings)
    return load_ready_profile(name, live)


def is_live(catalog: Catalog, profile: Profile) -> bool:
    """Whether the models of the profile are the live ones."""
    live = catalog.live_pipeline()
    return live is not None and live.fingerprint == profile.spec.fingerprint


def reindex(
    settings: Settings,
    catalog: Catalog,
    profile: Profile,
    *,
    only: str | None = None,
    retry_failed: bool = True,
    progress: Progress = SILENT,
) -> IndexReport:
    """Build the profile's pipeline until nothing waits, and make it live; see `Reindexer.run`.

    `only`: the fingerprint that it has to have. Raises PipelineConflict when the profile makes
    another now.
    """
    spec = profile.spec
    if only is not None and spec.fingerprint != only:
        raise PipelineConflict(
            f"the profile {profile.name} has other models now than those to restore",
            remedy="restore them without what was indexed since: regard rollback --at-once",
        )
    if is_live(catalog, profile):
        return IndexReport()
    originals = open_originals(settings, catalog)

    def original_of(sha256: str) -> bytes | None:
        # In a bucket, only assets know the names.
        path = originals.path_of(sha256)
        return path if settings.store is None and os.path.exists(path) else None

    building = SqlReindexing(catalog, spec, original_of=original_of)
    report = Reindexer(
        building,
        analysis_setup(
            settings,
            profile,
            ChannelIndexes(catalog, building.pipeline, home_engine(settings, catalog)),
        ),
    ).run(retry_failed=retry_failed, progress=progress)
    if not report.interrupted:
        calibrate_if_due(Home(settings, catalog, building.pipeline, profile), progress)
    return report


class HomeJobs:
    """Does the jobs that need no indexer: those that concern the whole home, and purges.

    `open_home` gives the home with its live pipeline. The models of a change stay loaded while its
    job is interrupted and continued.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        queue: SqlJobQueue,
        open_home: Callable[[], Home],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._queue = queue
        self._open_home = open_home
        self._loaded: Profile | None = None

    def __call__(self, job: Job, progress: Progress) -> IndexReport:
        """Do a job; raises what `reindex`, `prune` and `compare_photographs` raise."""
        if job.kind is JobKind.PRUNE:
            return self._prune(job, progress)
        if job.kind is JobKind.PURGE:
            return self._purge(job, progress)
        if job.kind is JobKind.READ:
            return self._read(progress)
        if job.kind in COMPARED_KINDS:
            return compare_photographs(self._open_home(), job.kind, progress)
        report = None
        try:
            report = self._change(job, progress)
        finally:
            continues = report is not None and report.interrupted
            if not continues or self._queue.get(job.id).cancel_requested:
                self._loaded = None
        return report

    def _read(self, progress: Progress) -> IndexReport:
        """Read text; failures are told by `regard read` alone."""
        found = read_photographs(self._open_home(), progress)
        return IndexReport(
            read=found.read,
            lines=found.lines,
            seconds=found.seconds,
            interrupted=found.interrupted,
        )

    def _change(self, job: Job, progress: Progress) -> IndexReport:
        target = target_profile(self._settings, self._catalog, job.profile)
        if self._loaded is None or self._loaded.spec.fingerprint != target.spec.fingerprint:
            self._loaded = target
        is_awaited = _now_and_then(lambda: self._queue.is_awaited(job.id))
        return reindex(
            self._settings,
            self._catalog,
            self._loaded,
            only=job.pipelines[0] if job.pipelines else None,
            # What failed earlier in the same job would only fail again.
            retry_failed=job.report is None,
            progress=_ChangeProgress(progress, is_awaited),
        )

    def _prune(self, job: Job, progress: Progress) -> IndexReport:
        """Prune; continues a pruning that was stopped. `removed` counts pipelines."""
        # Also those that were only partly deleted before the job was interrupted.
        there = {pipeline.fingerprint for pipeline in read_pipelines(self._catalog)}
        left = [one for one in job.pipelines if one in there]
        gone: list[str] = []
        if left or not job.pipelines:
            gone = prune(
                self._catalog,
                home_engine(self._settings, self._catalog),
                left,
                unfinished=job.unfinished,
                should_stop=progress.should_stop,
            )
        return IndexReport(removed=len(gone), interrupted=progress.should_stop())

    def _purge(self, job: Job, progress: Progress) -> IndexReport:
        """Purge what was in the trash when the job was added; `removed` counts assets."""
        started = time.monotonic()
        editing = SqlAssetEditing(self._catalog)
        originals = open_originals(self._settings, self._catalog)
        purging = Purging(self._catalog, originals, open_thumbnails(self._settings))
        report = IndexReport()

        def advance(count: int) -> None:
            report.removed += count
            progress.advance(count)

        progress.expect(editing.count_trashed(job.collection_id, job.created_at))
        purging.delete_left_files()
        finished = purging.purge(
            job.collection_id,
            trashed_by=job.created_at,
            should_stop=progress.should_stop,
            advance=advance,
        )
        report.interrupted = not finished
        report.seconds = time.monotonic() - started
        return report


class _ChangeProgress(Progress):
    """Stops a change that only waits for the switch while other jobs wait for it."""

    def __init__(self, whole: Progress, is_awaited: Callable[[], bool]) -> None:
        self._whole = whole
        self._is_awaited = is_awaited
        self._waits_for_switch = False

    def expect(self, total: int) -> None:
        """See `Progress`."""
        self._whole.expect(total)

    def advance(self, count: int = 1) -> None:
        """See `Progress`."""
        self._whole.advance(count)

    def note(self, sentence: str) -> None:
        """The change waits for the switch: nothing else is told."""
        self._waits_for_switch = True

    def should_stop(self) -> bool:
        """See `Progress`."""
        return self._whole.should_stop() or (self._waits_for_switch and self._is_awaited())


def _now_and_then(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Call `ask` at most once a second, from any thread; return its last answer in between."""
    asked_at, answer = -math.inf, False

    def last_answer() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() >= asked_at + _ASK_SECONDS:
            asked_at, answer = time.monotonic(), ask()
        return answer

    return last_answer
