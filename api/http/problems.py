"""What goes wrong, as problem details (RFC 9457), in one table from errors to names and statuses.

A problem's name is stable and is all that a program should look at. Sentences of core errors may speak of
files of the server, and of collections that do not exist for the caller: what is shown of them depends on
who calls. Nothing of an unforeseen error is shown to anyone; it is logged.
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
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from regard.core import errors
from regard.core.errors import MalformedQuery, RegardError
from regard.core.keys import Caller

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: its HTTP status, what it is called, and what to say when no more may be said."""

    status: int
    title: str
    unspecific: str


PROBLEMS: Mapping[str, ProblemKind] = {
    "bad-request": ProblemKind(400, "Malformed request", "the request is malformed"),
    "key-required": ProblemKind(401, "Key required", "this server needs a key"),
    "key-invalid": ProblemKind(401, "Key invalid", "the key is unknown or was revoked"),
    "scope-missing": ProblemKind(403, "Scope missing", "the key does not allow this call"),
    "origin-refused": ProblemKind(403, "Origin refused", "another site may not make this request"),
    "outside-roots": ProblemKind(403, "Outside the roots", "this lies outside what may be read"),
    "not-found": ProblemKind(404, "Not found", "there is no such thing"),
    "method-not-allowed": ProblemKind(405, "Method not allowed", "the address has no such method"),
    "conflict": ProblemKind(409, "Conflict", "the state of things does not allow this now"),
    "name-taken": ProblemKind(409, "Name taken", "the name is taken"),
    "external-id-taken": ProblemKind(409, "External id taken", "the external id is taken"),
    "collection-not-empty": ProblemKind(
        409, "Collection not empty", "the collection holds photographs"
    ),
    "job-not-running": ProblemKind(409, "Job not running", "the job has ended"),
    "job-running": ProblemKind(409, "Job running", "the job has not ended"),
    "original-changed": ProblemKind(
        409, "Original changed", "the file is not the one that was indexed"
    ),
    "original-gone": ProblemKind(410, "Original gone", "the file is missing or can't be read"),
    "too-large": ProblemKind(413, "Too large", "the request is larger than this server takes"),
    "unsupported-media": ProblemKind(415, "Unsupported media", "this kind of file is not taken"),
    "range-not-satisfiable": ProblemKind(416, "No such range", "the file has no such part"),
    "host-refused": ProblemKind(421, "Host refused", "this server does not go by that name"),
    "validation": ProblemKind(422, "Validation failed", "the request is wrong"),
    "unusable-image": ProblemKind(422, "Unusable image", "the file is no usable photograph"),
    "unanswerable-query": ProblemKind(422, "Unanswerable query", "the query can't be answered"),
    "malformed-query": ProblemKind(
        422, "Malformed query", "the query breaks the rules of the query language"
    ),
    "idempotency-key-reused": ProblemKind(
        422, "Idempotency key reused", "another request came under this idempotency key"
    ),
    "internal": ProblemKind(
        500, "Internal error", "something went wrong that should not; the server's log tells what"
    ),
    "unavailable": ProblemKind(
        503, "Unavailable", "the models, the database or the indexes can't be used now"
    ),
}

