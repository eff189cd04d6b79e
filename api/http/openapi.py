"""The OpenAPI document: what FastAPI generates, completed with problems, examples and security."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse

from regard.api.http.access import COOKIE, KEY_SCHEME, Requires
from regard.api.http.examples import EXAMPLES
from regard.api.http.problems import PROBLEMS, ProblemDocument, problem_document
from regard.api.http.reference import problem_page, reference_page
from regard.api.http.search_requests import SearchRequest
from regard.api.http.sub_path import current_prefix
from regard.core.errors import NotFound
from regard.core.keys import AccessScope

LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "the server that serves this document"}]
TAGS = [
    {"name": "search", "description": "Search by text, by image, or by anything indexed."},
    {"name": "assets", "description": "Upload, list, edit and delete assets."},
    {"name": "files", "description": "Originals and thumbnails."},
    {"name": "regions", "description": "Segments of photographs: boxes, crops and masks."},
    {"name": "collections", "description": "Named sets of assets."},
    {"name": "albums", "description": "Albums of photographs, and saved searches."},
    {"name": "changes", "description": "The log of added, changed and removed assets."},
    {"name": "duplicates", "description": "Copies, edited copies, bursts and the same object."},
    {"name": "jobs", "description": "Imports, analyses and other work in the background."},
    {"name": "pipelines", "description": "The models of the home, and changing them."},
    {"name": "service", "description": "Health, metrics, limits and browser sessions."},
]

_SCHEMAS = "#/components/schemas/"
_PROBLEM_TYPE = "application/problem+json"
_SESSION_SCHEME = "session"


def complete_openapi(app: FastAPI) -> None:
    """Make `app.openapi` give the completed document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        # FastAPI returns the same dictionary until the routes change.
        if "Problem" not in document.setdefault("components", {}).setdefault("schemas", {}):
            _add_schemas(document["components"]["schemas"])
            _add_security(document)
            for operation in _operations(document):
                _add_problem_contents(operation["responses"])
        return document

    # The extension point that FastAPI documents.
    app.openapi = openapi  # type: ignore[method-assign]


def reference_router(app: FastAPI) -> APIRouter:
    """`/v1/openapi.json` and `/v1/docs` of an application, and a page for each problem's type.

    The page of a problem needs no key: a caller may be told that it needs one.
    """
    router = APIRouter(include_in_schema=False)
    needs_key = [Depends(Requires(AccessScope.READ))]

    @router.get("/v1/openapi.json", dependencies=needs_key)
    async def document() -> JSONResponse:
        servers = [{**SERVERS[0], "url": current_prefix() or "/"}]
        return JSONResponse({**app.openapi(), "servers": servers})

    @router.get("/v1/docs", dependencies=needs_key)
    async def page() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()))

    @router.get("/v1/problems/{name}")
    async def problem(name: str) -> HTMLResponse:
        if name not in PROBLEMS:
            raise NotFound(f"no problem is named {name}", remedy=f"known are {', '.join(PROBLEMS)}")
        return HTMLResponse(problem_page(name))

    return router


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _add_schemas(schemas: dict[str, Any]) -> None:
    """Add models that no route declares to FastAPI, and an example of every answer."""
    _add_model(schemas, "Problem", ProblemDocument)
    _add_model(schemas, "SearchRequest", SearchRequest)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, example in EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]


def _add_model(schemas: dict[str, Any], name: str, model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = {**schema, "title": name}


def _add_security(document: dict[str, Any]) -> None:
    """Every operation that takes a key takes the session cookie too; the others need neither."""
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes[_SESSION_SCHEME] = {"type": "apiKey", "in": "cookie", "name": COOKIE}
    for operation in _operations(document):
        takes_key = bool(operation.get("security"))
        operation["security"] = [{KEY_SCHEME: []}, {_SESSION_SCHEME: []}] if takes_key else []


def _add_problem_contents(answers: dict[str, Any]) -> None:
    """Give each answer made by `responses` its content, and FastAPI's own 422 ours."""
    validation = answers.get("422", {}).get("content", {}).get("application/json", {})
    if validation.get("schema", {}).get("$ref") == f"{_SCHEMAS}HTTPValidationError":
        answers["422"] = {"description": "`validation`"}
    for answer in answers.values():
        names = answer["description"].replace("`", "").split(", ")
        if "content" not in answer and set(names) <= set(PROBLEMS):
            examples = {name: {"value": problem_document(name)} for name in names}
            content = {"schema": {"$ref": f"{_SCHEMAS}Problem"}, "examples": examples}
            answer["content"] = {_PROBLEM_TYPE: content}
