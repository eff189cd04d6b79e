"""`/v1/jobs`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from regard.api import schemas
from regard.api.http.cursors import read_cursor, write_cursor
from regard.api.http.dependencies import PAGE, Cursor, PageLimit, Reader, RequestBody, Use, Writer
from regard.api.http.documents import Documents, read_identifier
from regard.api.http.idempotency import IdempotencyKey, answer_once
from regard.api.http.problems import Problem, Responses, named, responses
from regard.api.http.service import Service
from regard.api.http.storable import StorableText, is_storable
from regard.api.library.queries import DEFAULT_COLLECTION, require_name
from regard.core.errors import Conflict, NotFound
from regard.core.jobs import Job, JobKind, JobState
from regard.core.keys import Caller
from regard.indexer.exclusions import ExclusionChange
from regard.photos.files import exists, has_folder
from regard.search.answers import asset_identifier

router = APIRouter(prefix="/v1", tags=["jobs"])

_EVENT_SECONDS = 0.3
# After this many checks without a change, a comment keeps proxies from closing the stream.
_QUIET_LOOKS = 50
_EVENTS: Responses = {
    200: {"content": {"text/event-stream": {}}, "description": "the job whenever it changes"},
    204: {"description": "the job has ended, and the caller has its last event"},
}

LastEvent = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=200,
        description="The `id` of the last received event, to resume a stream.",
    ),
]


_REREAD = "Read the metadata of unchanged files again, without analysing them."

PathPattern = Annotated[StorableText, Field(min_length=1, max_length=1000)]


class ImportRequest(RequestBody):
    """Index a folder below a configured root."""

    kind: Literal["import"]
    root: StorableText = Field(max_length=200, examples=["photos"])
    path: StorableText = Field(default="", max_length=4096, examples=["2024/harbour"])
    collection: StorableText = Field(default=DEFAULT_COLLECTION, min_length=1, max_length=200)
    exclude: list[PathPattern] = Field(
        default=[],
        max_length=200,
        description="Patterns in gitignore's syntax, relative to the path, of what to leave out; "
        "remembered for later jobs.",
        examples=[["drafts/"]],
    )
    include: list[PathPattern] = Field(
        default=[],
        max_length=200,
        description="Patterns of what not to leave out, such as what was removed before.",
    )
    clear_exclusions: bool = Field(
        default=False, description="First forget all that is remembered at or below the path."
    )
    reread: bool = Field(default=False, description=_REREAD)


class ReindexRequest(RequestBody):
    """Index the imported folders and uploads of a collection again."""

    kind: Literal["reindex"]
    collection: StorableText = Field(min_length=1, max_length=200, examples=["holiday"])
    reread: bool = Field(default=False, description=_REREAD)


class ReadRequest(RequestBody):
    """Read the text in all photographs that were not read yet."""

    kind: Literal["read"]


JobRequest = Annotated[ImportRequest | ReindexRequest | ReadRequest, Field(discriminator="kind")]


@router.post(
    "/jobs",
    status_code=202,
    response_model=schemas.JobDocument,
    responses=responses("not-found", "outside-roots", "idempotency-key-reused", "conflict"),
)
def start_job(
    wanted: JobRequest, service: Use, caller: Writer, key: IdempotencyKey = None
) -> Response:
    """Start an import, a reindexing, or reading of text; that needs the scope admin.

    The job continues after restarts of the server.
    """
    if isinstance(wanted, ReadRequest):
        if caller.is_bound or not caller.is_admin:
            raise Problem("scope-missing", "jobs on the whole home need the scope admin")
        if service.library.profile.reader_spec is None:
            raise Problem("conflict", "the profile of the server has no reader of text")
    else:
        _check(wanted, service, caller)
    text = f"POST /v1/jobs {wanted.model_dump_json()}"

    def work() -> tuple[int, dict[str, Any]]:
        job = _add(service, wanted)
        return 202, service.documents(caller).job(job)

    return answer_once(service, caller, key, hashlib.sha256(text.encode()).hexdigest(), work)


def _check(wanted: ImportRequest | ReindexRequest, service: Service, caller: Caller) -> None:
    """Raise a problem if the caller may not start this job in this collection, or it can't be."""
    require_name(wanted.collection)
    if not caller.may_see(wanted.collection):
        raise NotFound(f"no collection is named {wanted.collection}")
    if isinstance(wanted, ImportRequest):
        # A malformed pattern is an error of the request, not of the job.
        ExclusionChange(tuple(wanted.exclude), tuple(wanted.include))
        if wanted.root not in service.options.roots:
            raise NotFound(f"no root is named {wanted.root}", remedy="see the roots in /v1/info")
        folder = service.import_folder(wanted.root, wanted.path)
        if folder is None:
            raise Problem("outside-roots", "the path leads outside its root")
        if not (exists(folder) or has_folder(folder)):
            raise NotFound(f"the root {wanted.root} has no folder {wanted.path!r}")
    else:
        service.collections.named(wanted.collection)


