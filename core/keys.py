"""Who calls: scopes, API keys as the catalog knows them, and what a caller may see.

No secret is in any of these records; only its holder has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AccessScope(StrEnum):
    """What a caller may do; each covers those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, other: AccessScope) -> bool:
        """Whether whoever has this scope may do what `other` allows."""
        order = list(AccessScope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the service. Times are naive UTC.

    `collections` names those that it is bound to, None is all; `last_used_at` is written at
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
    """Who makes a request: the holder of a key, or without one (`key_id` None) someone on this machine.

    `collections` are those that exist for the caller, None is all.
    """

    scope: AccessScope
    collections: tuple[str, ...] | None
    key_id: int | None

    @property
    def identity(self) -> str:
        """What tells this caller from others, at most 64 characters."""
        return "local" if self.key_id is None else f"key {self.key_id}"

    @property
    def is_admin(self) -> bool:
        """Whether paths of the server may be shown."""
        return self.scope.covers(AccessScope.ADMIN)

    @property
    def is_bound(self) -> bool:
        """Whether only some collections exist for the caller, who can then make no other."""
        return self.collections is not None

    def may_see(self, collection: str) -> bool:
        """Whether the collection of this name exists for the caller."""
        return self.collections is None or collection in self.collections


LOCAL = Caller(AccessScope.ADMIN, None, None)
"""Whoever calls a server that needs no key."""
