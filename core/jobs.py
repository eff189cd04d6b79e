"""Jobs: work that outlives a request and a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class JobKind(StrEnum):
    """What a job does.

    In one collection, `import` indexes a folder, `upload` analyses new uploads, and `reindex`
    indexes all imported folders and uploads again, including failed ones. `purge` deletes what was
    in the trash when it was added, of a collection or of all. For the whole home, `read` reads the
    text in photographs that were not read yet,
    `pipeline` analyses all photographs with another profile and makes it live, and `prune` deletes
    pipelines that are not live. `copies` compares new photographs with others to find copies;
    `objects` does so too, and then finds the same objects in them.
    """

    IMPORT = "import"
    UPLOAD = "upload"
    REINDEX = "reindex"
    PIPELINE = "pipeline"
    PRUNE = "prune"
    PURGE = "purge"
    COPIES = "copies"
    OBJECTS = "objects"
    READ = "read"


INDEXING_KINDS = frozenset({JobKind.IMPORT, JobKind.UPLOAD, JobKind.REINDEX})
"""Jobs that may add photographs to a collection."""


class JobState(StrEnum):
    """The state of a job; `queued` and `running` are not final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the state can no longer change."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the catalog stores it. Times are naive UTC.

    Imports have a `root`, the name of a configured one, and a `path` below it ("" is the root
    itself), and may say what to leave out: `exclude`, `include` and `clear_exclusions`. Those of a
    watched root have `changed`, the paths below it that are to be indexed again.
    `retry_failed` tries unchanged failed files again, `reread` reads the facts of unchanged files
    again. `total` counts the files that need
    work, None while unknown, and `done` those finished. `report` is an `IndexReport`'s JSON
    without its failures, None until the job has ended once. `message` says why the job waits or
    failed. Jobs for the whole home have no collection. `profile` is that of a `pipeline` job, None
    for the home's own; `pipelines` holds fingerprints: the one to build, or prefixes of those to
    prune. `unfinished` includes pipelines that were never live in the pruning.
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
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    clear_exclusions: bool = False
    changed: tuple[str, ...] = ()
    reread: bool = False


class JobQueue(Protocol):
    """The jobs of a catalog, for the one worker. Each method is one transaction."""

    def claim(self) -> Job | None:
        """Mark the job that has waited longest as running; None if there is none.

        A job that is `running` already was left by a worker that died, and is claimed first.
        """

    def is_awaited(self, job: int) -> bool:
        """Whether other jobs wait for this one."""

    def progress(self, job: int, *, done: int, total: int | None) -> bool:
        """Record progress; False if the job was cancelled or removed."""

    def finish(
        self, job: int, state: JobState, *, report: Mapping[str, Any] | None, message: str | None
    ) -> None:
        """Record a final state; or `queued`, to continue after all waiting jobs."""

    def waits(self, job: int, message: str) -> None:
        """Queue a claimed job again and record what it waits for."""
