"""Lists duplicates for requests, from what was compared before.

A request compares nothing: it adds a job if photographs wait, and its answer says so. The worker
compares them, and the list is complete once it has ended.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from regard.api.library.duplicates import COMPARED_KINDS, HomeDuplicates
from regard.api.library.home import Home
from regard.core.duplicates import DuplicateGroup, DuplicateKind, Place
from regard.core.errors import Conflict
from regard.core.filters import AssetFilter
from regard.core.jobs import JobKind, JobState
from regard.storage.database.change_log import Moment
from regard.storage.database.clock import utc_now
from regard.storage.service.jobs import SqlJobQueue

# A job that failed or was cancelled is not added again for so long.
_PAUSE = datetime.timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class DuplicatePage:
    """One page of groups; `next` is the kind and place where it ends if more may follow.

    `waiting` means that a job compares photographs. `left_out` counts assets in the filter without
    a signature. When nothing is waiting, no readable file has their bytes.
    """

    groups: Sequence[DuplicateGroup]
    next: tuple[DuplicateKind, Place] | None
    waiting: bool
    left_out: int

    @property
    def complete(self) -> bool:
        """Whether all analysed photographs were compared."""
        return not self.waiting and not self.left_out


class DuplicateLists:
    """Lists the duplicates of a service's home. Thread-safe."""

    def __init__(self, jobs: SqlJobQueue, wake_worker: Callable[[], None]) -> None:
        self._jobs = jobs
        self._wake_worker = wake_worker
        # Looking for photographs that wait scans the catalog, so look only after a change.
        self._complete: dict[JobKind, tuple[int, Moment]] = {}

    def page(
        self,
        library: Home,
        kinds: Sequence[DuplicateKind],
        chosen: AssetFilter,
        after: tuple[DuplicateKind, Place] | None,
        limit: int,
    ) -> DuplicatePage:
        """The groups of these kinds after a position.

        Raises UsageError if that group no longer exists, Conflict if the job that compares
        photographs failed or was cancelled a moment ago.
        """
        parts = HomeDuplicates(library)
        job = JobKind.OBJECTS if DuplicateKind.OBJECT in kinds else JobKind.COPIES
        waiting, unsigned = self._state(parts, library.pipeline.id, job)
        left_out = parts.store.count_unsigned(chosen) if unsigned else 0
        groups: list[DuplicateGroup] = []
        if after is not None:
            # Earlier kinds were on previous pages.
            kinds = kinds[kinds.index(after[0]) :]
        for kind in kinds:
            place = after[1] if after is not None and kind is after[0] else None
            found, more = parts.finder.page(kind, chosen, place, limit - len(groups))
            groups += found
            if more is not None:
                return DuplicatePage(groups, (kind, more), waiting, left_out)
        return DuplicatePage(groups, None, waiting, left_out)

    def _state(self, parts: HomeDuplicates, pipeline: int, kind: JobKind) -> tuple[bool, bool]:
        """Whether photographs wait to be compared, and whether any have no signature."""
        now = pipeline, parts.store.moment()
        if self._complete.get(kind) == now:
            return False, False
        job = self._jobs.latest(kind)
        if job is not None and not job.state.is_final:
            return True, True
        if parts.finder.waiting(COMPARED_KINDS[kind]):
            if (
                job is not None
                and job.state is not JobState.DONE
                and job.finished_at is not None
                and utc_now() - job.finished_at < _PAUSE
            ):
                raise Conflict(
                    f"the job that compares photographs, j{job.id}, was {job.state} a moment ago",
                    remedy="see why in the list of jobs, and try again in half a minute",
                )
            self._jobs.add_for_all(kind)
            self._wake_worker()
            return True, True
        unsigned = parts.store.count_unsigned() > 0
        # The worker adds signatures to assets of older homes whose files are available.
        waiting = unsigned and parts.store.has_untried()
        if not unsigned:
            # The moment was read before looking, so later changes differ from it.
            self._complete[kind] = now
        return waiting, unsigned
