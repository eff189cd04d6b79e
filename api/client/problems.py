"""Errors for refused requests and failed connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from regard.core.errors import CannotWork

_TYPES = "/v1/problems/"
_NO_TYPE = "about:blank"


@dataclass(frozen=True, slots=True)
class WrongField:
    """A wrong parameter or field, and its place, such as `query.limit`."""

    where: str
    message: str


class ServerProblem(CannotWork):
    """The server refused a request, or failed to answer it (RFC 9457).

    `type` is stable; `name` is its last part, such as `not-found`, and empty for answers of other
    software, such as a proxy. A `validation` problem has `errors`, a `malformed-query` has
    `position` and `length` in characters of the query.
    """

    def __init__(
        self,
        type: str,
        status: int,
        detail: str,
        *,
        title: str = "",
        remedy: str | None = None,
        errors: tuple[WrongField, ...] = (),
        position: int | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(detail, remedy=remedy)
        self.type = type
        self.name = type.removeprefix(_TYPES) if type.startswith(_TYPES) else ""
        self.title = title
        self.status = status
        self.detail = detail
        self.errors = errors
        self.position = position
        self.length = length


def problem_of(response: httpx.Response) -> ServerProblem:
    """The problem in an answer whose body has been read."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("type"), str):
        return _from_document(document, response.status_code)
    what = f"{response.status_code} {response.reason_phrase}".strip()
    return ServerProblem(
        _NO_TYPE,
        response.status_code,
        f"what answers at {origin_of(response.request)} says {what}",
        remedy="check the address, and what stands before the server",
    )


def _from_document(document: Mapping[str, Any], status: int) -> ServerProblem:
    wrong = document.get("errors") or []
    remedy = document.get("remedy")
    return ServerProblem(
        document["type"],
        status,
        str(document.get("detail") or document.get("title") or f"the server says {status}"),
        title=str(document.get("title") or ""),
        remedy=None if remedy is None else str(remedy),
        errors=tuple(WrongField(str(one["where"]), str(one["message"])) for one in wrong),
        position=_number(document.get("position")),
        length=_number(document.get("length")),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def connection_trouble(error: httpx.RequestError, url: httpx.URL) -> CannotWork:
    """The error that says why a server did not answer."""
    where = shown_url(url)
    match error:
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            # A file that grew or shrank while it was read does not have the announced length.
            return CannotWork(
                f"the request to {where} could not be sent: {_reason(error)}",
                remedy="check that no file changes while it is sent, and try again",
            )
        case httpx.ConnectTimeout() | httpx.ConnectError():
            return CannotWork(
                f"no server can be reached at {where}: {_reason(error)}",
                remedy="check the address, and that regard serve runs there",
            )
        case httpx.TimeoutException():
            return CannotWork(
                f"the server at {where} did not answer in time",
                remedy="try again, with fewer files at once or more patience",
            )
    return CannotWork(
        f"the connection to {where} broke off: {_reason(error)}",
        remedy="check that the server still runs, and try again",
    )


def shown_url(url: httpx.URL) -> str:
    """A server's address without parts that may be secret."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")


def origin_of(request: httpx.Request) -> str:
    """Scheme, host and port that a request went to."""
    return shown_url(request.url.copy_with(path="/"))


def _reason(error: httpx.RequestError) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
