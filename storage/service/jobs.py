"""Jobs in the catalog: servers add, list and cancel them; the one worker claims them.

Only the holder of the worker lease claims jobs, and each of its writes checks the lease in the
same transaction. A job that is already `running` when it is claimed was left by a worker that
died, and is continued. A job at which workers die repeatedly without progress ends as failed, so
that others can run.

Jobs take turns: one that stops before its end is queued behind all others. Only its worker
remembers this; after a restart the oldest job comes first again.

Jobs that ended are deleted after 30 days, when another one ends. The last one of each kind,
collection and folder stays: it says that the folder was imported, or that uploads are not wanted.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Row,
    Select,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from regard.core.errors import Conflict, NotFound
from regard.core.jobs import Job, JobKind, JobState
from regard.storage.assets.rows import ensure_collection
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.clock import utc_now
from regard.storage.database.lease import WORKER, SqlWriterLease, hold_writer_lease

KEPT = timedelta(days=30)
_MAX_DEATHS = 5
_MOST_CHANGED = 1000
_job = schema.job.c


class SqlJobQueue:
    """The jobs of a catalog; each method is one transaction. See also `regard.core.jobs.JobQueue`.

    `claim`, `progress`, `finish` and `waits` may be called only inside `worker_role`.
    """

    def __init__(self, catalog: Catalog) -> None:
        """Use an opened catalog; nothing is read yet."""
        self._database = catalog.database
        self._role: SqlWriterLease | None = None
        # For each job that stopped before its end: the newest job then, and how many had stopped
        # before.
        self._behind: dict[int, tuple[int, int]] = {}
        self._stopped = itertools.count(1)

    def add(
        self,
        kind: JobKind,
        collection: str,
        *,
        root: str | None = None,
        path: str | None = None,
        retry_failed: bool = False,
        reread: bool = False,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        clear_exclusions: bool = False,
    ) -> Job:
        """Queue a new job; the collection is created if it is new.

        If an upload job for the same collection is queued already, that one is returned. Commit
        uploads before the call, so that the job sees them.
        """
        with self._database.writing() as connection:
            # Otherwise two callers that find no queued job would both add one.
            self._database.take_turns(connection)
            collection_id = ensure_collection(connection, collection)
            if kind is JobKind.UPLOAD:
                waiting = connection.execute(
                    _jobs()
                    .where(
                        _job.kind == kind,
                        _job.state == JobState.QUEUED,
                        _job.collection_id == collection_id,
                    )
                    .order_by(_job.id)
                )
                for job in map(_read, waiting):
                    if job.retry_failed == retry_failed:
                        return job
            parameters: dict[str, Any] = {"root": root, "path": path, "retry_failed": retry_failed}
            if reread:
                parameters["reread"] = True
            if exclude or include or clear_exclusions:
                parameters |= {
                    "exclude": list(exclude),
                    "include": list(include),
                    "clear_exclusions": clear_exclusions,
                }
            return _add(connection, kind, collection_id, parameters)

    def add_changes(self, collection: str, root: str, changed: Sequence[str]) -> Job:
        """Queue an import of the paths below a root that changed; "" is all of it.

        They join a job of this kind that waits; all of a root joins any import of it.
        """
        with self._database.writing() as connection:
            self._database.take_turns(connection)
            collection_id = ensure_collection(connection, collection)
            unfinished = connection.execute(
                _jobs()
                .where(
                    _job.kind == JobKind.IMPORT,
                    _job.state.in_([JobState.QUEUED, JobState.RUNNING]),
                    _job.collection_id == collection_id,
                )
                .order_by(_job.id)
            ).all()
            wanted = set(changed)
            for row in unfinished:
                job = _read(row)
                if job.root != root or job.path:
                    continue
                if wanted == {""} and not job.changed:
                    return job
                if job.changed and job.state is JobState.QUEUED:
                    wanted.update(job.changed)
                    parameters = {**json.loads(row.parameters), "changed": _few(wanted)}
                    connection.execute(
                        update(schema.job)
                        .where(_job.id == job.id)
                        .values(parameters=json.dumps(parameters))
                    )
                    return _get(connection, job.id)
            parameters = {"root": root, "path": "", "changed": _few(wanted)}
            return _add(connection, JobKind.IMPORT, collection_id, parameters)

    def is_importing(self, collection: str, root: str) -> bool:
        """Whether an import of all of a root has not ended."""
        with self._database.reading() as connection:
            rows = connection.execute(
                _jobs().where(
                    _job.kind == JobKind.IMPORT,
                    _job.state.in_([JobState.QUEUED, JobState.RUNNING]),
                    schema.collection.c.name == collection,
                )
            ).all()
        return any((job.root, job.path, job.changed) == (root, "", ()) for job in map(_read, rows))

    def add_for_all(
        self,
        kind: JobKind,
        *,
        profile: str | None = None,
        pipelines: Sequence[str] = (),
        unfinished: bool = False,
    ) -> Job:
        """Queue a new job for the whole home, or return an equal one that has not ended.

        Raises Conflict while a different one of its kind has not ended.
        """
        parameters = {"profile": profile, "pipelines": list(pipelines), "unfinished": unfinished}
        with self._database.writing() as connection:
            self._database.take_turns(connection)
            for job in map(
                _read,
                connection.execute(
                    _jobs().where(
                        _job.kind == kind, _job.state.in_([JobState.QUEUED, JobState.RUNNING])
                    )
                ),
            ):
                if (job.profile, job.pipelines, job.unfinished) == (
                    profile,
                    tuple(pipelines),
                    unfinished,
                ):
                    return job
                raise Conflict(
                    f"the job j{job.id} has not ended", remedy="wait, or cancel it first"
                )
            return _add(connection, kind, None, parameters)

    def add_purge(self, collection: int | None) -> Job:
        """Queue a job that purges what is in the trash now, of one collection or of all."""
        with self._database.writing() as connection:
            return _add(connection, JobKind.PURGE, collection, {})

    def is_awaited(self, job: int) -> bool:
        """Whether other jobs are queued."""
        waiting = select(_job.id).where(_job.state == JobState.QUEUED, _job.id != job).limit(1)
        with self._database.reading() as connection:
            return connection.execute(waiting).first() is not None

    def latest(self, kind: JobKind) -> Job | None:
        """The job of a kind that was added last."""
        query = _jobs().where(_job.kind == kind).order_by(_job.id.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _read(row)

    def get(self, job: int) -> Job:
        """A job; raises NotFound."""
        with self._database.reading() as connection:
            return _get(connection, job)

    def list(
        self,
        *,
        states: Sequence[JobState] | None = None,
        collections: Sequence[str] | None = None,
        before: int | None = None,
        limit: int,
    ) -> builtins.list[Job]:
        """Up to `limit` jobs, newest first, of these states and collections, before an id."""
        query = _jobs().order_by(_job.id.desc()).limit(limit)
        if states is not None:
            query = query.where(_job.state.in_(states))
        if collections is not None:
            query = query.where(schema.collection.c.name.in_(collections))
        if before is not None:
            query = query.where(_job.id < before)
        with self._database.reading() as connection:
            return [_read(row) for row in connection.execute(query)]

    def cancel(self, job: int) -> Job:
        """Cancel a job: a queued one at once, a running one as soon as it can stop.

        Raises NotFound, or Conflict if it has ended.
        """
        with self._database.writing() as connection:
            state = connection.execute(
                select(_job.state).where(_job.id == job).with_for_update()
            ).scalar_one_or_none()
            if state is not None and JobState(state).is_final:
                raise Conflict(
                    "the job has ended already",
                    remedy="cancel a job that is queued or running",
                )
            values: dict[str, object] = {"cancel_requested": True}
            if state == JobState.QUEUED:
                values |= {"state": JobState.CANCELLED, "finished_at": utc_now(), "message": None}
            connection.execute(update(schema.job).where(_job.id == job).values(**values))
            return _get(connection, job)

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        with self._database.reading() as connection:
            rows = connection.execute(select(_job.state, func.count()).group_by(_job.state)).all()
        return dict.fromkeys(JobState, 0) | {JobState(state): count for state, count in rows}

    def imported_folders(self, collection: str) -> builtins.list[tuple[str, str]]:
        """The distinct (root, path) pairs of all imports into a collection, in order."""
        query = (
            select(_job.parameters)
            .distinct()
            .join_from(schema.job, schema.collection)
            .where(
                schema.collection.c.name == collection,
                _job.kind == JobKind.IMPORT,
                _job.started_at.is_not(None),
            )
        )
        with self._database.reading() as connection:
            found = [json.loads(text) for text in connection.execute(query).scalars()]
        return sorted({(parameters["root"], parameters["path"] or "") for parameters in found})

    @contextlib.contextmanager
    def worker_role(self) -> Iterator[None]:
        """Hold the worker lease for the block; raises LeaseHeld."""
        with hold_writer_lease(self._database, WORKER) as role:
            self._role = role
            try:
                yield
            finally:
                self._role = None

    def claim(self) -> Job | None:
        """Start the job that a dead worker left or that waited longest; None if there is none."""
        claimable = self._claimable()
        with self._database.reading() as connection:
            # Polled every second: must not write, or wait for a writer, while there is no job.
            if connection.execute(claimable.with_only_columns(_job.id)).first() is None:
                return None
        with self._working() as connection:
            while (row := connection.execute(claimable.with_for_update()).first()) is not None:
                values: dict[str, object] = {"state": JobState.RUNNING}
                if row.state == JobState.RUNNING:
                    deaths, parameters = _one_more_death(row)
                    values["parameters"] = json.dumps(parameters)
                    if deaths >= _MAX_DEATHS:
                        values |= {
                            "state": JobState.FAILED,
                            "finished_at": utc_now(),
                            "message": f"the worker died {deaths} times at the same point; see the "
                            "server's log, fix the cause and retry the job",
                        }
                if row.started_at is None:
                    values["started_at"] = utc_now()
                connection.execute(update(schema.job).where(_job.id == row.id).values(**values))
                if values["state"] is JobState.RUNNING:
                    return _get(connection, row.id)
        return None

    def progress(self, job: int, *, done: int, total: int | None) -> bool:
        """Store the progress; return False if the job was cancelled or removed.

        Only reads if nothing has changed. Clears the message of an earlier wait.
        """
        with self._database.reading() as connection:
            row = connection.execute(
                select(
                    _job.state, _job.done, _job.total, _job.message, _job.cancel_requested
                ).where(_job.id == job)
            ).one_or_none()
        if row is None or row.state != JobState.RUNNING:
            return False
        if (row.done, row.total, row.message) != (done, total, None):
            with self._working() as connection:
                connection.execute(
                    update(schema.job)
                    .where(_job.id == job, _job.state == JobState.RUNNING)
                    .values(done=done, total=total, message=None)
                )
        return not row.cancel_requested

    def finish(
        self, job: int, state: JobState, *, report: Mapping[str, Any] | None, message: str | None
    ) -> None:
        """Store the final state of a claimed job: `done`, `failed` or `cancelled`.

        `queued` puts it behind all queued jobs, unless it was cancelled meanwhile.
        """
        with self._working() as connection:
            row = connection.execute(
                select(_job.cancel_requested)
                .where(_job.id == job, _job.state == JobState.RUNNING)
                .with_for_update()
            ).one_or_none()
            if row is None:
                return
            if state is JobState.QUEUED and row.cancel_requested:
                state, message = JobState.CANCELLED, None
            values: dict[str, object] = {"state": state, "message": message}
            if report is not None:
                values["report"] = json.dumps(dict(report))
            if state.is_final:
                values["finished_at"] = utc_now()
                self._behind.pop(job, None)
            else:
                newest = connection.execute(select(func.max(_job.id))).scalar_one()
                self._behind[job] = newest, next(self._stopped)
            connection.execute(update(schema.job).where(_job.id == job).values(**values))
            if state.is_final:
                _delete_old(connection)

    def waits(self, job: int, message: str) -> None:
        """Queue a claimed job again, with what it waits for as its message."""
        self.finish(job, JobState.QUEUED, report=None, message=message)

    def _claimable(self) -> Select[Any]:
        """The next job: one that is running already, else the one that was queued first."""
        order: list[Any] = [_job.state == JobState.QUEUED]
        if self._behind:
            newest = {job: place[0] for job, place in self._behind.items()}
            stopped = {job: place[1] for job, place in self._behind.items()}
            order.append(case(newest, value=_job.id, else_=_job.id))
            order.append(case(stopped, value=_job.id, else_=0))
        return (
            select(_job.id, _job.state, _job.parameters, _job.done, _job.started_at)
            .where(_job.state.in_([JobState.RUNNING, JobState.QUEUED]))
            .order_by(*order, _job.id)
            .limit(1)
        )

    @contextlib.contextmanager
    def _working(self) -> Iterator[Connection]:
        if self._role is None:
            raise RuntimeError("the worker's role is not held")
        with self._database.writing() as connection:
            self._role.guard(connection)
            yield connection


def _jobs() -> Select[Any]:
    return select(schema.job, schema.collection.c.name.label("collection")).join_from(
        schema.job, schema.collection, isouter=True
    )


def _add(
    connection: Connection, kind: JobKind, collection_id: int | None, parameters: dict[str, Any]
) -> Job:
    number = connection.execute(
        insert(schema.job)
        .values(
            kind=kind,
            state=JobState.QUEUED,
            collection_id=collection_id,
            parameters=json.dumps(parameters),
            done=0,
            cancel_requested=False,
            created_at=utc_now(),
        )
        .returning(_job.id)
    ).scalar_one()
    return _get(connection, number)


def _delete_old(connection: Connection) -> None:
    """Delete the jobs that ended long ago, except for the last of each kind and folder."""
    # SQLite's JSON is text, which a cast to JSON would turn into a number.
    read = cast if connection.dialect.name == "postgresql" else type_coerce
    parameters = read(_job.parameters, JSON)
    folder = (parameters[name].as_string() for name in ("root", "path"))
    # Only those that began say that a folder was imported.
    alike = (_job.kind, _job.collection_id, *folder, _job.started_at.is_(None))
    last = select(func.max(_job.id)).group_by(*alike)
    connection.execute(
        delete(schema.job).where(_job.finished_at < utc_now() - KEPT, _job.id.not_in(last))
    )


def _few(changed: set[str]) -> list[str]:
    """The changed paths below a root, or all of it if they are many."""
    return sorted(changed) if len(changed) <= _MOST_CHANGED else [""]


def _one_more_death(row: Row[Any]) -> tuple[int, dict[str, Any]]:
    """How often workers died without progress, and the parameters that store this."""
    parameters = json.loads(row.parameters)
    got_further = row.done > parameters.get("died_at", -1)
    deaths = 1 if got_further else parameters["deaths"] + 1
    return deaths, parameters | {"deaths": deaths, "died_at": row.done}


def _get(connection: Connection, number: int) -> Job:
    row = connection.execute(_jobs().where(_job.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {number}", remedy="take an id from the list of jobs")
    return _read(row)


def _read(row: Row[Any]) -> Job:
    parameters = json.loads(row.parameters)
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        collection_id=row.collection_id,
        collection=row.collection,
        root=parameters.get("root"),
        path=parameters.get("path"),
        retry_failed=parameters.get("retry_failed", False),
        reread=parameters.get("reread", False),
        total=row.total,
        done=row.done,
        report=None if row.report is None else json.loads(row.report),
        message=row.message,
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        profile=parameters.get("profile"),
        pipelines=tuple(parameters.get("pipelines", ())),
        unfinished=parameters.get("unfinished", False),
        exclude=tuple(parameters.get("exclude", ())),
        include=tuple(parameters.get("include", ())),
        clear_exclusions=parameters.get("clear_exclusions", False),
        changed=tuple(parameters.get("changed", ())),
    )
