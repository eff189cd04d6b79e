"""A vector engine that can't be used: searches say so, all else works, and it catches up."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from made_library import regard
from made_service import Served, png, refused
from postgres_server import PostgresServer

from regard.storage.database.connection import Database


def execute(url: str, *statements: str) -> None:
    database = Database(url)
    with database.writing() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    database.close()


@pytest.fixture
def restricted(postgres_server: PostgresServer) -> tuple[str, str]:
    """The URLs of one database: of its administrator, and of one who may not create extensions."""
    url = postgres_server.create_database()
    name = f"restricted_{uuid.uuid4().hex}"
    execute(url, f"CREATE ROLE {name} LOGIN", f"GRANT CREATE ON SCHEMA public TO {name}")
    return url, url.replace("postgres@", f"{name}@")


def test_all_but_searches_works_while_the_engine_is_away(
    restricted: tuple[str, str], tmp_path: Path
) -> None:
    administrator, url = restricted
    with Served(tmp_path, url, vectors="pgvector") as served:
        client, shelf = served.client, served.shelf()
        (asset,) = shelf.add(png("red"))
        assert asset.state == "indexed"
        assert client.assets.patch(asset.id, title="a").title == "a"
        with refused("engine-unavailable") as raised:
            client.search("red")
        assert raised.value.status == 503
        execute(administrator, "CREATE EXTENSION vector")
        assert client.search("red").hits[0].asset.id == asset.id
        served.wait(client.assets.upload(("b.png", png("blue")), collection=shelf.name).job)
        assert len(client.search("blue", limit=5).hits) == 2


def test_commands_tell_that_the_engine_is_away(
    restricted: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    administrator, url = restricted
    monkeypatch.setenv("REGARD_DATABASE_URL", url)
    monkeypatch.setenv("REGARD_VECTORS", "pgvector")
    photos, home = tmp_path / "photos", tmp_path / "home"
    photos.mkdir()
    (photos / "a.png").write_bytes(png("red"))
    indexed = regard("index", photos, "--home", home, "--profile", "fake", "--json")
    assert (indexed.code, indexed.document["indexed"]) == (0, 1)
    for command in (["search", "red"], ["rebuild"], ["verify", "--recall"]):
        regard(*command, "--home", home).expect_sentence(
            3, "pgvector can't be used", "CREATE EXTENSION vector"
        )
    assert "pgvector can't be used" not in regard("status", "--home", home).err
    verified = regard("verify", "--home", home)
    assert verified.code != 0
    execute(administrator, "CREATE EXTENSION vector")
    assert regard("verify", "--home", home).code == 0
    for command in (["rebuild"], ["verify", "--recall"]):
        assert regard(*command, "--home", home).code == 0
    found = regard("search", "red", "--home", home, "--json")
    assert len(found.document["hits"]) == 1
    assert "indexes" not in regard("status", "--home", home).out.decode()