# The nearest class counts. Routes that know better raise a Problem, or translate by `named`.
_NAMES: Mapping[type[RegardError], str] = {
    errors.UsageError: "validation",
    errors.UnanswerableQuery: "unanswerable-query",
    errors.MalformedQuery: "malformed-query",
    errors.CannotWork: "unavailable",
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
# An absolute path, of POSIX or Windows.
_PATH = re.compile(r"(?<![\w/])/[^\s/]|\b[A-Za-z]:\\|\\\\\w")


class FieldError(BaseModel):
    """One wrong parameter or field."""

    where: str = Field(description="where it stands", examples=["query.limit"])
    message: str


class ProblemDocument(BaseModel):
    """Why a request was refused or failed (RFC 9457)."""

    type: str = Field(description="stable", examples=["/v1/problems/not-found"])
    title: str
    status: int
    detail: str = Field(description="one sentence")
    remedy: str | None = Field(description="what mends it")
    errors: list[FieldError] = Field([], description="of a validation problem alone")
    position: int | None = Field(
        None, description="of a malformed query alone: where its wrong part begins, in characters"
    )
    length: int | None = Field(None, description="how many characters the wrong part has")


class Problem(Exception):
    """Ends a request with the problem of this name; all that it says is shown to whoever calls."""

    def __init__(
        self,
        name: str,
        detail: str | None = None,
        *,
        remedy: str | None = None,
        errors: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`name` is one of `PROBLEMS`; `detail` None says what the kind says."""
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
    """Whether something in it looks like an absolute path."""
    return _PATH.search(sentence) is not None


def problem_of(
    error: RegardError, caller: Caller | None, name: str | None = None
) -> dict[str, Any]:
    """The JSON for a core error, with what this caller may know of it; None is nobody known.

    `name` stands in for the table's.
    """
    if isinstance(error, MalformedQuery):
        # It speaks of nothing but the query, which is the caller's own.
        document = problem_document("malformed-query", error.message, error.remedy)
        return {**document, "position": error.position, "length": error.length}
    if name is None:
        name = next(_NAMES[kind] for kind in type(error).__mro__ if kind in _NAMES)
    if caller is None or not caller.is_admin:
        if PROBLEMS[name].status >= 500 or names_path(error.message):
            return problem_document(name)
        if error.remedy is not None and names_path(error.remedy):
            return problem_document(name, error.message)
    # A remedy may list what there is instead, which need not exist for a bound key.
    remedy = None if caller is None or caller.is_bound else error.remedy
    return problem_document(name, error.message, remedy)


def invalid_field(where: str, message: str) -> RequestValidationError:
    """The validation error of one parameter or field, `body.box`."""
    return RequestValidationError(
        [{"loc": tuple(where.split(".")), "msg": message, "type": "value_error"}]
    )


@contextlib.contextmanager
def named(error: type[RegardError], name: str, caller: Caller) -> Iterator[None]:
    """Give a core error raised in the block another name than the table's."""
    try:
        yield
    except error as raised:
        document = problem_of(raised, caller, name)
        raise Problem(name, document["detail"], remedy=document["remedy"]) from raised


def problem_response(
    document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem's JSON as the answer."""
    return JSONResponse(
        document, status_code=document["status"], headers=headers, media_type=_MEDIA_TYPE
    )


def responses(*names: str, takes_key: bool = True) -> Responses:
    """FastAPI's `responses=` for an operation that may end in these problems and the common ones."""
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
    found = list(map(_field_error, error.errors()))
    first = f"{found[0].where}: {found[0].message}" if found else None
    return problem_response(problem_document("validation", first, errors=found))


def _field_error(item: Mapping[str, Any]) -> FieldError:
    if item["type"] == "json_invalid" and "error" in item.get("ctx", ()):
        # FastAPI counts the characters where others name the field.
        reason, place = item["ctx"]["error"], item["loc"][-1]
        message = f"it is no JSON: {reason} at character {place}"
        return FieldError(where=str(item["loc"][0]), message=message)
    return FieldError(
        where=".".join(map(str, item["loc"])),
        message=str(item["msg"]).removeprefix("Value error, "),
    )


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    name = _NAMES_BY_STATUS.get(
        error.status_code, "bad-request" if error.status_code < 500 else "internal"
    )
    detail = error.detail if name == "bad-request" else None
    if name == "not-found":
        detail = f"there is nothing at {request.url.path}"
    headers = dict(error.headers or {})
    if name == "method-not-allowed":
        # Of several operations at one address the router names those of one.
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
    # The traceback follows: Starlette raises the error again for the server to log.
    _log.error("%s %s failed: %r", request.method, request.url.path, error)
    return problem_response(problem_document("internal"))
