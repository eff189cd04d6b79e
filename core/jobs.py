"""Jobs: work that outlives a request and a process, as the rooms hand it to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class JobKind(StrEnum):
    """What a job does.

    `import` indexes a folder; `upload` what was uploaded into a collection and is not analysed yet;
    `reindex`
    looks at all of a collection's imported folders and uploads again, failed ones too. Those are of one
    collection. `pipeline` analyses all photographs by another profile, and has that go live; `prune`
    deletes pipelines that are not live.
    """

    IMPORT = "import"
    UPLOAD = "upload"
    REINDEX = "reindex"
    PIPELINE = "pipeline"
    PRUNE = "prune"


class JobState(StrEnum):
    """Where a job is. `queued` and `running` are not final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the catalog keeps it. Times are naive UTC.

    `root` names a configured root and `path` a folder below it ("" is the root itself), for imports.
    `retry_failed`: whether what failed before and has not changed is tried again. `total` counts
    the files that
    need work, None while that is not known; `done` those dealt with. `report` is an `IndexReport`'s
    JSON without
    its failures, None until the job has ended once. `message` says why it waits or failed.
    What is on the whole home has no collection. `profile` is that of a `pipeline` job, None for the home's
    own; `pipelines` holds fingerprints: the one that it has to make, or those to prune, whose beginnings
    suffice. `unfinished`: whether those are pruned that were never live.
    """

    id: int
    kind: JobKind
    state: JobState
    collection_id: int | None
    collection: str | None
    root: str | None
    path: str | None
    retry_failed: bool
    total: int | None
    done: int
    report: Mapping[str, Any] | None
    message: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    profile: str | None = None
    pipelines: tuple[str, ...] = ()
    unfinished: bool = False


class JobQueue(Protocol):
    """The jobs of a catalog, as who works on them sees them. Each method is one transaction."""

    def claim(self) -> Job | None:
        """The queued job that has waited longest, running from now on; None when there is none.

        The caller is the only worker: a job that is `running` already was left by one that died, and is
        claimed first.
        """

    def is_awaited(self, job: int) -> bool:
        """Whether others wait for this one."""

    def progress(self, job: int, *, done: int, total: int | None) -> bool:
        """Write how far it is; whether it should go on (it was neither cancelled nor removed)."""

    def finish(
        self, job: int, state: JobState, *, report: Mapping[str, Any] | None, message: str | None
    ) -> None:
        """Write how it ended: `done`, `failed` or `cancelled`; `queued`, to go on behind all that wait."""

    def waits(self, job: int, message: str) -> None:
        """Queue a claimed job again and say what it waits for."""
