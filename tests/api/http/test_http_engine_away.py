"""A vector engine that can't be used: searches say so, all else works, and it catches up."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_library import regard
from made_local_server import LocalServer
from made_service import WAIT, Served, Shelf, png, refused
from milvus_server import MilvusServer
from postgres_server import PostgresServer

from regard.api.client import Client, ServerProblem
from regard.storage.database.connection import Database
from regard.storage.retrieval.channel_indexes import ChannelIndexes

pytestmark = pytest.mark.slow


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


def seconds_until(status: int, served: Served, path: str) -> float:
    """How long a server takes to answer so."""
    client = served.raw()
    began = time.monotonic()
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return time.monotonic() - began


def test_servers_are_ready_while_the_engine_accepts_and_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"milvus://127.0.0.1:{silent.getsockname()[1]}"
        with Served(tmp_path, None, vectors=url) as served:
            served.shelf().add(png("red"))
            for _ in range(3):
                assert seconds_until(200, served, "/readyz") < 5
                assert seconds_until(503, served, "/v1/search?q=red") < 15


def test_metrics_lack_only_the_sizes_of_indexes_while_the_engine_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_back, answered = threading.Event(), threading.Event()
    stats = ChannelIndexes.stats

    def hang(indexes: ChannelIndexes) -> Mapping[str, Mapping[str, Any]]:
        is_back.wait(60)
        answered.set()
        return stats(indexes)

    monkeypatch.setattr(ChannelIndexes, "stats", hang)
    with LocalServer(tmp_path) as server, contextlib.closing(Client(server.url)) as client:
        try:
            for _ in range(2):
                shown = client.metrics()
                assert not answered.is_set()
                assert "regard_jobs{" in shown
                assert "regard_index_rows{" not in shown
        finally:
            is_back.set()
        answered.wait(60)
        deadline = time.monotonic() + WAIT
        while "regard_index_rows{" not in client.metrics():
            assert time.monotonic() < deadline


@pytest.mark.campaign
def test_two_servers_stay_ready_while_milvus_hangs(
    milvus_server: MilvusServer, postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    """Each waits for the engine, and for what the other one does with it."""
    url = postgres_url()
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, two = (Served(folder, url, vectors=milvus_server.url) for folder in folders)
    with one, two, ThreadPoolExecutor(4) as threads:
        shelf = one.shelf()
        (red,) = shelf.add(png("red"))
        there = Shelf(two, shelf.name)
        assert red.id in there.found()
        ready: list[float] = []
        scrapes: list[float] = []
        searches: list[float] = []
        milvus_server.pause()
        try:
            for turn in range(4):
                job = shelf.send(png("blue")).job
                assert one.client.assets.patch(red.id, title=f"{turn}").title == f"{turn}"
                asked = [
                    threads.submit(seconds_until, 503, served, f"/v1/search?q=red+{turn}")
                    for served in (one, two)
                ]
                ready += [seconds_until(200, served, "/readyz") for served in (one, two, one)]
                scrapes += [seconds_until(200, served, "/metrics") for served in (one, two)]
                searches += [each.result() for each in asked]
                one.wait(job)
        finally:
            milvus_server.resume()
        # Caddy asks with a limit of 5 s. A machine that stalls may be late, but not always.
        assert sorted(ready)[len(ready) // 2] < 3, ready
        assert max(ready) < 5, ready
        assert sorted(scrapes)[len(scrapes) // 2] < 3, scrapes
        assert sorted(searches)[len(searches) // 2] < 13, searches
        deadline = time.monotonic() + WAIT
        while True:
            with contextlib.suppress(ServerProblem):
                if len(there.found("blue")) == 5:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.3)


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
