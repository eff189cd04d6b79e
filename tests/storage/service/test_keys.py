"""API keys: what is stored of them, what opens and what doesn't, and when a revocation shows."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from catalog_samples import Home
from sqlalchemy import update

from regard.core.errors import HomeError, NotFound, UsageError
from regard.core.keys import LOCAL, AccessScope, Caller
from regard.storage.database import schema
from regard.storage.database.catalog import open_catalog
from regard.storage.service import keys as keys_module
from regard.storage.service.keys import SqlKeys


@pytest.fixture
def keys(home: Home) -> SqlKeys:
    return SqlKeys(home.catalog)


@pytest.fixture
def elsewhere(home: Home) -> Iterator[SqlKeys]:
    """The same catalog, opened by another server."""
    catalog = open_catalog(home.url)
    yield SqlKeys(catalog)
    catalog.close()


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def test_only_the_hash_of_a_key_is_stored(home: Home, keys: SqlKeys) -> None:
    key, secret = keys.create("backend", AccessScope.WRITE)
    assert re.fullmatch(r"rgd_[A-Za-z0-9_-]{43}", secret)
    (row,) = home.rows(schema.api_key)
    assert row.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert not [value for value in row if secret[4:] in str(value)]
    assert secret[4:] not in repr(key)
    assert (key.name, key.scope, key.collections) == ("backend", AccessScope.WRITE, None)
    assert timedelta(0) <= now() - key.created_at < timedelta(minutes=1)
    assert keys.create("backend", AccessScope.WRITE)[1] != secret


def test_a_key_is_found_by_its_whole_secret_alone(home: Home, keys: SqlKeys) -> None:
    first, secret = keys.create("one", AccessScope.READ)
    second, other = keys.create("two", AccessScope.ADMIN)
    assert keys.find(secret) is not None
    assert [key.id for key in map(keys.find, (secret, other)) if key] == [first.id, second.id]
    swapped = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    sha256 = hashlib.sha256(secret.encode()).hexdigest()
    for wrong in ("", secret[:-1], secret + "A", secret[4:], swapped, secret.upper(), sha256):
        assert keys.find(wrong) is None, wrong
    # Neither text that is not ASCII nor a broken surrogate is an error.
    assert keys.find("rgd_" + "é" * 43) is None
    assert keys.find("rgd_" + "\udcff" * 43) is None


def test_a_key_is_bound_to_collections_that_exist(home: Home, keys: SqlKeys) -> None:
    home.save("/p/a.jpg", "a", collection="holiday")
    home.save("/p/b.jpg", "b", collection='Größe, "x"')
    key, secret = keys.create("page", AccessScope.READ, ["holiday", 'Größe, "x"', "holiday"])
    found = keys.find(secret)
    assert found is not None
    assert found.collections == key.collections == ("holiday", 'Größe, "x"')
    with pytest.raises(NotFound, match="Holiday"):
        keys.create("page", AccessScope.READ, ["holiday", "Holiday"])
    with pytest.raises(UsageError, match="no collection"):
        keys.create("page", AccessScope.READ, [])
    with pytest.raises(UsageError, match="name is empty"):
        keys.create(" ", AccessScope.READ)
    assert len(keys.list()) == 1


def test_revoked_here_is_revoked_at_once(home: Home, keys: SqlKeys) -> None:
    assert not keys.any_active()
    key, secret = keys.create("one", AccessScope.READ)
    _, other = keys.create("two", AccessScope.READ)
    assert keys.find(secret) is not None
    assert keys.remembered(secret) is not None
    revoked = keys.revoke(key.id)
    assert revoked.revoked_at is not None
    assert keys.remembered(secret) is None
    assert keys.find(secret) is None
    assert keys.find(other) is not None
    assert keys.any_active()
    # Once more changes nothing.
    assert keys.revoke(key.id).revoked_at == revoked.revoked_at
    keys.revoke(2)
    assert not keys.any_active()
    assert [item.name for item in keys.list()] == ["one", "two"]
    with pytest.raises(NotFound, match="77"):
        keys.revoke(77)


def test_revoked_elsewhere_shows_within_a_second(
    keys: SqlKeys, elsewhere: SqlKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = keys.create("one", AccessScope.READ)
    assert elsewhere.find(secret) is not None
    found_by = time.monotonic()
    keys.revoke(key.id)
    monkeypatch.setattr(keys_module, "time", SimpleNamespace(monotonic=lambda: found_by + 1))
    assert elsewhere.remembered(secret) is None
    assert elsewhere.find(secret) is None


def test_a_key_found_a_moment_ago_costs_no_query(
    home: Home, keys: SqlKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = keys.create("one", AccessScope.READ)
    assert keys.remembered(secret) is None
    found = keys.find(secret)
    with monkeypatch.context() as patch:
        patch.setattr(home.catalog.database, "reading", None)
        assert keys.remembered(secret) == found
    assert keys.remembered("rgd_" + "A" * 43) is None


def test_use_is_noted_once_a_minute(
    home: Home, keys: SqlKeys, elsewhere: SqlKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = keys.create("one", AccessScope.READ)

    def last_used() -> datetime:
        used: datetime = home.rows(schema.api_key)[0].last_used_at
        return used

    assert key.last_used_at is None
    keys.find(secret)
    first = last_used()
    assert timedelta(0) <= now() - first < timedelta(minutes=1)
    keys.find(secret)
    elsewhere.find(secret)
    assert last_used() == first
    home.execute(update(schema.api_key).values(last_used_at=first - timedelta(seconds=61)))
    keys.find(secret)  # which has noted one itself within this minute
    assert last_used() == first - timedelta(seconds=61)
    SqlKeys(home.catalog).find(secret)
    assert last_used() > first


def test_a_database_that_takes_no_note_locks_nobody_out(
    home: Home, keys: SqlKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = keys.create("one", AccessScope.READ)

    def full() -> None:
        raise HomeError("the disk is full")

    monkeypatch.setattr(home.catalog.database, "writing", full)
    assert keys.find(secret) is not None


def test_what_scopes_and_callers_may() -> None:
    read, write, admin = AccessScope
    assert [[one.covers(other) for other in AccessScope] for one in (read, write, admin)] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    bound = Caller(read, ("holiday",), 3)
    assert bound.may_see("holiday")
    assert not bound.may_see("work")
    assert bound.is_bound
    assert not bound.is_admin
    assert LOCAL.may_see("work")
    assert LOCAL.is_admin
    assert not LOCAL.is_bound
    assert LOCAL.identity != bound.identity != Caller(read, None, 4).identity
