"""Other models in a running server: searches go on, the switch is whole, and there is a way
back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_gate import Gate
from made_library import regard, write_photo
from made_searchers import Ask, Searchers, Told, answers_as_wholes
from made_server import Server
from made_service import WAIT, Served, png, refused

from regard.api.client import Client
from regard.api.schemas import JobDocument, PipelineDocument

pytestmark = pytest.mark.slow

PHOTOS = 30
OLD, NEW = "fake-colour-1", "fake-colour-1-turned-5"
ASKS: list[Ask] = [
    lambda client: client.search("red", limit=50),
    lambda client: client.search("blue", target="region", limit=20),
    lambda client: client.search(terms=[{"like": "a1"}], limit=10),
]


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's profile: other numbers for the same colours, and no captions."""
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "turned.toml").write_text(
        'description = "another"\nbatch_size = 2\n[encoder]\nkind = "fake"\n'
        '[encoder.parameters]\nturn = 5\n[segmenter]\nkind = "fake"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGARD_PROFILES", str(folder))
        yield folder


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Before the server's models; its jobs give way to others sooner than they would."""
    also = "from regard.indexer import jobs\njobs.TURN_SECONDS = 1.0\n"
    return Gate(tmp_path / "gate", also)


@pytest.fixture
def filled(
    profiles: Path, database: Callable[[], str | None], gate: Gate, tmp_path: Path
) -> Iterator[Served]:
    """A server whose home has some photographs by the models of `fake`."""
    url = database()
    served = Served(tmp_path, url, gate=gate, vectors=os.environ.get("REGARD_VECTORS", "faiss"))
    for number in range(PHOTOS):
        write_photo(served.photos / f"{number:03}.png", number, *COLOURS[number % 3])
    # Quicker than an import through the server.
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.environ.items():
            patch.setenv(name, value)
        options = ("--home", served.home, "--collection", "all", "--profile", "fake")
        assert regard("index", served.photos, *options).code == 0
    with served:
        yield served


COLOURS = (("red", "blue"), ("blue", "green"), ("red",))


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Gives the URL of a database of its own, None for the home's file, as it is unless told
    otherwise."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return lambda: None
    vectors = {"postgresql": "faiss"}.get(request.param, request.param)
    if vectors == "milvus":
        vectors = request.getfixturevalue("milvus_server").url
    request.getfixturevalue("monkeypatch").setenv("REGARD_VECTORS", vectors)
    make: Callable[[], str] = request.getfixturevalue("postgres_url")
    return make


@pytest.mark.parametrize(
    "database",
    [
        "sqlite",
        pytest.param("pgvector", marks=pytest.mark.campaign),
        pytest.param("milvus", marks=pytest.mark.campaign),
    ],
    indirect=True,
)
def test_searches_continue_while_workers_are_killed(filled: Served, gate: Gate) -> None:
    client = filled.client
    before = told_by(client)
    with Searchers(filled.server.url, ASKS, pause=0.02) as searchers:
        gate.let(4)
        job = client.pipelines.reindex("turned")
        for part, more in ((2, 8), (PHOTOS // 2, PHOTOS)):
            until_analysed(client, job, part)
            assert kill_worker(filled)
            assert states(client)[0] == ("fake", "live", PHOTOS)
            gate.let(more)
        job = filled.wait(job)
        searchers.until(lambda told: told.spaces == {NEW})
        after = told_by(client)
    assert job.report is not None
    assert job.report["failed"] == 0
    assert job.done == job.total
    answers_as_wholes(searchers, [before, after])
    assert states(client) == [("turned", "live", PHOTOS), ("fake", "kept", PHOTOS)]
    expect_agreement(filled)


def test_uploads_during_a_model_change_are_found_before_and_after(
    filled: Served, gate: Gate
) -> None:
    client = filled.client
    gate.let(2)
    job = client.pipelines.reindex("turned")
    until_analysed(client, job, 2)
    sent = filled.shelf("fresh").send(png("yellow"), png("yellow"))
    # Enough to see that somebody waits, and not enough to end.
    gate.let(8, pause=0.3)
    filled.wait(sent.job)
    fresh = [item.asset for item in sent.items if item.asset is not None]
    # Uploads go first: the other job waited for them.
    assert client.jobs.get(job.id).state in {"queued", "running"}
    found = client.search("yellow", limit=2)
    assert {hit.asset.id for hit in found.hits} == {asset.id for asset in fresh}
    assert {match.space for hit in found.hits for match in hit.channels if match.space} == {OLD}
    gate.open()
    filled.wait(job)
    wait_for_models(client, "turned")
    found = client.search("yellow", limit=2)
    assert {hit.asset.id for hit in found.hits} == {asset.id for asset in fresh}
    assert {match.space for hit in found.hits for match in hit.channels if match.space} == {NEW}
    assert client.pipelines.list().items[0].analysed == PHOTOS + 2
    expect_agreement(filled)


@pytest.mark.campaign
def test_model_changes_complete_during_constant_uploads(filled: Served, gate: Gate) -> None:
    client, ended = filled.client, threading.Event()

    def bring(name: str) -> None:
        with Client(filled.server.url) as own:
            while not ended.is_set():
                own.assets.upload(("a.png", png("yellow")), collection=name)

    names = ("endless", "also endless")
    with ThreadPoolExecutor(2) as clients:
        bringing = [clients.submit(bring, name) for name in names]
        try:
            gate.let(4)
            job = client.pipelines.reindex("turned")
            until(lambda: {one.name for one in client.collections.iterate()} >= {*names})
            gate.open(pause=0.1)
            job = filled.wait(job)
        finally:
            gate.open()
            ended.set()
        assert [one.exception() for one in bringing] == [None, None]
    assert job.report is not None
    assert job.report["failed"] == 0
    # Whether in its first turn or a later one; and it left out nothing of what came.
    assert job.report["indexed"] >= PHOTOS
    for waiting in client.jobs.iterate(state=("queued", "running")):
        filled.wait(waiting)
    came = [one.assets for one in client.collections.iterate() if one.name in names]
    assert client.pipelines.list().items[0].analysed == PHOTOS + sum(came)
    wait_for_models(client, "turned")
    assert client.search("yellow", limit=1).hits
    expect_agreement(filled)


@pytest.mark.parametrize(
    "database",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.campaign),
        pytest.param("pgvector", marks=pytest.mark.campaign),
        pytest.param("milvus", marks=pytest.mark.campaign),
    ],
    indirect=True,
)
def test_model_change_and_rollback_keep_regions_and_assets(filled: Served) -> None:
    client = filled.client
    region = client.search("blue", target="region", limit=1).hits[0].region
    assert region is not None
    since = list(client.changes())[-1].position
    filled.wait(client.pipelines.reindex("turned"))
    wait_for_models(client, "turned")
    told = {change.asset for change in client.changes(since) if change.kind == "changed"}
    assert len(told) == PHOTOS
    with refused("not-found"):
        client.regions.get(region.id)
    with refused("conflict"):
        client.pipelines.reindex("turned")
    assert client.info().counts.captions == 0
    added = filled.shelf("fresh").add(png("yellow"))
    back = client.pipelines.roll_back()
    assert (back.profile, back.missing, back.live) == ("fake", 1, False)
    filled.wait(back.jobs[0])
    wait_for_models(client, "fake")
    assert client.regions.get(region.id).bbox == region.bbox
    assert client.search("yellow", limit=1).hits[0].asset.id == added[0].id
    forth = client.pipelines.roll_back()
    assert (forth.profile, forth.missing, forth.live, forth.jobs) == ("turned", 0, True, [])
    wait_for_models(client, "turned")
    live, kept = client.pipelines.list().items
    with refused("conflict"):
        client.pipelines.prune([live.fingerprint[:12]])
    job = filled.wait(client.pipelines.prune([kept.fingerprint[:12]]))
    assert job.report is not None
    assert job.report["removed"] == 1
    assert states(client) == [("turned", "live", PHOTOS + 1)]
    if os.environ.get("REGARD_VECTORS", "faiss") == "faiss":
        assert os.listdir(filled.home / "indexes") == [live.fingerprint[:16]]
    with refused("conflict"):
        client.pipelines.roll_back()
    expect_agreement(filled)


def test_immediate_rollback_analyses_missing_assets_afterwards(filled: Served) -> None:
    client = filled.client
    filled.wait(client.pipelines.reindex("turned"))
    wait_for_models(client, "turned")
    added = filled.shelf("fresh").add(png("yellow"))
    back = client.pipelines.roll_back(at_once=True)
    assert (back.missing, back.live) == (1, True)
    assert [job.collection.name for job in back.jobs if job.collection] == ["fresh"]
    wait_for_models(client, "fake")
    filled.wait(back.jobs[0])
    assert client.search("yellow", limit=1).hits[0].asset.id == added[0].id
    expect_agreement(filled)


def test_model_changes_need_an_unbound_admin_key(filled: Served, gate: Gate) -> None:
    writer = filled.with_key(filled.key("write"))
    bound = filled.with_key(filled.key("admin", "all"))
    assert states(writer) == [("fake", "live", PHOTOS)]
    for refusal in (
        bound.pipelines.list,
        lambda: bound.pipelines.reindex("turned"),
        bound.pipelines.roll_back,
        lambda: writer.pipelines.reindex("turned"),
        writer.pipelines.roll_back,
        writer.pipelines.prune,
    ):
        with refused("scope-missing"):
            refusal()
    gate.let(0)
    job = filled.client.pipelines.reindex("turned")
    with refused("not-found"):
        bound.jobs.get(job.id)
    assert job.id not in {one.id for one in bound.jobs.iterate()}
    with refused("scope-missing"):
        writer.jobs.cancel(job.id)
    with refused("conflict"):
        filled.client.pipelines.reindex("fake")
    for unknown in ("unknown", "/etc/passwd"):
        with refused("validation"):
            filled.client.pipelines.reindex(unknown)
    # Its models are not installed.
    with refused("conflict"):
        filled.client.pipelines.reindex("blip3")
    gate.open()
    filled.wait(job)


def test_server_starts_on_a_changed_profile_and_renews_it(profiles: Path, tmp_path: Path) -> None:
    """As after an upgrade of regard: only what an encoder made has to be understood."""
    file = profiles / "own.toml"
    file.write_text('description = "own"\n[encoder]\nkind = "fake"\n')
    write_photo(tmp_path / "photos" / "0.png", 0, "red")
    home = tmp_path / "home"
    assert regard("index", tmp_path / "photos", "--home", home, "--profile", "own").code == 0
    file.write_text(file.read_text() + '[captioner]\nkind = "fake"\n')
    regard("index", tmp_path / "photos", "--home", home).expect_sentence(3, "regard reindex")
    with Server(home, profile=None) as server, Client(server.url) as client:
        assert [hit.asset.caption for hit in client.search("red").hits] == [None]
        assert client.jobs.wait(client.pipelines.reindex().id, WAIT).state == "done"
        caption = "A mostly red photograph."
        until(lambda: client.search("red").hits[0].asset.caption == caption)


def told_by(client: Client) -> list[Told]:
    """What a server says to each question."""
    return [Told.of(0.0, number, ask(client)) for number, ask in enumerate(ASKS)]


def states(client: Client) -> list[tuple[str, str, int]]:
    def state(one: PipelineDocument) -> tuple[str, str, int]:
        return one.profile, one.state, one.analysed

    return [state(one) for one in client.pipelines.list().items]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_models(client: Client, profile: str) -> None:
    """Until the server answers by a profile's models."""
    until(lambda: client.info().profile == profile)


def until_analysed(client: Client, job: JobDocument, count: int) -> None:
    """Until a job has analysed so many photographs, of more."""
    deadline = time.monotonic() + WAIT
    while True:
        found = states(client)
        if len(found) > 1 and found[1][2] >= count:
            assert found[1][2] < PHOTOS
            return
        assert client.jobs.get(job.id).state in {"queued", "running"}
        assert time.monotonic() < deadline, found


def kill_worker(served: Served) -> bool:
    """Kill the server's worker with no warning; whether there was one."""
    workers = served.server.workers()
    for worker in workers:
        worker.kill()
    return bool(workers)


def expect_agreement(served: Served) -> None:
    """Catalog and indexes agree, of all models that are kept."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.environ.items():
            patch.setenv(name, value)
        outcome = regard("verify", "--home", served.home)
    assert outcome.code == 0, outcome
