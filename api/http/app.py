"""The application: routers over one service, the page's files, and the guards around both."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regard.api.http.dependencies import only_known_parameters
from regard.api.http.guards import guarded
from regard.api.http.openapi import LICENSE, SERVERS, TAGS, complete_openapi, reference_router
from regard.api.http.problems import handle_errors
from regard.api.http.routers import (
    albums,
    assets,
    changes,
    collections,
    duplicates,
    files,
    jobs,
    originals,
    pipelines,
    search,
    sessions,
    suggestions,
    uploads,
)
from regard.api.http.routers import service as service_routes
from regard.api.http.service import Service
from regard.api.http.sub_path import SubPath

_WEB = Path(__file__).resolve().parent.parent / "web"
# Routes are tried in this order: searches first, because latency matters most there, and
# `/assets/bulk` before `/assets/{id}`.
_ROUTERS = (
    search,
    uploads,
    assets,
    originals,
    files,
    collections,
    albums,
    changes,
    duplicates,
    jobs,
    pipelines,
    service_routes,
    sessions,
    suggestions,
)
_JSON_BYTES = 1 << 20
_MULTIPART_PATHS = ("/v1/assets", "/v1/search")
_UNKNOWN_ROUTE = "-"
_CLOSE_SECONDS = 2.0


def create_app(service: Service) -> ASGIApp:
    """The application of a service behind its guards. Models load in the background from
    startup."""
    app = create_api()
    app.state.service = service
    # Not an API route: the query string of the page's address is the page's state.
    app.add_route("/", _page, include_in_schema=False)
    app.mount("/web", _Files(directory=_WEB))
    _build_routes(app)
    inner = guarded(
        _Measured(app, service),
        hosts=service.options.allowed_hosts,
        cors_origins=service.options.cors_origins,
        max_json_bytes=_JSON_BYTES,
        multipart_paths=_MULTIPART_PATHS,
    )
    return SubPath(inner, service.options.prefix)


def create_api() -> FastAPI:
    """The API without a service: enough for its OpenAPI document."""
    app = FastAPI(
        title="regard",
        version=version("regard"),
        description="Search photographs, and the things in them, by text and by image.",
        license_info=LICENSE,
        servers=SERVERS,
        openapi_tags=TAGS,
        lifespan=_lifespan,
        # A redirect would lead out of a proxy's https and prefix.
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(only_known_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )
    for module in _ROUTERS:
        app.include_router(module.router)
    app.include_router(reference_router(app))
    handle_errors(app)
    complete_openapi(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    background = [
        threading.Thread(target=service.run_in_background, name="models", daemon=True),
        threading.Thread(target=service.keep_discarding_thumbnails, name="caches", daemon=True),
    ]
    for thread in background:
        thread.start()
    yield
    service.close()
    # Loading models can't be interrupted, so do not wait longer.
    for thread in background:
        thread.join(_CLOSE_SECONDS)


def _build_routes(app: FastAPI) -> None:
    """Build all routes now. FastAPI builds them at first use, which is not thread-safe."""
    nowhere = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


async def _page(_request: Request) -> FileResponse:
    return FileResponse(_WEB / "index.html", headers={"Cache-Control": "no-cache"})


class _Files(StaticFiles):
    """The page's files. Browsers revalidate them, because their names do not change with the
    version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Starlette's response with a `Cache-Control` header."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Measured:
    """Measures each request by route, and answers HEAD as GET without the body."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._metrics = service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, method = 500, scope["method"]
        is_head, has_ended = method == "HEAD", False
        if is_head:
            scope = {**scope, "method": "GET"}
        started = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status, has_ended
            if message["type"] == "http.response.start":
                status = message["status"]
            elif is_head:
                if has_ended:
                    return
                # End here, so that no file is read and no events are awaited.
                message, has_ended = {"type": "http.response.body", "body": b""}, True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", _UNKNOWN_ROUTE)
            elapsed = time.perf_counter() - started
            self._metrics.observe_request(method, route, status, elapsed)
