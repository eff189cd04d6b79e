"""Who makes a request, and whether that is enough for it: keys in a header or a cookie, and scopes.

On loopback nobody needs a key, and whoever sends none may do everything. A key that is sent has to be valid
everywhere, and limits its holder everywhere. Routes depend on a `Requires`, and look at nothing but the
`Caller` that they get.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from typing import Any, Literal, TypedDict

from fastapi import APIRouter
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from regard.api.http.guards import LOOPBACK_HOSTS, host_name
from regard.api.http.problems import Problem, responses
from regard.core.errors import CannotWork
from regard.core.keys import LOCAL, AccessScope, Caller
from regard.storage.service.keys import SqlKeys

COOKIE = "regard_session"
COOKIE_SECONDS = 30 * 24 * 3600

_KEY, _SESSION = "key", "session"


class Access:
    """Tells who calls; `reader`, `writer` and `administrator` are FastAPI dependencies."""

    def __init__(self, keys: SqlKeys, *, required: bool) -> None:
        """`required`: whether a request without a key is refused, see `check_may_start`."""
        self.required = required
        self._keys = keys
        self.reader = Requires(AccessScope.READ, lambda _request: self)
        self.writer = Requires(AccessScope.WRITE, lambda _request: self)
        self.administrator = Requires(AccessScope.ADMIN, lambda _request: self)

    async def caller(self, request: Request, needed: AccessScope) -> Caller:
        """Who makes a request; raises the problems `key-required`, `key-invalid` and `scope-missing`."""
        caller = await self._identify(request)
        # For the problems of this request: what they may say depends on who calls.
        request.state.caller = caller
        if not caller.scope.covers(needed):
            raise Problem(
                "scope-missing",
                f"this call needs the scope {needed}, and the key has {caller.scope}",
            )
        return caller

    async def caller_of(self, secret: str) -> Caller:
        """Who holds this secret; raises the problem `key-invalid`."""
        # Usually remembered, and then no thread is worth it.
        key = self._keys.remembered(secret) or await run_in_threadpool(self._keys.find, secret)
        if key is None:
            raise _key_invalid()
        return Caller(key.scope, key.collections, key.id)

    async def _identify(self, request: Request) -> Caller:
        given = request.headers.getlist("authorization")
        if given:
            kind, _, secret = given[0].partition(" ")
            if len(given) != 1 or kind.lower() != "bearer":
                raise _key_invalid()
            return await self.caller_of(secret.strip())
        cookie = request.cookies.get(COOKIE)
        if cookie is not None:
            return await self.caller_of(cookie)
        if self.required:
            raise Problem(
                "key-required",
                remedy="send the header Authorization: Bearer KEY; regard keys create makes a key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return LOCAL


class Requires(SecurityBase):
    """A dependency that gives the caller: READ may search, list and get, WRITE upload, import, edit and run
    jobs as well, ADMIN do everything.

    One dependency and not one each for header, cookie and scope: FastAPI takes longer over each than
    finding a key does.
    """

    def __init__(self, needed: AccessScope, access_of: Callable[[Request], Access]) -> None:
        """`access_of` finds what tells who calls."""
        self._needed = needed
        self._access_of = access_of
        # What FastAPI documents; `document_session` adds the other way to send a key.
        self.model = HTTPBearer()
        self.scheme_name = _KEY

    async def __call__(self, request: Request) -> Caller:
        """See `Access.caller`."""
        return await self._access_of(request).caller(request, self._needed)


def document_session(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document that wherever a key may be sent, the cookie may be too."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    if _KEY not in schemes:
        return
    schemes[_SESSION] = {"type": "apiKey", "in": "cookie", "name": COOKIE}
    for operations in document["paths"].values():
        for operation in operations.values():
            ways = operation.get("security", [])
            if {_KEY: []} in ways and {_SESSION: []} not in ways:
                ways.append({_SESSION: []})


class SessionStart(BaseModel):
    """A key, to be kept in a cookie."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(max_length=200, examples=["rgd_…"])


def session_router(access: Access) -> APIRouter:
    """`/v1/session`: a browser's page hands its key over once, and can't read it again."""
    router = APIRouter(tags=["service"])

    @router.post("/v1/session", status_code=204, responses=responses())
    async def start_session(session: SessionStart, request: Request) -> Response:
        """Keep a key in a cookie, which then stands for it."""
        await access.caller_of(session.key)
        response = Response(status_code=204)
        response.set_cookie(COOKIE, session.key, max_age=COOKIE_SECONDS, **_attributes(request))
        return response

    @router.delete("/v1/session", status_code=204, responses=responses())
    async def end_session(request: Request) -> Response:
        """Drop the cookie, whatever is in it."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, **_attributes(request))
        return response

    return router


class _Attributes(TypedDict):
    path: str
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


def _attributes(request: Request) -> _Attributes:
    """No script reads the cookie, and no other site's request carries it."""
    return {
        "path": "/",
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
    }


def is_loopback(host: str) -> bool:
    """Whether a name or address of this server can be reached from this machine alone."""
    name = host_name(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name in LOOPBACK_HOSTS


def must_require_keys(bind_host: str, allow_hosts: Collection[str]) -> bool:
    """Whether more than this machine is to reach the server; both without ports."""
    return not all(map(is_loopback, (bind_host, *allow_hosts)))


def check_may_start(
    keys: SqlKeys, bind_host: str, allow_hosts: Collection[str], *, without_keys: bool
) -> bool:
    """Whether a server there has to ask for keys; `without_keys`: something before it does.

    Raises CannotWork when it has to and there is none.
    """
    if without_keys or not must_require_keys(bind_host, allow_hosts):
        return False
    if not keys.any_active():
        raise CannotWork(
            "a server that others can reach needs keys, and there is none",
            remedy="run: regard keys create NAME --scope admin, or add --without-keys if something "
            "before the server asks who they are",
        )
    return True


def _key_invalid() -> Problem:
    return Problem("key-invalid", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
