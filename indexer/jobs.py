"""Runs jobs one at a time: claims them, does their work, and records progress and outcome.

A claimed job always ends or returns to the queue: when the runner stops, and while another process
holds the writer lease, or a bucket, the vector engine or the Ray cluster is away. Only a process
that dies leaves a running job, which is claimed first next time. Indexing is idempotent, so a
continued job starts over and skips what is done.

Jobs take turns so that none waits forever: if others wait, a job returns to the queue after its
turn. A turn starts with the first finished photograph and lasts at least as long as it took to get
there, so that half the time is work. A change of models must also analyse what other jobs add: its
turn lasts until it has done twice as much as was added since its last turn, so it always finishes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from regard.core.errors import AWAITED, LeaseHeld, RegardError
from regard.core.jobs import Job, JobKind, JobQueue, JobState
from regard.indexer.report import IndexReport, Progress

_log = logging.getLogger(__name__)

Work = Callable[[Job, Progress], IndexReport]

POLL_SECONDS = 1.0
PROGRESS_SECONDS = 0.5
LEASE_RETRY_SECONDS = 2.0
TURN_SECONDS = 5.0
_NAMED = 3


class Outcome(Enum):
    """The result of looking for a job."""

    IDLE = auto()
    ENDED = auto()
    WAITS = auto()


class JobRunner:
    """Works on a queue as its only worker.

    `work` does a job, reports progress, and ends early with an `interrupted` report soon after the
    function it is given returns true.
    """

    def __init__(self, queue: JobQueue, work: Work) -> None:
        self._queue = queue
        self._work = work

    def run_until(
        self,
        stop: threading.Event,
        wake: threading.Event | None = None,
        idle_seconds: float = math.inf,
    ) -> None:
        """Work on jobs until `stop` is set, even in the middle of one.

        Looks for a job every second and whenever `wake` is set; set both to stop an idle runner at
        once. Returns too when there was no job for so many seconds after one. Raises LeaseHeld if
        another worker has taken over, HomeError if the catalog can't be used.
        """
        wake = threading.Event() if wake is None else wake
        rests_at = math.inf
        while not stop.is_set() and time.monotonic() < rests_at:
            wake.clear()
            outcome = self.run_one(stop)
            if outcome is Outcome.IDLE:
                wake.wait(POLL_SECONDS)
                continue
            if outcome is Outcome.WAITS:
                stop.wait(LEASE_RETRY_SECONDS)
            rests_at = time.monotonic() + idle_seconds

    def run_one(self, stop: threading.Event) -> Outcome:
        """Do the next job, if any; see `run_until`."""
        job = self._queue.claim()
        if job is None:
            return Outcome.IDLE
        if job.cancel_requested:
            self._queue.finish(job.id, JobState.CANCELLED, report=None, message=None)
            return Outcome.ENDED
        with _JobProgress(self._queue, job, stop) as progress:
            outcome = self._attempt(job, progress)
        if isinstance(outcome, AWAITED):
            self._queue.waits(job.id, str(outcome))
            return Outcome.WAITS
        progress.record()
        if isinstance(outcome, RegardError):
            self._queue.finish(job.id, JobState.FAILED, report=None, message=str(outcome))
            return Outcome.ENDED
        self._queue.finish(
            job.id,
            progress.final_state(outcome),
            report=_with_earlier(outcome, job.report),
            message=_skipped(outcome),
        )
        return Outcome.ENDED

    def _attempt(self, job: Job, progress: _JobProgress) -> IndexReport | RegardError:
        """The report of the work, or its error."""
        try:
            return self._work(job, progress)
        except RegardError as error:
            return error
        except Exception as error:  # noqa: BLE001 - later jobs must still run
            _log.error("job %d failed", job.id, exc_info=True)
            return RegardError(f"this should not happen: {type(error).__name__}: {error}")


class _JobProgress(Progress):
    """The progress of a job, counted by its work and recorded by a separate thread.

    The work never waits for the queue, and a job can be cancelled while its models are slow.
    Progress includes earlier attempts.
    """

    def __init__(self, queue: JobQueue, job: Job, stop: threading.Event) -> None:
        self._queue = queue
        self._job = job
        self._stop = stop
        self._lock = threading.Lock()
        self._done = job.done
        self._total = job.total
        self._total_before = job.total
        self._claimed_at = time.monotonic()
        # Pruning has no photographs and loads nothing first.
        self._began_at = self._claimed_at if job.kind is JobKind.PRUNE else None
        self._cancelled = threading.Event()
        self._turn_over = threading.Event()
        self._ended = threading.Event()
        self._lost: LeaseHeld | None = None
        self._thread = threading.Thread(
            target=self._record_repeatedly, name="progress", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is None and self._lost is not None:
            raise self._lost

    def expect(self, total: int) -> None:
        """See `Progress`; `total` is that of this attempt."""
        self._total = self._job.done + total
        if self._total_before is None:
            self._total_before = self._total

    def advance(self, count: int = 1) -> None:
        """See `Progress`."""
        with self._lock:
            self._done += count
            if self._began_at is None:
                self._began_at = time.monotonic()

    def should_stop(self) -> bool:
        """Whether the work should end early."""
        return self._stop.is_set() or self._cancelled.is_set() or self._turn_over.is_set()

    def record(self) -> None:
        """Record the progress and check for cancellation."""
        # Files added during the count can make `done` exceed it.
        total = None if self._total is None else max(self._total, self._done)
        if not self._queue.progress(self._job.id, done=self._done, total=total):
            self._cancelled.set()

    def final_state(self, report: IndexReport) -> JobState:
        """The job's state after its work ended, completely or by `should_stop`."""
        if not report.interrupted:
            return JobState.DONE
        return JobState.CANCELLED if self._cancelled.is_set() else JobState.QUEUED

    def _record_repeatedly(self) -> None:
        while not self._ended.wait(PROGRESS_SECONDS):
            try:
                self.record()
                if self._has_had_its_turn() and self._queue.is_awaited(self._job.id):
                    self._turn_over.set()
            except LeaseHeld as error:
                self._lost = error
                self._cancelled.set()
                return
            except RegardError as error:
                # The work continues; it meets anything worse than a busy database itself.
                _log.warning("job %d: progress was not recorded: %s", self._job.id, error)

    def _has_had_its_turn(self) -> bool:
        """Whether it has worked long enough to give way to other jobs."""
        if self._began_at is None:
            return False
        turn = max(TURN_SECONDS, self._began_at - self._claimed_at)
        if time.monotonic() < self._began_at + turn:
            return False
        if self._job.kind is not JobKind.PIPELINE:
            return True
        added = (self._total or 0) - (self._total_before or 0)
        return self._done - self._job.done >= 2 * added


def _with_earlier(report: IndexReport, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """The report's JSON without failures, plus earlier attempts, whose files are now unchanged."""
    counts = report.to_json()
    del counts["failures"]
    if earlier is not None:
        already_done = earlier["indexed"] + earlier["moved"]
        counts["unchanged"] = max(0, counts["unchanged"] - already_done)
        for name in ("indexed", "moved", "removed", "regions", "captions", "damaged_sidecars"):
            counts[name] += earlier.get(name, 0)
        counts["seconds"] = round(counts["seconds"] + earlier["seconds"], 3)
    return counts


def _skipped(report: IndexReport) -> str | None:
    """Describe what has no asset, and so appears in no list of assets."""
    unseen = report.unseen
    named = [f"{failure.uri}: {failure.reason}" for failure in unseen[:_NAMED]]
    if len(unseen) > _NAMED:
        named.append(f"and {len(unseen) - _NAMED:,} more")
    if report.skipped_videos:
        number = f"{report.skipped_videos:,} video{'s' if report.skipped_videos > 1 else ''}"
        named.insert(0, f"{number}, as `pip install 'regard[video]'` is missing on the server")
    return "skipped: " + "; ".join(named) if named else None
