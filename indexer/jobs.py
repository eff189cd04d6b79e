"""Runs jobs, one at a time: claims them, does their work, and writes how they go and end.

Whatever happens, a claimed job ends, or goes back to the queue: at a stop with what it has done, to go
on by itself later, and while another process holds the writer's lease. Only a process that dies leaves
one that is running, which is the first to be claimed again. Indexing is idempotent, so that a job that
goes on simply begins anew and finds what is done.

Jobs take turns, so that none waits for ever: while others wait, a job goes back to the queue when its turn
is over. A turn begins with the first photograph that is done, and is at least as long as it took to get
there, so that half the time is work. A change of models meets what the others analysed in theirs: its turn
lasts until it has done twice as much as came since its last one. So what it lacks becomes less with every
turn, however slow its models, until nothing is missing and it ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from regard.core.catalog import Failure
from regard.core.errors import LeaseHeld, RegardError
from regard.core.jobs import Job, JobKind, JobQueue, JobState
from regard.indexer.report import IndexReport, Progress

_log = logging.getLogger(__name__)

Work = Callable[[Job, Progress, Callable[[], bool]], IndexReport]

POLL_SECONDS = 1.0
PROGRESS_SECONDS = 0.5
LEASE_RETRY_SECONDS = 2.0
TURN_SECONDS = 5.0
_NAMED = 3


class Outcome(Enum):
    """What came of looking for a job."""

    IDLE = auto()
    ENDED = auto()
    WAITS = auto()


class JobRunner:
    """Does the work of a queue, whose only worker it is.

    `work` does a job, tells of its progress, and ends early, with an `interrupted` report, soon after
    the function that it is handed has turned true.
    """

    def __init__(self, queue: JobQueue, work: Work) -> None:
        self._queue = queue
        self._work = work

    def run_until(self, stop: threading.Event, wake: threading.Event | None = None) -> None:
        """Work on jobs as they come until `stop` is set, also in the midst of one.

        Looks for a job every second, and at once when `wake` is set; set both to stop at once while
        there is none. Raises LeaseHeld when another worker has taken over, HomeError when the catalog
        can't be used.
        """
        wake = threading.Event() if wake is None else wake
        while not stop.is_set():
            wake.clear()
            match self.run_one(stop):
                case Outcome.IDLE:
                    wake.wait(POLL_SECONDS)
                case Outcome.WAITS:
                    stop.wait(LEASE_RETRY_SECONDS)

    def run_one(self, stop: threading.Event) -> Outcome:
        """Do the next job, if there is one; see `run_until`."""
        job = self._queue.claim()
        if job is None:
            return Outcome.IDLE
        if job.cancel_requested:
            self._queue.finish(job.id, JobState.CANCELLED, report=None, message=None)
            return Outcome.ENDED
        with _Telling(self._queue, job, stop) as telling:
            outcome = self._attempt(job, telling)
        if isinstance(outcome, LeaseHeld):
            self._queue.waits(job.id, str(outcome))
            return Outcome.WAITS
        telling.tell()
        if isinstance(outcome, RegardError):
            self._queue.finish(job.id, JobState.FAILED, report=None, message=str(outcome))
            return Outcome.ENDED
        self._queue.finish(
            job.id,
            telling.final_state(outcome),
            report=_with_earlier(outcome, job.report),
            message=_passed_over(outcome.unseen),
        )
        return Outcome.ENDED

    def _attempt(self, job: Job, telling: _Telling) -> IndexReport | RegardError:
        """The report of the work, or what went wrong."""
        try:
            return self._work(job, telling, telling.should_stop)
        except RegardError as error:
            return error
        except Exception as error:  # noqa: BLE001 - it is the job's trouble, not of those behind it
            _log.error("job %d failed", job.id, exc_info=True)
            return RegardError(f"this should not happen: {type(error).__name__}: {error}")


class _Telling:
    """The progress of a job: counted by its work, written now and then by a thread of its own.

    So the work never waits for the queue, and a job is cancelled however slow its models are to tell of
    progress. What was done in earlier attempts counts too.
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
        # Deleting has no photographs, and nothing to load before it.
        self._began_at = self._claimed_at if job.kind is JobKind.PRUNE else None
        self._cancelled = threading.Event()
        self._turn_over = threading.Event()
        self._ended = threading.Event()
        self._lost: LeaseHeld | None = None
        self._thread = threading.Thread(target=self._keep_telling, name="progress", daemon=True)

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
        """So many files need work in this attempt."""
        self._total = self._job.done + total
        if self._total_before is None:
            self._total_before = self._total

    def advance(self) -> None:
        """One of them is done."""
        with self._lock:
            self._done += 1
            if self._began_at is None:
                self._began_at = time.monotonic()

    def should_stop(self) -> bool:
        """Whether the work should end early."""
        return self._stop.is_set() or self._cancelled.is_set() or self._turn_over.is_set()

    def tell(self) -> None:
        """Write how far it is, and learn whether it was cancelled."""
        # A file that came while they were counted makes more done than there were.
        total = None if self._total is None else max(self._total, self._done)
        if not self._queue.progress(self._job.id, done=self._done, total=total):
            self._cancelled.set()

    def final_state(self, report: IndexReport) -> JobState:
        """What the job is after its work has ended of itself, or by `should_stop`."""
        if not report.interrupted:
            return JobState.DONE
        return JobState.CANCELLED if self._cancelled.is_set() else JobState.QUEUED

    def _keep_telling(self) -> None:
        while not self._ended.wait(PROGRESS_SECONDS):
            try:
                self.tell()
                if self._has_had_its_turn() and self._queue.is_awaited(self._job.id):
                    self._turn_over.set()
            except LeaseHeld as error:
                self._lost = error
                self._cancelled.set()
                return
            except RegardError as error:
                # The work goes on, and meets what is worse than a busy database itself.
                _log.warning("job %d: its progress was not written: %s", self._job.id, error)

    def _has_had_its_turn(self) -> bool:
        """Whether it has worked long enough for others to go on, where there are any."""
        if self._began_at is None:
            return False
        turn = max(TURN_SECONDS, self._began_at - self._claimed_at)
        if time.monotonic() < self._began_at + turn:
            return False
        if self._job.kind is not JobKind.PIPELINE:
            return True
        came = (self._total or 0) - (self._total_before or 0)
        return self._done - self._job.done >= 2 * came


def _with_earlier(report: IndexReport, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """The report's JSON without its failures; with what earlier attempts did, which looks unchanged now."""
    counts = report.to_json()
    del counts["failures"]
    if earlier is not None:
        dealt_with = earlier["indexed"] + earlier["moved"]
        counts["unchanged"] = max(0, counts["unchanged"] - dealt_with)
        for name in ("indexed", "moved", "removed", "regions", "captions"):
            counts[name] += earlier[name]
        counts["seconds"] = round(counts["seconds"] + earlier["seconds"], 3)
    return counts


def _passed_over(unseen: Sequence[Failure]) -> str | None:
    """What to say of failures that no asset stands for, since no list of assets shows them."""
    if not unseen:
        return None
    named = [f"{failure.uri}: {failure.reason}" for failure in unseen[:_NAMED]]
    more = [f"and {len(unseen) - _NAMED:,} more"] if len(unseen) > _NAMED else []
    return "passed over: " + "; ".join(named + more)
