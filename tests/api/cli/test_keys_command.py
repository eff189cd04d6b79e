"""`regard keys`: the secret once and alone on stdout, then only what may be known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_library import Library, Outcome, regard

from regard.storage.database.catalog import open_catalog
from regard.storage.service.keys import SqlKeys


def create(home: Path, *arguments: str) -> Outcome:
    return regard("keys", "create", *arguments, "--home", home)


def test_a_key_is_printed_once_and_opens_until_it_is_revoked(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    made = create(home, "backend", "--scope", "write")
    assert made.code == 0, made
    assert re.fullmatch(rb"rgd_[A-Za-z0-9_-]{43}\n", made.out)
    secret = made.out.decode().strip()
    assert secret not in made.err
    assert "backend" in made.err
    assert "Authorization: Bearer" in made.err
    catalog = open_catalog(home / "catalog.sqlite3")
    try:
        keys = SqlKeys(catalog)
        found = keys.find(secret)
        assert found is not None
        assert (found.name, found.scope.value) == ("backend", "write")
        listed = regard("keys", "list", "--home", home)
        assert b"backend" in listed.out
        assert secret.encode() not in listed.out
        assert b"revoked" not in listed.out
        revoked = regard("keys", "revoke", str(found.id), "--home", home)
        assert (revoked.code, revoked.out) == (0, b"")
        assert b"revoked" in regard("keys", "list", "--home", home).out
        # This is another opening of the catalog, as a running server is.
        assert SqlKeys(catalog).find(secret) is None
    finally:
        catalog.close()


def test_json(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.photo("a.png", 1)
    library.index("--collection", "holiday", library.photos)
    made = create(library.home, "page", "--scope", "read", "--collection", "holiday", "--json")
    document = made.document
    assert document.pop("key").startswith("rgd_")
    assert {**document, "created_at": None} == {
        "id": "1", "name": "page", "scope": "read", "collections": ["holiday"],
        "created_at": None, "last_used_at": None, "revoked_at": None,
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["created_at"])
    assert regard("keys", "list", "--home", library.home, "--json").document == {"keys": [document]}
    revoked = regard("keys", "revoke", "1", "--home", library.home, "--json").document
    assert revoked["revoked_at"] is not None
    library.verify()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["keys"], 2, ["no command"]),
        (["keys", "create", "--scope", "read"], 2, ["Missing argument"]),
        (["keys", "create", "k"], 2, ["--scope"]),
        (["keys", "create", "k", "--scope", "root"], 2, ["--scope", "admin"]),
        (["keys", "create", " ", "--scope", "read"], 2, ["name is empty"]),
        (["keys", "create", "k", "--scope", "read", "--collection", " "], 2, ["name is empty"]),
        (["keys", "create", "k", "--scope", "read", "--collection", "x"], 3, ["named x"]),
        (["keys", "revoke", "7"], 3, ["no key has the id 7", "regard keys list"]),
        (["keys", "revoke", "x"], 2, ["ID"]),
        (["keys", "revoke", "0"], 2, ["ID"]),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], code: int, words: list[str]) -> None:
    home = tmp_path / "home"
    assert regard("keys", "list", "--home", home).code == 3  # there is no home yet
    assert create(home, "first", "--scope", "read").code == 0
    given = [*arguments, "--home", home] if len(arguments) > 1 else arguments
    regard(*given).expect_sentence(code, *words)
    assert len(regard("keys", "list", "--home", home, "--json").document["keys"]) == 1


def test_a_home_without_keys_lists_none(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.photo("a.png", 1)
    library.index()
    listed = regard("keys", "list", "--home", library.home)
    assert (listed.code, listed.out) == (0, b"")
    assert "regard keys create" in listed.err