@router.get("/jobs", response_model=schemas.JobList, responses=responses("not-found"))
def list_jobs(
    service: Use,
    caller: Reader,
    state: Annotated[list[JobState], Query(description="Job states; any of them.")] = [],  # noqa: B006
    collection: Annotated[list[str], Query(description="Collection names; any of them.")] = [],  # noqa: B006
    cursor: Cursor = None,
    limit: PageLimit = PAGE,
) -> dict[str, Any]:
    """List jobs, newest first."""
    before = None if cursor is None else read_cursor(cursor, "jobs", [int])[0]
    visible = caller.collections
    if collection:
        visible = tuple(filter(is_storable, filter(caller.may_see, collection)))
    found = service.jobs.list(
        states=state or None, collections=visible, before=before, limit=limit + 1
    )
    make = service.documents(caller)
    return {
        "items": [make.job(job) for job in found[:limit]],
        "next": write_cursor("jobs", found[limit - 1].id) if len(found) > limit else None,
    }


@router.get("/jobs/{id}", response_model=schemas.JobDocument, responses=responses("not-found"))
def get_job(id: str, service: Use, caller: Reader) -> dict[str, Any]:
    """Get a job."""
    return service.documents(caller).job(_job(service, caller, id))


@router.get(
    "/jobs/{id}/failures", response_model=schemas.JobFailureList, responses=responses("not-found")
)
def list_failures(
    id: str, service: Use, caller: Reader, cursor: Cursor = None, limit: PageLimit = PAGE
) -> dict[str, Any]:
    """List the files that could not be indexed, within what the job covers."""
    job = _job(service, caller, id)
    if job.collection_id is None:
        # Jobs on the whole home report failures in their message only.
        return {"items": [], "next": None}
    after = 0 if cursor is None else read_cursor(cursor, "failures", [int])[0]
    below = None
    if job.kind is JobKind.IMPORT:
        folder = service.import_folder(job.root or "", job.path or "")
        below = folder
    make = service.documents(caller)
    found = service.assets.with_failures(
        job.collection_id,
        below=below,
        managed=True if job.kind is JobKind.UPLOAD else None,
        after=after,
        limit=limit + 1,
    )
    return {
        "items": [
            {
                "asset": asset_identifier(asset.id),
                "file_name": asset.file_name,
                "reason": make.shown(asset.failure_reason) or "",
            }
            for asset in found[:limit]
        ],
        "next": write_cursor("failures", found[limit - 1].id) if len(found) > limit else None,
    }


@router.post(
    "/jobs/{id}/cancel",
    response_model=schemas.JobDocument,
    responses=responses("not-found", "job-not-running"),
)
def cancel_job(id: str, service: Use, caller: Writer) -> dict[str, Any]:
    """Stop a job as soon as possible. Finished work is kept."""
    job = _job(service, caller, id)
    _require_control(caller, job)
    with named(Conflict, "job-not-running", caller):
        return service.documents(caller).job(service.jobs.cancel(job.id))


