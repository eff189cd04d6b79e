"""ASGI guards around the whole application: hosts, origins, security headers and body sizes.

Browsers let any page send requests to this server, on loopback too. Checking `Host` stops DNS
rebinding; checking `Origin` stops cross-site requests. The guards wrap the application, so its
error responses carry the security headers too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regard.api.http.problems import problem_document, problem_response

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\\\[\]]+)(?::(\d{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ORIGINAL = re.compile(r"/v1/assets/[^/]+/(?:original|motion)")
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self'; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# An uploaded file that is opened directly must not run scripts, whatever type a browser detects.
_ORIGINAL_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}


def guarded(
    app: ASGIApp,
    *,
    hosts: Collection[str],
    cors_origins: Collection[str] = (),
    max_json_bytes: int,
    multipart_paths: Collection[str],
) -> ASGIApp:
    """Wrap an application in all guards.

    `hosts` are names and addresses without ports. `cors_origins` are origins such as
    `https://dam.example` whose pages may read answers. Bodies are limited to `max_json_bytes`,
    except multipart bodies sent to `multipart_paths`, whose routes parse them incrementally and
    have their own limits.
    """
    inner: ASGIApp = BodyLimit(app, max_json_bytes, multipart_paths)
    if cors_origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=[
                *("Authorization", "Idempotency-Key", "Last-Event-ID", "Range", "If-Range"),
                *("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
            ],
            expose_headers=[
                *("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag"),
                *("Last-Modified", "Idempotent-Replayed"),
            ],
        )
    return SecurityHeaders(HostGuard(OriginGuard(inner, cors_origins), hosts))


def host_name(host: str) -> str:
    """Normalise a host for comparison: lower case, addresses without brackets in shortest form."""
    name = host.removeprefix("[").removesuffix("]").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


class HostGuard:
    """Refuses requests for other hosts with 421, and requests without exactly one `Host` with
    400."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """`allowed` are names and addresses without ports."""
        self._app = app
        self._allowed = {host_name(host) for host in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or refuse it."""
        if scope["type"] == "websocket":
            # regard has no websockets, and they must not bypass the guards.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and (refusal := self._refusal(Headers(scope=scope))):
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> dict[str, object] | None:
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return problem_document("bad-request", "the request must have exactly one Host header")
        if host_name(found[1]) in self._allowed:
            return None
        return problem_document(
            "host-refused",
            f"this server does not serve the host {found[1]}",
            remedy="use the address it was started with, or start it with --allow-host",
        )


class OriginGuard:
    """Refuses cross-site requests with 403. `HostGuard` must check the host first.

    Clients other than browsers do not send these headers, and pass.
    """

    def __init__(self, app: ASGIApp, cors_origins: Collection[str] = ()) -> None:
        """`cors_origins` are allowed besides the server's own origin."""
        self._app = app
        self._cors_origins = {_origin(origin) for origin in cors_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or refuse it."""
        if scope["type"] == "http" and not self._passes(scope, Headers(scope=scope)):
            document = problem_document(
                "origin-refused",
                remedy="to allow this site, start the server with --cors-origin",
            )
            await problem_response(document)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _passes(self, scope: Scope, headers: Headers) -> bool:
        origins = headers.getlist("origin")
        if origins:
            return len(origins) == 1 and self._is_known(origins[0], headers["host"])
        if headers.get("sec-fetch-site", "").lower() != "cross-site":
            return True
        # Following a link from another site to the page is safe: that site can't read the answer.
        return (
            scope["method"] == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest", "document") == "document"
            and not _is_api(scope["path"])
        )

    def _is_known(self, origin: str, host: str) -> bool:
        given = _origin(origin)
        if given is None:
            return False
        # A proxy may hide which scheme the browser used.
        own = {_origin(f"{scheme}://{host}") for scheme in _DEFAULT_PORTS}
        return given in own or given in self._cors_origins


class SecurityHeaders:
    """Adds security headers to every answer, and `no-store` to API answers without
    `Cache-Control`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, and add the headers to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        policy = _ORIGINAL_POLICY if _ORIGINAL.fullmatch(path) else _CONTENT_POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy
                for name, value in _HEADERS.items():
                    headers[name] = value
                if _is_api(path):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Refuses bodies above the limit with 413 before a route reads them, whatever their declared
    length."""

    def __init__(self, app: ASGIApp, max_json_bytes: int, multipart_paths: Collection[str]) -> None:
        """Multipart bodies for `multipart_paths` are not limited here."""
        self._app = app
        self._max_bytes = max_json_bytes
        self._multipart_paths = frozenset(multipart_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then forward the request or refuse it."""
        if scope["type"] != "http" or not self._is_limited(scope):
            await self._app(scope, receive, send)
            return
        body = await self._read(Headers(scope=scope), receive)
        if body is None:
            document = problem_document(
                "too-large", f"the body is larger than {self._max_bytes} bytes"
            )
            # The unread rest of the body would be parsed as the next request.
            response = problem_response(document, {"Connection": "close"})
            await response(scope, receive, send)
            return
        messages = [*body]

        async def receive_again() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, receive_again, send)

    def _is_limited(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind != "multipart/form-data" or scope["path"] not in self._multipart_paths

    async def _read(self, headers: Headers, receive: Receive) -> list[Message] | None:
        """The messages of the whole body; None if it is too large."""
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            return None
        messages, size = [], 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                return None
            if message["type"] != "http.request" or not message.get("more_body", False):
                return messages


def _is_api(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _origin(text: str) -> tuple[str, str, str] | None:
    """Scheme, host and port of an origin; None if it is not one (`null`, for example)."""
    scheme, found, rest = text.partition("://")
    host = _HOST.fullmatch(rest) if found else None
    if host is None or scheme not in _DEFAULT_PORTS:
        return None
    return scheme, host_name(host[1]), host[2] or _DEFAULT_PORTS[scheme]
