"""Problem details (RFC 9457): one table from errors to problem names and statuses.

A problem's name is stable; programs should use nothing else. Messages of core errors may mention
server paths, or collections that the caller may not see, so what is shown depends on the caller.
Unexpected errors are logged and never shown.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from regard.api.validation import refused_values
from regard.core import errors
from regard.core.errors import MalformedQuery, RegardError
from regard.core.keys import Caller

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: HTTP status, title, and the detail when nothing more specific may be
    shown."""

    status: int
    title: str
    unspecific: str


PROBLEMS: Mapping[str, ProblemKind] = {
    "bad-request": ProblemKind(400, "Malformed request", "the request is malformed"),
    "key-required": ProblemKind(401, "Key required", "this server needs a key"),
    "key-invalid": ProblemKind(401, "Key invalid", "the key is unknown or was revoked"),
    "scope-missing": ProblemKind(403, "Scope missing", "the key does not allow this call"),
    "origin-refused": ProblemKind(403, "Origin refused", "another site may not make this request"),
    "outside-roots": ProblemKind(
        403, "Outside the roots", "the path is outside the folders that may be read"
    ),
    "not-found": ProblemKind(404, "Not found", "it does not exist"),
    "method-not-allowed": ProblemKind(
        405, "Method not allowed", "this address does not support the method"
    ),
    "conflict": ProblemKind(409, "Conflict", "the current state does not allow this"),
    "name-taken": ProblemKind(409, "Name taken", "the name is already in use"),
    "external-id-taken": ProblemKind(409, "External id taken", "the external id is already in use"),
    "collection-not-empty": ProblemKind(
        409, "Collection not empty", "the collection contains photographs"
    ),
    "job-not-running": ProblemKind(409, "Job not running", "the job has ended"),
    "job-running": ProblemKind(409, "Job running", "the job has not ended yet"),
    "original-changed": ProblemKind(
        409, "Original changed", "the file has changed since it was indexed"
    ),
    "original-gone": ProblemKind(410, "Original gone", "the file is missing or can't be read"),
    "precondition-failed": ProblemKind(
        412, "Precondition failed", "the file is not the version that the request names"
    ),
    "too-large": ProblemKind(413, "Too large", "the request is larger than this server accepts"),
    "unsupported-media": ProblemKind(
        415, "Unsupported media", "this type of content is not accepted"
    ),
    "range-not-satisfiable": ProblemKind(416, "No such range", "the file has no such range"),
    "host-refused": ProblemKind(421, "Host refused", "this server does not serve that host"),
    "validation": ProblemKind(422, "Validation failed", "the request is invalid"),
    "unusable-image": ProblemKind(422, "Unusable image", "the file is not a usable photograph"),
    "unanswerable-query": ProblemKind(422, "Unanswerable query", "the query can't be answered"),
    "malformed-query": ProblemKind(
        422, "Malformed query", "the query is not valid in the query language"
    ),
    "idempotency-key-reused": ProblemKind(
        422, "Idempotency key reused", "this idempotency key was used for another request"
    ),
    "internal": ProblemKind(
        500, "Internal error", "an unexpected error occurred; see the server's log"
    ),
    "unavailable": ProblemKind(
        503, "Unavailable", "the models, the database or the indexes are unavailable"
    ),
    "engine-unavailable": ProblemKind(
        503, "Vector engine unavailable", "the vector engine is away; everything but search works"
    ),
}

# The nearest base class decides. Routes override it by raising a Problem, or with `named`.
_NAMES: Mapping[type[RegardError], str] = {
    errors.UsageError: "validation",
    errors.UnanswerableQuery: "unanswerable-query",
    errors.MalformedQuery: "malformed-query",
    errors.CannotWork: "unavailable",
    errors.EngineUnavailable: "engine-unavailable",
    errors.UnstorableValue: "validation",
    errors.NotFound: "not-found",
    errors.KeyReused: "idempotency-key-reused",
    errors.KeyInUse: "conflict",
    errors.OriginalGone: "original-gone",
    errors.OriginalChanged: "original-changed",
    errors.OutsideRoots: "outside-roots",
    errors.Conflict: "conflict",
    errors.NameTaken: "name-taken",
    errors.DecodeError: "unusable-image",
    RegardError: "internal",
}
_NAMES_BY_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media",
    503: "unavailable",
}
Responses = dict[int | str, dict[str, Any]]

_MEDIA_TYPE = "application/problem+json"
_COMMON = (
    "bad-request", "origin-refused", "host-refused", "too-large", "validation", "internal",
)  # fmt: skip
_COMMON_WITH_KEY = ("key-required", "key-invalid", "scope-missing", "unavailable")
# An absolute path on POSIX or Windows, or in a bucket.
_PATH = re.compile(r"(?<![\w/])/[^\s/]|\bs3://|\b[A-Za-z]:\\|\\\\\w")


class FieldError(BaseModel):
    """One invalid parameter or field."""

    where: str = Field(description="Path of the parameter or field.", examples=["query.limit"])
    message: str


class ProblemDocument(BaseModel):
    """Why a request was refused or failed (RFC 9457)."""

    type: str = Field(
        description="Stable identifier of the kind of problem.", examples=["/v1/problems/not-found"]
    )
    title: str
    status: int
    detail: str = Field(description="What went wrong, in one sentence.")
    remedy: str | None = Field(description="How to fix it.")
    errors: list[FieldError] = Field([], description="Only in `validation` problems.")
    position: int | None = Field(
        None,
        description="Only in `malformed-query` problems: index of the first invalid character.",
    )
    length: int | None = Field(None, description="Number of invalid characters.")