@router.post(
    "/jobs/{id}/retry",
    status_code=202,
    response_model=schemas.JobDocument,
    responses=responses("not-found", "job-running"),
)
def retry_job(id: str, service: Use, caller: Writer) -> dict[str, Any]:
    """Start a new job like this one that also retries failed files."""
    job = _job(service, caller, id)
    _require_control(caller, job)
    if not job.state.is_final:
        raise Problem(
            "job-running", "the job has not ended yet", remedy="wait for it, or cancel it first"
        )
    if job.kind is JobKind.PURGE:
        again = service.jobs.add_purge(job.collection_id)
    elif job.collection is None:
        again = service.jobs.add_for_all(
            job.kind, profile=job.profile, pipelines=job.pipelines, unfinished=job.unfinished
        )
    else:
        again = service.jobs.add(
            job.kind,
            job.collection,
            root=job.root,
            path=job.path,
            retry_failed=True,
            reread=job.reread,
        )
    service.wake_worker()
    return service.documents(caller).job(again)


@router.get(
    "/jobs/{id}/events",
    response_class=StreamingResponse,
    responses={**responses("not-found"), **_EVENTS},
)
def follow_job(
    id: str, request: Request, service: Use, caller: Reader, last: LastEvent = None
) -> Response:
    """Stream the job as server-sent events, now and after each change, until it ends."""
    job = _job(service, caller, id)
    make = service.documents(caller)
    if job.state.is_final and _event_id(_data(make, job)) == last:
        # Browsers reconnect after the end of a stream unless they get this answer.
        return Response(status_code=204)
    return StreamingResponse(
        _events(request, service, make, job, last),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    request: Request, service: Service, make: Documents, job: Job, last: str | None
) -> AsyncIterator[str]:
    """Events after `last`, the id of the last event that the caller received."""
    quiet = 0
    while not await request.is_disconnected() and not service.is_closing:
        data = _data(make, job)
        id = _event_id(data)
        if id != last:
            yield f"id: {id}\nevent: job\ndata: {data}\n\n"
            last, quiet = id, 0
        if job.state.is_final:
            return
        await asyncio.sleep(_EVENT_SECONDS)
        quiet += 1
        if quiet % _QUIET_LOOKS == 0:
            yield ": keep-alive\n\n"
        try:
            job = await to_thread.run_sync(service.jobs.get, job.id)
        except NotFound:
            # The job was deleted with its collection.
            return


def _data(make: Documents, job: Job) -> str:
    return json.dumps(make.job(job))


def _event_id(data: str) -> str:
    """An id of a job's state, the same on every server of the home."""
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def _job(service: Service, caller: Caller, id: str) -> Job:
    """The job, if the caller may see it; raises NotFound."""
    number, job = read_identifier(id, "j"), None
    with contextlib.suppress(NotFound):
        job = service.jobs.get(number)
    # A job that the caller may not see must look like one that does not exist.
    if job is None or not _may_see(caller, job):
        raise NotFound(f"no job has the id {id}", remedy="take an id from the list of jobs")
    return job


def _may_see(caller: Caller, job: Job) -> bool:
    """Keys bound to collections may not see jobs on the whole home."""
    return not caller.is_bound if job.collection is None else caller.may_see(job.collection)


def _require_control(caller: Caller, job: Job) -> None:
    """Raise the problem `scope-missing` if only administrators may start and stop the job."""
    needs_admin = job.collection is None or job.kind is JobKind.PURGE
    if needs_admin and not caller.is_admin:
        raise Problem("scope-missing", "jobs on the whole home and purges need the scope admin")


def _add(service: Service, wanted: ImportRequest | ReindexRequest | ReadRequest) -> Job:
    if isinstance(wanted, ReadRequest):
        job = service.jobs.add_for_all(JobKind.READ)
    elif isinstance(wanted, ImportRequest):
        job = service.jobs.add(
            JobKind.IMPORT,
            wanted.collection,
            root=wanted.root,
            path=wanted.path,
            exclude=wanted.exclude,
            include=wanted.include,
            clear_exclusions=wanted.clear_exclusions,
            reread=wanted.reread,
        )
    else:
        job = service.jobs.add(
            JobKind.REINDEX, wanted.collection, retry_failed=True, reread=wanted.reread
        )
    service.wake_worker()
    return job
