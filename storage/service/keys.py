"""The service's API keys in the catalog.

A key is `rgd_` and 32 random bytes in base64url; the catalog keeps only its SHA-256, which is
enough for a secret that can't be guessed. A key that was found is cached for less than a second:
searches need no query for it, and a revocation by another process takes effect within that second.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from regard.core.errors import HomeError, NotFound, UsageError
from regard.core.keys import AccessScope, ApiKey
from regard.core.words import composed
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog

REMEMBERED_SECONDS = 0.5
USE_NOTED_SECONDS = 60.0
_SECRET = re.compile(r"rgd_[A-Za-z0-9_-]{43}", re.ASCII)


class SqlKeys:
    """Makes, finds and revokes keys; safe to use from several threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._database = catalog.database
        # By hash: the key found and when it expires from here. Only existing keys are cached.
        self._remembered: dict[str, tuple[float, ApiKey]] = {}
        self._noted: dict[int, float] = {}
        self._lock = threading.Lock()

    def create(
        self, name: str, scope: AccessScope, collections: Sequence[str] | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key; return it and its secret, which is not stored.

        `collections` None means all.

        Raises UsageError for a blank name or no collection, NotFound for one that does not exist.
        """
        if not name.strip():
            raise UsageError(
                "the key's name is empty", remedy="give it a name that says who uses it"
            )
        if collections is not None and not collections:
            raise UsageError(
                "the key is bound to no collection", remedy="name one, or bind it to none"
            )
        bound = None if collections is None else tuple(dict.fromkeys(map(composed, collections)))
        secret = "rgd_" + secrets.token_urlsafe(32)
        with self._database.writing() as connection:
            _require_collections(connection, bound or ())
            row = connection.execute(
                insert(schema.api_key)
                .values(
                    name=name,
                    secret_sha256=_sha256(secret),
                    scope=scope.value,
                    collections=None if bound is None else json.dumps(bound),
                    created_at=_now(),
                )
                .returning(schema.api_key)
            ).one()
            return _api_key(row), secret

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret, None if unknown or revoked; records its use."""
        if _SECRET.fullmatch(secret) is None:
            return None
        key = self._read(_sha256(secret))
        if key is not None:
            self._note_use(key)
        return key

    def remembered(self, secret: str) -> ApiKey | None:
        """The key with this secret if it is cached; never queries the database."""
        if _SECRET.fullmatch(secret) is None:
            return None
        with self._lock:
            until, key = self._remembered.get(_sha256(secret), (0.0, None))
        return key if time.monotonic() < until else None

    def list(self) -> tuple[ApiKey, ...]:
        """All keys in the order of creation, including revoked ones."""
        with self._database.reading() as connection:
            rows = connection.execute(select(schema.api_key).order_by(schema.api_key.c.id))
            return tuple(map(_api_key, rows))

    def revoke(self, key: int) -> ApiKey:
        """Revoke a key, in this process at once and in others within a second; raises NotFound.

        A key that was revoked before keeps its time of revocation.
        """
        column = schema.api_key.c
        with self._database.writing() as connection:
            connection.execute(
                update(schema.api_key)
                .where(column.id == key, column.revoked_at.is_(None))
                .values(revoked_at=_now())
            )
            row = connection.execute(select(schema.api_key).where(column.id == key)).one_or_none()
        if row is None:
            raise NotFound(f"no key has the id {key}", remedy="take an id from: regard keys list")
        with self._lock:
            self._remembered.clear()
        return _api_key(row)

    def any_active(self) -> bool:
        """Whether there is a key that is not revoked."""
        with self._database.reading() as connection:
            found = connection.execute(
                select(schema.api_key.c.id).where(schema.api_key.c.revoked_at.is_(None)).limit(1)
            )
            return found.first() is not None

    def _read(self, sha256: str) -> ApiKey | None:
        asked_at = time.monotonic()
        with self._database.reading() as connection:
            row = connection.execute(
                select(schema.api_key).where(schema.api_key.c.secret_sha256 == sha256)
            ).one_or_none()
        # The timing of the database's comparison may reveal part of a hash, never of a secret.
        if (
            row is None
            or row.revoked_at is not None
            or not hmac.compare_digest(row.secret_sha256, sha256)
        ):
            with self._lock:
                self._remembered.pop(sha256, None)
            return None
        key = _api_key(row)
        with self._lock:
            self._remembered[sha256] = (asked_at + REMEMBERED_SECONDS, key)
        return key

    def _note_use(self, key: ApiKey) -> None:
        """Update `last_used_at`, at most once a minute over all processes."""
        now = time.monotonic()
        with self._lock:
            if now < self._noted.get(key.id, 0.0):
                return
            # Before the write, so that only one request performs it.
            self._noted[key.id] = now + USE_NOTED_SECONDS
        used_at, column = _now(), schema.api_key.c
        before = used_at - timedelta(seconds=USE_NOTED_SECONDS)
        try:
            with self._database.writing() as connection:
                connection.execute(
                    update(schema.api_key)
                    .where(
                        column.id == key.id,
                        or_(column.last_used_at.is_(None), column.last_used_at <= before),
                    )
                    .values(last_used_at=used_at)
                )
        except HomeError:
            # A full disk or a busy database must not lock out readers; the next minute tries
            # again.
            return


def _require_collections(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        found = connection.execute(
            select(schema.collection.c.id).where(schema.collection.c.name == name)
        ).first()
        if found is None:
            raise NotFound(
                f"no collection is named {name}",
                remedy="name one that regard status lists, or index something into it first",
            )


def _api_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.name,
        AccessScope(row.scope),
        None if row.collections is None else tuple(json.loads(row.collections)),
        row.created_at,
        row.last_used_at,
        row.revoked_at,
    )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _now() -> datetime:
    """The current time in naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)
