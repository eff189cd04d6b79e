"""Callers of the service: scopes, API keys as the catalog stores them, and access rules.

None of these records contains a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regard.core.words import composed


class AccessScope(StrEnum):
    """What a caller may do; each scope includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, other: AccessScope) -> bool:
        """Whether this scope allows everything that `other` allows."""
        order = list(AccessScope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the service. Times are naive UTC.

    `collections` are the names it is restricted to, None for all; `last_used_at` is updated at
    most once a minute.
    """

    id: int
    name: str
    scope: AccessScope
    collections: tuple[str, ...] | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the holder of a key, or a local user without one (`key_id` None).

    `collections` are those the caller may see, None for all.
    """

    scope: AccessScope
    collections: tuple[str, ...] | None
    key_id: int | None

    @property
    def identity(self) -> str:
        """A unique name of at most 64 characters."""
        return "local" if self.key_id is None else f"key {self.key_id}"

    @property
    def is_admin(self) -> bool:
        """Whether the caller may see paths of the server."""
        return self.scope.covers(AccessScope.ADMIN)

    @property
    def is_bound(self) -> bool:
        """Whether the caller is restricted to some collections and can't create others."""
        return self.collections is not None

    def may_see(self, collection: str) -> bool:
        """Whether the caller may see the collection of this name."""
        return self.collections is None or composed(collection) in self.collections


LOCAL = Caller(AccessScope.ADMIN, None, None)
"""The caller of a server that needs no key."""
