"""Sends requests to one server, repeats them where that is safe, and parses the answers.

A request is repeated when it changes nothing, is idempotent or has an Idempotency-Key, and any
request when no connection was made. The key is sent in an explicit header, so that nothing in the
environment replaces it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError
from pydantic import BaseModel, ValidationError

from regard.api.client.problems import connection_trouble, problem_of, shown_url
from regard.core.errors import CannotWork, UsageError


class _HasNext(Protocol):
    @property
    def next(self) -> str | None: ...


Answer = TypeVar("Answer", bound=BaseModel)
Page = TypeVar("Page", bound=_HasNext)
Item = TypeVar("Item")
Pairs = list[tuple[str, str]]
Parts = list[tuple[str, Any]]

# Before the second and the third attempt, in seconds.
_PAUSES = (0.2, 0.8)
_CONNECT_SECONDS = 10.0
# The first request with an Idempotency-Key may still run when its connection is lost.
_STILL_AT_WORK = "conflict"
_ANSWERED_IN_ORDER = 200, 201, 202, 204


@dataclass(frozen=True, slots=True)
class Call:
    """A request; `parts` opens a multipart form for each attempt.

    `repeatable` requests may be sent twice. `accepted` are the statuses that are not problems.
    """

    method: str
    path: str
    query: Pairs = field(default_factory=list)
    json: Any = None
    parts: Callable[[], AbstractContextManager[Parts]] | None = None
    idempotency_key: str | None = None
    repeatable: bool = False
    accepted: tuple[int, ...] = _ANSWERED_IN_ORDER

    def may_repeat(self, error: httpx.RequestError) -> bool:
        """Whether it may be sent again after this error."""
        if isinstance(error, httpx.ConnectError):
            return True
        broke_off = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        return broke_off and (self.repeatable or self.idempotency_key is not None)


class Connection:
    """Sends calls to one server. Thread-safe."""

    def __init__(self, base_url: str, key: str | None, timeout: float | None) -> None:
        """Raises UsageError for what is not the address of a server, or not a key."""
        self.url = _server_url(base_url)
        headers = {} if key is None else {"Authorization": f"Bearer {_require_key(key)}"}
        is_loopback = _is_loopback(self.url.host)
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Accept": "application/json, */*;q=0.5", **headers},
            # Keeps httpx from using a .netrc entry of the host.
            auth=lambda request: request,
            timeout=httpx.Timeout(timeout, connect=min(timeout or 1e9, _CONNECT_SECONDS)),
            # A proxy cannot reach the loopback of this machine.
            trust_env=not is_loopback,
            # Loading the certificates takes longer than a request, and here nothing uses them.
            verify=self.url.scheme == "https" or not is_loopback,
        )

    def close(self) -> None:
        """Close all sockets."""
        self._client.close()

    def send(self, call: Call) -> httpx.Response:
        """The answer with its whole body; raises ServerProblem, CannotWork."""
        if self._client.is_closed:
            raise CannotWork(
                f"the connection to {shown_url(self.url)} was closed", remedy="open it again"
            )
        for attempt in range(len(_PAUSES) + 1):
            is_last = attempt == len(_PAUSES)
            try:
                with _no_parts() if call.parts is None else call.parts() as parts:
                    response = self._client.send(self._request(call, parts))
            except httpx.RequestError as error:
                if is_last or not call.may_repeat(error):
                    raise connection_trouble(error, self.url) from error
            else:
                if response.status_code in call.accepted:
                    return response
                problem = problem_of(response)
                if is_last or attempt == 0 or problem.name != _STILL_AT_WORK:
                    raise problem
            time.sleep(_PAUSES[attempt])
        raise AssertionError("every attempt returns or raises")

    def read(self, answer: type[Answer], call: Call) -> Answer:
        """The document that answers a call; raises ServerProblem, CannotWork."""
        return self.parse(answer, self.send(call).content)

    def get(self, answer: type[Answer], path: str, query: Pairs | None = None) -> Answer:
        """The document at a path; raises ServerProblem, CannotWork."""
        return self.read(answer, Call("GET", path, query or [], repeatable=True))

    def content(self, path: str, query: Pairs) -> bytes:
        """The bytes at a path; raises ServerProblem, CannotWork."""
        return self.send(Call("GET", path, query, repeatable=True)).content

    def parse(self, answer: type[Answer], data: bytes | str) -> Answer:
        """Parse a document; raises CannotWork for any other kind of content."""
        try:
            # A newer server may send fields that this client does not know.
            return answer.model_validate_json(data, extra="ignore")
        except ValidationError as error:
            raise CannotWork(
                f"what answers at {shown_url(self.url)} is not regard of this version",
                remedy="check the address, and that both are of one version",
            ) from error

    @contextlib.contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """An answer whose body the block reads; both may raise ServerProblem, CannotWork."""
        response = self._open(call)
        try:
            yield response
        except httpx.RequestError as error:
            raise connection_trouble(error, self.url) from error
        finally:
            response.close()

    def events(self, path: str) -> Iterator[ServerSentEvent]:
        """Server-sent events until the stream ends or breaks; raises ServerProblem, CannotWork."""
        response = self._open(Call("GET", path, repeatable=True), {"Accept": "text/event-stream"})
        try:
            yield from EventSource(response).iter_sse()
        except SSEError as error:
            raise CannotWork(
                f"what answers at {shown_url(self.url)} sends no events",
                remedy="check the address, and what stands before the server",
            ) from error
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ReadTimeout):
            # The server may have ended; the next request shows whether it is there.
            return
        finally:
            response.close()

    def _open(self, call: Call, headers: Mapping[str, str] | None = None) -> httpx.Response:
        for pause in (*_PAUSES, None):
            try:
                request = self._request(call, None, headers)
                response = self._client.send(request, stream=True)
                if response.status_code in call.accepted:
                    return response
                with contextlib.closing(response):
                    response.read()
            except httpx.RequestError as error:
                if pause is None or not call.may_repeat(error):
                    raise connection_trouble(error, self.url) from error
            else:
                raise problem_of(response)
            time.sleep(pause)
        raise AssertionError("every attempt returns or raises")

    def _request(
        self, call: Call, parts: Parts | None, headers: Mapping[str, str] | None = None
    ) -> httpx.Request:
        sent = dict(headers or {})
        if call.idempotency_key is not None:
            sent["Idempotency-Key"] = call.idempotency_key
        return self._client.build_request(
            call.method,
            call.path,
            params=tuple(call.query),
            json=call.json,
            files=parts,
            headers=sent,
        )


def pairs(**values: object) -> Pairs:
    """Query parameters; None is left out, and a list gives one parameter for each value."""
    return [
        (name, _plain(item))
        for name, value in values.items()
        if value is not None
        for item in (value if isinstance(value, list | tuple) else [value])
    ]


def pages(
    read: Callable[[str | None], Page], take: Callable[[Page], Iterable[Item]]
) -> Iterator[Item]:
    """The items of all pages: `read` gets a page by its cursor, `take` returns its items."""
    cursor: str | None = None
    while True:
        page = read(cursor)
        yield from take(page)
        cursor = page.next
        if cursor is None:
            return


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def _no_parts() -> Iterator[None]:
    yield None


def _server_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise UsageError(
            f"{text!r} is not the address of a server", remedy="give one like http://127.0.0.1:8420"
        )
    if url.userinfo:
        raise UsageError("an address must not contain a password", remedy="give the key separately")
    return url


def _require_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("this is not a key", remedy="make one with: regard keys create NAME")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
