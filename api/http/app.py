"""The application: guards around routers over one service, and the page's files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regard.api.http.access import session_router
from regard.api.http.dependencies import only_known_parameters
from regard.api.http.examples import document_examples
from regard.api.http.guards import guarded
from regard.api.http.problems import install
from regard.api.http.reference import reference_router
from regard.api.http.routers import (
    assets,
    collections,
    duplicates,
    files,
    jobs,
    pipelines,
    search,
    uploads,
)
from regard.api.http.routers import service as service_routes
from regard.api.http.search_requests import SearchRequest
from regard.api.http.service import Service

_WEB = Path(__file__).resolve().parent.parent / "web"
_JSON_BYTES = 1 << 20
_MULTIPART = ("/v1/assets", "/v1/search")
_UNKNOWN_ROUTE = "-"
_CLOSE_SECONDS = 2.0


def create_app(service: Service) -> ASGIApp:
    """The application of a service, behind its guards; it warms up in the background when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        background = threading.Thread(target=service.run_in_background, name="models", daemon=True)
        background.start()
        yield
        service.close()
        # Unless it is in the midst of loading models.
        background.join(_CLOSE_SECONDS)

    app = FastAPI(
        title="regard",
        version=version("regard"),
        description="Find photographs, and the things in them, by text and by image.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(only_known_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    # In the order in which they are tried: searches are what waits least, `/assets/bulk` is no asset, and
    # uploads share their address with lists.
    for module in (
        search,
        uploads,
        assets,
        files,
        collections,
        duplicates,
        jobs,
        pipelines,
        service_routes,
    ):
        app.include_router(module.router)
    app.include_router(session_router(service.access))
    app.include_router(reference_router(app, service.access))
    install(app)
    _document(app, SearchRequest)
    _build_routes(app)
    # No API route: the page's address carries the page's own state, which is no parameter of the API.
    app.add_route("/", _page, include_in_schema=False)
    app.mount("/web", _Files(directory=_WEB))
    return guarded(
        _Measured(app, service),
        hosts=service.options.allowed_hosts,
        cors_origins=service.options.cors_origins,
        max_json_bytes=_JSON_BYTES,
        multipart_paths=_MULTIPART,
    )


def _build_routes(app: FastAPI) -> None:
    """Have all routes built now: FastAPI does it at first use, and no other thread may warn meanwhile."""
    nowhere = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)


def _document(app: FastAPI, model: type[BaseModel]) -> None:
    """Put a model into the OpenAPI document that a handler reads by itself, and examples of answers."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        if model.__name__ not in schemas:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
            document_examples(document)
        return document

    # FastAPI's own way to extend it.
    app.openapi = openapi  # type: ignore[method-assign]


async def _page(_request: Request) -> FileResponse:
    return FileResponse(_WEB / "index.html", headers={"Cache-Control": "no-cache"})


class _Files(StaticFiles):
    """The page's files, which a browser asks about each time: they change with the version alone."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """As Starlette's, with a word on caching."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Measured:
    """Counts every request and how long it took, by its route; HEAD gets what GET does, less the body."""

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
                # Here it ends, so that neither a large file is read for nobody nor events waited for.
                message, has_ended = {"type": "http.response.body", "body": b""}, True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", _UNKNOWN_ROUTE)
            elapsed = time.perf_counter() - started
            self._metrics.observe_request(method, route, status, elapsed)
