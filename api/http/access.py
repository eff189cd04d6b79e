"""Authentication and scopes: keys in a header or a cookie.

On loopback no key is needed, and a request without one may do everything. A key that is sent must
be valid, and its scope and collections apply, on loopback too. Routes depend on a `Requires` and
use only the `Caller` that it returns.
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
        """`required` refuses requests without a key; see `check_may_start`."""
        self.required = required
        self._keys = keys

    async def caller(self, request: Request, needed: AccessScope) -> Caller:
        """The caller of a request; raises the problems `key-required`, `key-invalid`,
        `scope-missing`."""
        caller = await self._identify(request)
        # Error handlers read it: what an error message may reveal depends on the caller.
        request.state.caller = caller
        if not caller.scope.covers(needed):
            raise Problem(
                "scope-missing",
                f"this call needs the scope {needed}, and the key has {caller.scope}",
            )
        return caller

    async def caller_of(self, secret: str) -> Caller:
        """The caller with this secret; raises the problem `key-invalid`."""
        # Usually cached; only a database lookup needs a thread.
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
                remedy="send the header Authorization: Bearer KEY; create a key with: regard keys create",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return LOCAL


class Requires(SecurityBase):
    """A dependency that gives the caller, and refuses one without the scope.

    READ may search, list and get; WRITE may also upload, import, edit and run jobs; ADMIN may do
    everything. One dependency checks header, cookie and scope, because FastAPI spends more time on
    a dependency than finding a key takes.
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
    """Whether a host name or address can be reached from this machine only."""
    name = host_name(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name in LOOPBACK_HOSTS


def must_require_keys(bind_host: str, allow_hosts: Collection[str]) -> bool:
    """Whether other machines can reach the server; hosts are given without ports."""
    return not all(map(is_loopback, (bind_host, *allow_hosts)))


def check_may_start(
    keys: SqlKeys, bind_host: str, allow_hosts: Collection[str], *, without_keys: bool
) -> bool:
    """Whether a server at this address must require keys.

    `without_keys` leaves authentication to a proxy. Raises CannotWork if keys are required and
    none exist.
    """
    if without_keys or not must_require_keys(bind_host, allow_hosts):
        return False
    if not keys.any_active():
        raise CannotWork(
            "a server that other machines can reach needs a key, and none exists",
            remedy="run: regard keys create NAME --scope admin, or add --without-keys if a proxy "
            "authenticates requests",
        )
    return True


def _key_invalid() -> Problem:
    return Problem("key-invalid", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
