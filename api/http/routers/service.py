"""Health, metrics and information about the server."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from regard.api import schemas
from regard.api.http.dependencies import MAX_PAGE, Reader, Use
from regard.api.http.metrics import CONTENT_TYPE
from regard.api.http.problems import Problem, Responses, responses
from regard.api.http.search_requests import MAX_HITS
from regard.storage.assets.overview import count_visible

router = APIRouter(tags=["service"])

_NOT_READY: Responses = {503: {"model": schemas.Readiness, "description": "not ready"}}
_METRICS: Responses = {
    200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}
}


@router.get("/healthz", response_model=schemas.Health, responses=responses(takes_key=False))
async def health() -> dict[str, str]:
    """Check that the process is running."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=schemas.Readiness,
    responses={**responses(takes_key=False), **_NOT_READY},
)
def readiness(service: Use) -> Response:
    """Check whether searches can be answered."""
    reasons = service.reasons_not_ready()
    state = "not ready" if reasons else "ready"
    return JSONResponse({"status": state, "reasons": reasons}, 503 if reasons else 200)


@router.get("/metrics", response_class=Response, responses={**responses(), **_METRICS})
def metrics(service: Use, caller: Reader) -> Response:
    """Get durations of requests and stages, job counts and index sizes."""
    if caller.is_bound:
        raise Problem("scope-missing", "the figures cover all collections, and the key does not")
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/v1/info", response_model=schemas.InfoDocument, responses=responses())
def info(service: Use, caller: Reader) -> dict[str, Any]:
    """Get the server's version, limits and counts, and the caller's scope."""
    library, options = service.library, service.options
    # Like the metrics, it covers all collections.
    recall = None if caller.is_bound else library.indexes.last_recall()
    counts = count_visible(library.catalog, caller.collections)
    return {
        "version": version("regard"),
        "profile": library.pipeline.profile,
        "refines": library.profile.grounding_problem() is None,
        "spaces": {
            stored.channel.space: stored.dimension for stored in library.pipeline.channels.values()
        },
        "counts": {
            "assets": counts.assets,
            "contents": counts.contents,
            "regions": counts.regions,
            "captions": counts.captions,
            "embeddings": counts.embeddings,
        },
        "limits": {
            "upload_bytes": options.upload_bytes,
            "upload_files": options.upload_files,
            "video_bytes": service.video_bytes,
            "pixels": service.limits.max_pixels,
            "page": MAX_PAGE,
            "hits": MAX_HITS,
        },
        "roots": sorted(options.roots),
        "scope": caller.scope.value,
        "collections": None if caller.collections is None else list(caller.collections),
        "keys_required": options.keys_required,
        "recall": None if recall is None else recall.to_json(),
    }
