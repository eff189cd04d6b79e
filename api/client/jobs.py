"""Starts, follows, cancels and retries jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal
from urllib.parse import quote

from regard.api.client.collections import new_key
from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.schemas import JobDocument, JobFailure, JobFailureList, JobList
from regard.core.errors import CannotWork

State = Literal["queued", "running", "done", "failed", "cancelled"]

ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})
# Seconds between polls of a job: at first, and at most.
_SOON, _LATER = 0.05, 1.0
_RECONNECT_SECONDS = 0.5


class Jobs:
    """`/v1/jobs`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start_import(
        self,
        root: str,
        path: str = "",
        *,
        collection: str | None = None,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        clear_exclusions: bool = False,
        reread: bool = False,
        idempotency_key: str | None = None,
    ) -> JobDocument:
        """Index a folder below a root; raises ServerProblem `not-found`, `outside-roots`.

        `exclude` and `include` are patterns in gitignore's syntax, relative to the folder, which
        the server remembers; `clear_exclusions` first forgets what it remembers there. `reread`
        reads the metadata of unchanged files again, without analysing them.
        """
        document: dict[str, Any] = {"kind": "import", "root": root, "path": path}
        given = {
            "collection": collection,
            "exclude": list(exclude),
            "include": list(include),
            "clear_exclusions": clear_exclusions,
            "reread": reread,
        }
        document |= {name: value for name, value in given.items() if value}
        return self._start(document, idempotency_key)

    def reindex(
        self, collection: str, *, reread: bool = False, idempotency_key: str | None = None
    ) -> JobDocument:
        """Check all imports and uploads of a collection again, including failures.

        `reread` reads the metadata of unchanged files again too, without analysing them.
        """
        document: dict[str, Any] = {"kind": "reindex", "collection": collection}
        return self._start(document | ({"reread": True} if reread else {}), idempotency_key)

    def read(self, *, idempotency_key: str | None = None) -> JobDocument:
        """Read the text in all photographs that were not read yet; needs the scope admin."""
        return self._start({"kind": "read"}, idempotency_key)

    def list(
        self,
        *,
        state: Sequence[State] = (),
        collection: Sequence[str] = (),
        cursor: str | None = None,
        limit: int | None = None,
    ) -> JobList:
        """One page, newest first, of the jobs in any of the states and collections."""
        query = pairs(state=list(state), collection=list(collection), cursor=cursor, limit=limit)
        return self._connection.get(JobList, "/v1/jobs", query)

    def iterate(
        self, *, state: Sequence[State] = (), collection: Sequence[str] = ()
    ) -> Iterator[JobDocument]:
        """All jobs, newest first."""
        return pages(
            lambda cursor: self.list(state=state, collection=collection, cursor=cursor),
            lambda page: page.items,
        )

    def get(self, id: str) -> JobDocument:
        """One job; raises ServerProblem `not-found`."""
        return self._connection.get(JobDocument, _path(id))

    def list_failures(
        self, id: str, *, cursor: str | None = None, limit: int | None = None
    ) -> JobFailureList:
        """One page of the files that failed."""
        query = pairs(cursor=cursor, limit=limit)
        return self._connection.get(JobFailureList, f"{_path(id)}/failures", query)

    def failures(self, id: str) -> Iterator[JobFailure]:
        """All files that failed in the job's collection."""
        return pages(lambda cursor: self.list_failures(id, cursor=cursor), lambda page: page.items)

    def cancel(self, id: str) -> JobDocument:
        """Stop a job soon; raises ServerProblem `job-not-running` when it has ended."""
        return self._connection.read(JobDocument, Call("POST", f"{_path(id)}/cancel"))

    def retry(self, id: str) -> JobDocument:
        """Start a new job that retries what failed; raises ServerProblem `job-running`."""
        return self._connection.read(JobDocument, Call("POST", f"{_path(id)}/retry"))

    def events(self, id: str) -> Iterator[JobDocument]:
        """The job now and after each change, until it has ended.

        A broken stream is resumed. Raises ServerProblem `not-found`, also when the job's
        collection is deleted meanwhile; CannotWork when the server is gone.
        """
        seen: JobDocument | None = None
        while True:
            for event in self._connection.events(f"{_path(id)}/events"):
                if event.event != "job":
                    continue
                job = self._connection.parse(JobDocument, event.data)
                if job != seen:
                    yield job
                    seen = job
                if job.state in ENDED:
                    return
            time.sleep(_RECONNECT_SECONDS)

    def wait(self, id: str, timeout: float | None = None) -> JobDocument:
        """Wait until the job ends, in any state; raises CannotWork after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _SOON
        while (job := self.get(id)).state not in ENDED:
            left = _LATER if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise CannotWork(
                    f"the job {id} has not ended after {timeout:g} s", remedy="wait longer"
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LATER)
        return job

    def _start(self, document: dict[str, Any], idempotency_key: str | None) -> JobDocument:
        key = idempotency_key or new_key()
        call = Call("POST", "/v1/jobs", json=document, idempotency_key=key)
        return self._connection.read(JobDocument, call)


def _path(id: str) -> str:
    return f"/v1/jobs/{quote(id, safe='')}"
