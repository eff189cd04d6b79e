"""Two servers with homes of their own over one database, one vector engine and one bucket.

Whatever one server did, the other knows at once; a client need not stay with one.
"""

from __future__ import annotations

import contextlib
import io
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_bucket import BUCKET, Bucket, used_here
from made_caddy import free_ports, proxy_before
from made_clients import CLIENTS, check_answered, used_at_random, wait_for_searches, write_at_random
from made_service import WAIT, Served, Shelf, png
from milvus_server import MilvusServer
from postgres_server import PostgresServer, find_binaries

from regard.api.client import Client, Filters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket, used_here(bucket), pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGARD_STORE", f"s3://{BUCKET}/library")
        yield bucket


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Of the servers, also when they start again."""
    one, two = free_ports(2)
    return one, two


@pytest.fixture(scope="module")
def servers(
    ports: tuple[int, int],
    bucket: Bucket,
    postgres_url: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Served, Served]]:
    url = postgres_url()
    one, two = (
        Served(
            tmp_path_factory.mktemp("served"),
            url,
            *("--port", str(port), "--drain", "3"),
            vectors="pgvector",
        )
        for port in ports
    )
    with one, two:
        yield one, two


def test_a_write_through_one_server_shows_through_the_other(
    servers: tuple[Served, Served],
) -> None:
    one, two = servers
    shelf = one.shelf()
    red, blue = shelf.add(png("red"), png("blue"))
    there = Shelf(two, shelf.name)
    for turn in range(6):
        writer, reader = (shelf, there) if turn % 2 else (there, shelf)
        assert reader.found("red")[0] == red.id
        with io.BytesIO() as out:
            reader.client.assets.original(red.id, out)
            assert out.getvalue()
        assert reader.client.assets.thumbnail(red.id)
        tag = f"turn {turn}"
        writer.client.assets.patch(red.id, tags=[tag])
        assert reader.found("red", filters=Filters(collection=[shelf.name], tag=[tag])) == [red.id]
        (new,) = writer.add(png("green"))
        assert new.id in reader.found("green")
        writer.client.assets.delete(new.id)
        assert new.id not in reader.found("green")
    assert blue.id in there.ids()


def test_jobs_and_repeated_requests_do_not_depend_on_the_server(
    servers: tuple[Served, Served],
) -> None:
    one, two = servers
    shelf = one.shelf()
    job = shelf.send(png("red")).job
    assert job is not None
    assert two.wait(job).done == 1
    answers = [
        served.raw().post(
            "/v1/collections",
            json={"name": f"{shelf.name} again"},
            headers={"Idempotency-Key": f"key of {shelf.name}"},
        )
        for served in (one, two, one)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert all(answer.json() == answers[0].json() for answer in answers)
    for served in servers:
        assert served.raw().get("/readyz").status_code == 200


def test_keys_and_sessions_do_not_depend_on_the_server(servers: tuple[Served, Served]) -> None:
    one, two = servers
    shelf = one.shelf()
    (asset,) = shelf.add(png("red"))
    one.shelf().add(png("red"))
    key = one.key("read", shelf.name)
    for served in servers:
        assert [hit.asset.id for hit in served.with_key(key).search("red").hits] == [asset.id]
        assert served.raw(key).post("/v1/collections", json={"name": "x"}).status_code == 403
    cookies = dict(one.raw().post("/v1/session", json={"key": key}).cookies)
    assert cookies

    def ask(served: Served) -> tuple[int, int]:
        """By the session, and by the key."""
        in_session = served.raw()
        in_session.cookies.update(cookies)
        answers = [client.get("/v1/search?q=red") for client in (in_session, served.raw(key))]
        return answers[0].status_code, answers[1].status_code

    assert [ask(served) for served in servers] == [(200, 200), (200, 200)]
    two.revoke(key)
    deadline = time.monotonic() + WAIT
    while [ask(served) for served in servers] != [(401, 401), (401, 401)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_servers_behind_a_proxy_are_restarted_with_no_failed_request(
    servers: tuple[Served, Served], ports: tuple[int, int], tmp_path: Path
) -> None:
    """Searches, uploads and tags spread over both, and go to the other one while one is away.

    Nothing is repeated but by the proxy.
    """
    Shelf(servers[0], "restarted").add(png("red"))
    until = threading.Event()
    tags: dict[str, str] = {}

    def ask(url: str, method: str, path: str, **options: Any) -> Any:
        with httpx.Client(base_url=url, timeout=WAIT, trust_env=False) as client:
            answer = client.request(method, path, **options)
            assert answer.is_success, (method, path, answer.status_code, answer.text)
            return answer.json()

    def search(url: str, seed: int) -> int:
        draw, done = random.Random(seed), 0
        while not until.is_set():
            assert ask(url, "GET", "/v1/search", params={"q": f"red {draw.random()}"})["hits"]
            done += 1
            # Some are asking at each moment, and the servers have time to start.
            until.wait(0.02)
        return done

    def write(url: str) -> int:
        done = 0
        while not until.is_set():
            files = {"file": ("a.png", png("red"))}
            sent = ask(url, "POST", "/v1/assets", files=files, data={"collection": "restarted"})
            one = sent["items"][0]["asset"]["id"]
            for _ in range(3):
                done += 1
                ask(url, "PATCH", f"/v1/assets/{one}", json={"tags": [f"{done}"]})
                tags[one] = f"{done}"
                until.wait(0.02)
        return done

    with proxy_before(ports, tmp_path) as url, ThreadPoolExecutor(5) as threads:
        using = [threads.submit(search, url, seed) for seed in range(3)]
        using += [threads.submit(write, url) for _ in range(2)]
        try:
            for served in servers:
                served.close_clients()
                served.server.stop()
                served.server.start()
                served.client = served.with_key(None)
        finally:
            until.set()
        assert all(one.result() > 10 for one in using)
        assets = servers[0].client.assets.iterate(Filters(collection=["restarted"]))
        held = {asset.id: asset.tags for asset in assets}
        assert {one: held[one] for one in tags} == {one: [tag] for one, tag in tags.items()}
        with contextlib.closing(Client(url)) as client:
            sent = client.assets.upload(("a.png", png("blue", size=(900, 600))), collection="sent")
            assert sent.items[0].asset is not None


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_killed_servers_lose_no_answered_write(servers: tuple[Served, Served]) -> None:
    draw = random.Random()
    until = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as threads:
        using = [
            threads.submit(write_at_random, servers, f"killed {number}", number, until)
            for number in range(CLIENTS)
        ]
        try:
            for _ in range(100):
                time.sleep(draw.uniform(0.1, 1.5))
                served = draw.choice(servers)
                if draw.random() < 0.3 and (workers := served.server.workers()):
                    with contextlib.suppress(ProcessLookupError):
                        draw.choice(workers).kill()
                else:
                    served.server.kill()
                    served.server.start()
        finally:
            until.set()
        answered = [one.result() for one in using]
    check_answered(servers, "killed", answered)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_database_that_stops_and_starts_loses_no_answered_write(
    bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """PostgreSQL holds the catalog and the vectors, and ends in order or as after a crash."""
    binaries = find_binaries()
    assert binaries is not None
    postgres, draw = PostgresServer(binaries), random.Random()
    url = postgres.create_database()
    folders = [tmp_path_factory.mktemp("served") for _ in range(2)]
    one, two = (Served(folder, url, vectors="pgvector") for folder in folders)
    try:
        with one, two, used_at_random((one, two), "away"):
            for _ in range(20):
                time.sleep(draw.uniform(0.5, 6))
                postgres.halt(draw.choice((signal.SIGINT, signal.SIGQUIT)))
                time.sleep(draw.uniform(0, 3))
                postgres.start()
    finally:
        postgres.stop()


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_milvus_server_that_is_killed_and_starts_again_loses_no_answered_write(
    bucket: Bucket, postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Meanwhile writes are answered, and searches say that the engine is away."""
    pytest.importorskip("milvus")
    # Parts of the killed one are waited for so long.
    milvus, draw = MilvusServer(**{"common.session.ttl": 20}), random.Random()
    url, jobs = postgres_url(), []
    folders = [tmp_path_factory.mktemp("served") for _ in range(2)]
    one, two = (Served(folder, url, vectors=milvus.url) for folder in folders)
    try:
        with one, two, used_at_random((one, two), "engine away"):
            for turn in range(5):
                time.sleep(draw.uniform(0.5, 8))
                milvus.kill()
                jobs.append(Shelf(one, f"away {turn}").send(png("red")).job)
                time.sleep(draw.uniform(0, 3))
                milvus.start()
                wait_for_searches((one, two))
            for turn, job in enumerate(jobs):
                one.wait(job)
                assert len(Shelf(two, f"away {turn}").found()) == 1
    finally:
        milvus.remove()