class Problem(Exception):
    """Ends a request with a problem. Every caller sees its whole text."""

    def __init__(
        self,
        name: str,
        detail: str | None = None,
        *,
        remedy: str | None = None,
        errors: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`name` is a key of `PROBLEMS`; its default detail is used if `detail` is None."""
        super().__init__(name)
        self.name = name
        self.document = problem_document(name, detail, remedy, errors)
        self.headers = dict(headers or {})


def problem_document(
    name: str,
    detail: str | None = None,
    remedy: str | None = None,
    errors: Sequence[FieldError] | None = None,
) -> dict[str, Any]:
    """The JSON of a problem; raises KeyError for a name that is not in `PROBLEMS`."""
    kind = PROBLEMS[name]
    document: dict[str, Any] = {
        "type": f"/v1/problems/{name}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail or kind.unspecific,
        "remedy": remedy,
    }
    if name == "validation":
        document["errors"] = [error.model_dump() for error in errors or ()]
    return document


def names_path(sentence: str) -> bool:
    """Whether a message contains an absolute path."""
    return _PATH.search(sentence) is not None


def problem_of(
    error: RegardError, caller: Caller | None, name: str | None = None
) -> dict[str, Any]:
    """The JSON for a core error, limited to what the caller may know; None is an unknown caller.

    `name` overrides the name in the table.
    """
    if isinstance(error, MalformedQuery):
        # The message is only about the caller's own query.
        document = problem_document("malformed-query", error.message, error.remedy)
        return {**document, "position": error.position, "length": error.length}
    if name is None:
        name = next(_NAMES[kind] for kind in type(error).__mro__ if kind in _NAMES)
    if caller is None or not caller.is_admin:
        if PROBLEMS[name].status >= 500 or names_path(error.message):
            return problem_document(name)
        if error.remedy is not None and names_path(error.remedy):
            return problem_document(name, error.message)
    # A remedy may list alternatives that a key bound to collections may not see.
    remedy = None if caller is None or caller.is_bound else error.remedy
    return problem_document(name, error.message, remedy)


def invalid_field(where: str, message: str) -> RequestValidationError:
    """A validation error for one parameter or field, such as `body.box`."""
    return RequestValidationError(
        [{"loc": tuple(where.split(".")), "msg": message, "type": "value_error"}]
    )


def invalid_values(error: ValidationError, place: str, given: object) -> RequestValidationError:
    """What a model refuses of the values given in `place`, which is `body` or `query`."""
    items = [{**item, "loc": (place, *item["loc"])} for item in error.errors()]
    return RequestValidationError(items, body=given)


@contextlib.contextmanager
def named(error: type[RegardError], name: str, caller: Caller) -> Iterator[None]:
    """Turn a core error raised in the block into the problem `name`."""
    try:
        yield
    except error as raised:
        document = problem_of(raised, caller, name)
        raise Problem(name, document["detail"], remedy=document["remedy"]) from raised


def problem_response(
    document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response with a problem's JSON."""
    return JSONResponse(
        document, status_code=document["status"], headers=headers, media_type=_MEDIA_TYPE
    )


def responses(*names: str, takes_key: bool = True) -> Responses:
    """FastAPI's `responses=` for an operation that may end in these problems and the common
    ones."""
    by_status: dict[int | str, list[str]] = {}
    for name in dict.fromkeys((*_COMMON, *(_COMMON_WITH_KEY if takes_key else ()), *names)):
        by_status.setdefault(PROBLEMS[name].status, []).append(name)
    # `openapi.complete_openapi` adds schema and examples: FastAPI drops null values of examples.
    return {
        status: {"description": ", ".join(f"`{name}`" for name in listed)}
        for status, listed in by_status.items()
    }


def handle_errors(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RegardError, _on_core_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unforeseen)


def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(error.document, error.headers)


def _on_core_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RegardError)
    document = problem_of(error, getattr(request.state, "caller", None))
    if document["status"] >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, error)
    return problem_response(document)


def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = _field_errors(error)
    first = f"{found[0].where}: {found[0].message}" if found else None
    return problem_response(problem_document("validation", first, errors=found))


def _field_errors(error: RequestValidationError) -> list[FieldError]:
    items = error.errors()
    if items and items[0]["type"] == "json_invalid" and "error" in items[0].get("ctx", ()):
        # FastAPI's location ends with a character's index, Pydantic's own reason with its place.
        place, *index = items[0]["loc"]
        message = f"not valid JSON: {items[0]['ctx']['error']}"
        if index:
            message += f" at character {index[-1]}"
        return [FieldError(where=str(place), message=message)]
    is_body = bool(items) and items[0]["loc"][:1] == ("body",) and error.body is not None
    refused = refused_values(items, {"body": error.body} if is_body else None)
    return [FieldError(where=where, message=message) for where, message in refused]


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    name = _NAMES_BY_STATUS.get(
        error.status_code, "bad-request" if error.status_code < 500 else "internal"
    )
    detail = error.detail if name == "bad-request" else None
    if name == "not-found":
        detail = f"nothing exists at {request.url.path}"
    headers = dict(error.headers or {})
    if name == "method-not-allowed":
        # Starlette lists only the methods of the first matching route.
        headers["Allow"] = ", ".join(_methods_at(request))
    return problem_response(problem_document(name, detail), headers)


def _methods_at(request: Request) -> list[str]:
    found = []
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found += [method, "HEAD"] if method == "GET" else [method]
    return found


def _on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises the error again, so the server logs the traceback.
    _log.error("%s %s failed: %r", request.method, request.url.path, error)
    return problem_response(problem_document("internal"))
