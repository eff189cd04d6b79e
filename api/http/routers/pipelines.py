"""`/v1/pipelines`: the home's models, and changing them while searches continue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from regard.api import schemas
from regard.api.http.dependencies import Administrator, Reader, RequestBody, Use
from regard.api.http.problems import Problem, named, responses
from regard.api.http.service import Service
from regard.api.http.storable import StorableText
from regard.api.library.reindexing import is_live, target_profile
from regard.core.errors import LeaseHeld, MissingDependency, ModelError, UsageError
from regard.core.jobs import JobKind
from regard.storage.pipelines.states import PipelineState, read_pipelines, roll_back

router = APIRouter(prefix="/v1", tags=["pipelines"])

Beginning = Annotated[str, Field(pattern="^[0-9a-f]{4,64}$", examples=["3f9a1c"])]


class ReindexAllRequest(RequestBody):
    """The profile to change to. Default: the home's own profile as it is now."""

    profile: StorableText | None = Field(default=None, max_length=200, examples=["blip3"])


class RollbackRequest(RequestBody):
    """Whether to roll back now, without what was indexed since the change."""

    at_once: bool = Field(default=False, examples=[False])


class PruneRequest(RequestBody):
    """The pipelines to delete. Default: all that were live before."""

    pipelines: list[Beginning] = Field(default=[], max_length=100)
    unfinished: bool = Field(default=False, examples=[False])


@router.get("/pipelines", response_model=schemas.PipelineList, responses=responses())
def list_pipelines(service: Use, caller: Reader) -> dict[str, Any]:
    """List the pipelines of the home and how complete they are."""
    if caller.is_bound:
        raise Problem("scope-missing", "the figures cover all collections, and the key does not")
    library = service.library
    return {
        "items": [one.to_json() for one in read_pipelines(library.catalog)],
        "serving": library.pipeline.fingerprint,
    }


@router.post(
    "/pipelines",
    status_code=202,
    response_model=schemas.JobDocument,
    responses=responses("conflict"),
)
def change_models(wanted: ReindexAllRequest, service: Use, caller: Administrator) -> dict[str, Any]:
    """Build another pipeline. The live one answers until the new one is complete."""
    _require_whole(caller_is_bound=caller.is_bound)
    if wanted.profile is not None and ("/" in wanted.profile or wanted.profile.endswith(".toml")):
        raise UsageError(
            "a profile can't be given as a file here",
            remedy="put the file into the server's folder of profiles, and give its name",
        )
    library = service.library
    # A missing model or package is a conflict, not a server error.
    with named(ModelError, "conflict", caller), named(MissingDependency, "conflict", caller):
        profile = target_profile(library.settings, library.catalog, wanted.profile)
    if is_live(library.catalog, profile):
        raise Problem("conflict", f"the home already has the models of {profile.name}")
    job = service.jobs.add_for_all(JobKind.PIPELINE, profile=wanted.profile)
    service.wake_worker()
    return service.documents(caller).job(job)


@router.post(
    "/pipelines/rollback",
    response_model=schemas.RollbackDocument,
    responses=responses("conflict"),
)
def go_back(wanted: RollbackRequest, service: Use, caller: Administrator) -> dict[str, Any]:
    """Restore the previous pipeline, now or once it has what was indexed since."""
    _require_whole(caller_is_bound=caller.is_bound)
    with named(LeaseHeld, "conflict", caller):
        found = roll_back(service.library.catalog, at_once=wanted.at_once)
    jobs = []
    if not found.is_live:
        jobs.append(
            service.jobs.add_for_all(
                JobKind.PIPELINE,
                profile=found.pipeline.profile,
                pipelines=[found.pipeline.fingerprint],
            )
        )
    elif found.missing:
        jobs += [
            service.jobs.add(JobKind.REINDEX, name, retry_failed=True) for name in found.collections
        ]
    service.wake_worker()
    make = service.documents(caller)
    return {
        "profile": found.pipeline.profile,
        "fingerprint": found.pipeline.fingerprint,
        "missing": found.missing,
        "live": found.is_live,
        "jobs": [make.job(job) for job in jobs],
    }


@router.post(
    "/pipelines/prune",
    status_code=202,
    response_model=schemas.JobDocument,
    responses=responses("not-found", "conflict"),
)
def prune_pipelines(wanted: PruneRequest, service: Use, caller: Administrator) -> dict[str, Any]:
    """Delete pipelines that are not live, with their rows and indexes."""
    _require_whole(caller_is_bound=caller.is_bound)
    chosen = [_whole_fingerprint(service, beginning) for beginning in wanted.pipelines]
    job = service.jobs.add_for_all(JobKind.PRUNE, pipelines=chosen, unfinished=wanted.unfinished)
    service.wake_worker()
    return service.documents(caller).job(job)


def _require_whole(*, caller_is_bound: bool) -> None:
    if caller_is_bound:
        raise Problem("scope-missing", "the models cover all collections, and the key does not")


def _whole_fingerprint(service: Service, beginning: str) -> str:
    """The fingerprint with this beginning; raises the problems `not-found` and `conflict`."""
    found = [
        one
        for one in read_pipelines(service.library.catalog)
        if one.fingerprint.startswith(beginning)
    ]
    if len(found) != 1:
        raise Problem("not-found", f"no single pipeline's fingerprint starts with {beginning}")
    if found[0].state is PipelineState.LIVE:
        raise Problem("conflict", "the live pipeline can't be deleted")
    return found[0].fingerprint
