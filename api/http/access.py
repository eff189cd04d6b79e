"""Who makes a request, and whether that is enough for it: keys in a header or a cookie, and scopes.

On loopback nobody needs a key, and whoever sends none may do everything. A key that is sent has to be valid
everywhere, and limits its holder everywhere. Routes depend on a `Requires`, and look at nothing but the
`Caller` that they get.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from regard.api.http.guards import LOOPBACK_HOSTS, host_name
from regard.api.http.problems import Problem
from regard.core.errors import CannotWork
from regard.core.keys import LOCAL, AccessScope, Caller
from regard.storage.service.keys import SqlKeys

COOKIE = "regard_session"

KEY_SCHEME = "key"


class Access:
    """Identifies the caller of a request by the key that it sends."""

    def __init__(self, keys: SqlKeys, *, required: bool) -> None:
        """`required`: whether a request without a key is refused, see `check_may_start`."""
        self.required = required
        self._keys = keys

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
    """A dependency that gives the caller, and refuses one without the scope.

    READ may search, list and get; WRITE may also upload, import, edit and run jobs; ADMIN may do
    everything.
    One dependency checks header, cookie and scope, because FastAPI spends more time on a dependency
    than finding a key takes.
    """

    def __init__(self, scope: AccessScope) -> None:
        self._scope = scope
        # Read by FastAPI for the OpenAPI document.
        self.model = HTTPBearer()
        self.scheme_name = KEY_SCHEME

    async def __call__(self, request: Request) -> Caller:
        """See `Access.caller`; the service of the application has the `Access`."""
        access: Access = request.app.state.service.access
        return await access.caller(request, self._scope)


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
