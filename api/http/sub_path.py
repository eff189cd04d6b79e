"""Serving below a sub-path of a proxy, such as https://host/photos/.

The proxy may take the prefix off or leave it on. Everything behind `SubPath` sees paths without
it, and what builds addresses (documents, the session cookie, OpenAPI) asks `current_prefix`.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from regard.core.errors import UsageError

_current: ContextVar[str] = ContextVar("prefix", default="")
# Segments as RFC 3986 writes them; none is empty, "." or "..".
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})+)+")
# What `quote` leaves for `_PREFIX` to judge.
_KEPT = "/%?#[]\\<>\"^`{|} ,!$&'()*+;=:@"
# A prefix that starts with these would not be told from the server's own paths.
_OWN = ("/v1", "/web")


def read_prefix(text: str) -> str:
    """A prefix without a slash at its end, "" for the root; raises UsageError for any other text.

    Letters outside ASCII become %-escapes.
    """
    prefix = quote(text.rstrip("/"), safe=_KEPT)
    if prefix and not _is_prefix(prefix):
        raise UsageError(
            f"{text!r} is not a path that a server can have",
            remedy="give --root-path a path such as /photos, but not /v1 or /web",
        )
    return prefix


def current_prefix() -> str:
    """The prefix of the request that is being answered; "" at the root."""
    return _current.get()


class SubPath:
    """Takes the prefix off the path of each request.

    The prefix is that of the header `X-Forwarded-Prefix` if it is one, else the operator's. The
    header needs no trust: it changes addresses in the answer to its sender alone.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """`prefix` as `read_prefix` gives it."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request; the prefix without a slash behind it redirects to the page."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
        prefix = given if _is_prefix(given) else self._prefix
        plain, path = unquote(prefix), scope["path"]
        if prefix and path == plain:
            query = scope["query_string"].decode("latin-1")
            target = f"{prefix}/?{query}" if query else f"{prefix}/"
            await RedirectResponse(target, 308)(scope, receive, send)
            return
        if prefix and path.startswith(f"{plain}/"):
            path = path[len(plain) :]
        _current.set(prefix)
        await self._app({**scope, "path": path}, receive, send)


def _is_prefix(text: str) -> bool:
    return (
        len(text) <= 200
        and _PREFIX.fullmatch(text) is not None
        and not any(f"{text}/".startswith(f"{own}/") for own in _OWN)
    )
