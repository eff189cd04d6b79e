"""What only the engine on a Milvus server has to show: the server going away, names and tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from milvus_server import MilvusServer
from vector_oracle import Truth, add, as_rows, contents, identity, step, unit_rows

from regard.core.errors import EngineUnavailable, HomeError
from regard.core.idset import IdSet
from regard.core.records import Kind
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import VectorEngine
from regard.storage.vectors.engines import make_engine

pytestmark = pytest.mark.slow

NO_IDS = np.empty(0, np.int64)
# By name: importing it takes seconds, and every process collects this file.
_INDEX = "regard.storage.vectors.milvus.index"


@pytest.fixture
def engine(milvus_server: MilvusServer, tmp_path: Path) -> Iterator[VectorEngine]:
    made = _engine(milvus_server.url, tmp_path)
    yield made
    made.forget(identity().catalog, identity().pipeline)


def _engine(url: str, folder: Path, token_file: Path | None = None) -> VectorEngine:
    return make_engine(url, token_file, folder / "indexes", Database(folder / "none.sqlite3"))


def test_a_server_that_hangs_is_named_soon_and_nothing_is_lost(
    engine: VectorEngine, milvus_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = engine.open(identity())
    step(index, 1)
    before = contents(index)
    monkeypatch.setattr(f"{_INDEX}.SEARCH_SECONDS", 1)
    monkeypatch.setattr(f"{_INDEX}.REQUEST_SECONDS", 1)
    milvus_server.pause()
    try:
        with pytest.raises(EngineUnavailable, match="can't be used") as raised:
            index.search(unit_rows(np.random.default_rng(1), 1), 3)
        assert milvus_server.url.removeprefix("milvus://") in raised.value.message
        # Those that follow at once do not wait.
        began = time.process_time()
        for _ in range(3):
            with pytest.raises(EngineUnavailable):
                step(index, 2)
        assert time.process_time() - began < 1
        assert index.applied_through == 1
    finally:
        milvus_server.resume()
    monkeypatch.undo()
    _until_back(index.ids)
    assert contents(index) == before
    with index.changing():
        step(index, 2)
    assert contents(engine.open(identity())) == contents(index)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="localhost:1 can't be used") as raised:
        _engine("milvus://localhost:1", tmp_path).open(identity())
    assert "REGARD_VECTORS" in (raised.value.remedy or "")


@pytest.mark.campaign
def test_a_server_that_is_killed_and_started_again_has_lost_nothing(tmp_path: Path) -> None:
    pytest.importorskip("milvus")
    # Parts of the killed one are waited for so long.
    server = MilvusServer(**{"common.session.ttl": 20})
    try:
        index = _engine(server.url, tmp_path).open(identity())
        for position in range(1, 4):
            step(index, position)
            before = contents(index)
            server.kill()
            with pytest.raises(EngineUnavailable):
                step(index, position + 1)
            server.start()
            _until_back(index.ids)
            assert contents(index) == before
    finally:
        server.remove()


def _until_back(ask: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            ask()
            return
        except EngineUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_an_index_that_the_server_lost_is_made_again(engine: VectorEngine) -> None:
    index = engine.open(identity())
    step(index, 1)
    before = contents(index)
    engine.forget(identity().catalog, identity().pipeline)
    with pytest.raises(EngineUnavailable):
        index.ids()
    with index.changing():
        assert index.applied_through == 0
        step(index, 1)
    assert contents(index) == before


def test_another_process_sees_a_step_within_a_second(engine: VectorEngine, tmp_path: Path) -> None:
    one, other = engine.open(identity()), engine.open(identity())
    step(one, 1)
    for position in range(2, 8):
        began = time.monotonic()
        step(one, position)
        with other.changing():
            if other.applied_through < position:
                step(other, position)  # what was read late is done again
        found = other.search(unit_rows(np.random.default_rng(1), 1), 1000).ids
        assert set(found[0][found[0] >= 0].tolist()) == set(one.ids().tolist())
        assert time.monotonic() - began < 60  # on a machine that stalls


def test_the_position_is_never_a_hit(engine: VectorEngine) -> None:
    index, truth = engine.open(identity()), Truth()
    vectors = -np.abs(unit_rows(np.random.default_rng(4), 40))
    add(index, np.arange(1, 41), vectors)
    truth.add(np.arange(1, 41), vectors)
    against = np.ones((1, 16), np.float32)
    for allowed in (None, IdSet([1, 2, 3], complement=True), IdSet(complement=True), IdSet([0])):
        truth.check_search(index, against, 50, allowed)


def test_deep_searches_of_large_filters(
    engine: VectorEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expressions, hits that are filtered here, and both beyond what Milvus returns at once."""
    index, truth = engine.open(identity()), Truth(recall=0.95)
    rng = np.random.default_rng(6)
    vectors, ids = unit_rows(rng, 1500), np.arange(1, 1501)
    add(index, ids, vectors)
    truth.add(ids, vectors)
    monkeypatch.setattr(f"{_INDEX}._FEW_ROWS", 0)
    worst = ids[np.argsort(vectors @ vectors[0])]
    for listed in (1000, 10):
        monkeypatch.setattr(f"{_INDEX}._LISTED", listed)
        for most in (16_384, 100):
            monkeypatch.setattr(f"{_INDEX}._MOST", most)
            for chosen in (worst[:100], rng.choice(ids, 750, replace=False), worst[:1400]):
                for allowed in (IdSet(chosen), IdSet(chosen, complement=True)):
                    for k in (1, 20, 200):
                        truth.check_search(index, vectors[:2], k, allowed)
        truth.check_contents(index)


def test_filtered_searches_are_exact_before_graphs_are_built_and_afterwards(
    engine: VectorEngine,
) -> None:
    """Until then, Milvus itself looks at an eighth of the rows and misses most that pass."""
    index, truth, rng = engine.create(identity()), Truth(), np.random.default_rng(7)
    vectors, ids = unit_rows(rng, 20_000), np.arange(1, 20_001)
    index.fill([as_rows(ids, vectors)], through=1)
    truth.add(ids, vectors)
    few = [IdSet(rng.choice(ids, count, replace=False)) for count in (1, 10, 200, 3000)]
    searches, deadline = 0, time.monotonic() + 240
    while not index.stats()["graph_rows"]:
        assert time.monotonic() < deadline
        truth.check_search(index, unit_rows(rng, 2), 10, few[searches % len(few)])
        searches += 1
    assert searches
    for allowed in few:
        truth.check_search(index, unit_rows(rng, 2), 10, allowed)


def test_more_queries_than_a_request_takes(engine: VectorEngine) -> None:
    """Milvus takes 64 MB and 16,384 queries at once."""
    rng = np.random.default_rng(8)
    for dimension, count in ((4096, 5000), (8, 20_000)):
        of = identity(dimension, space=f"of {dimension}")
        index, truth = engine.open(of), Truth(dimension)
        vectors, ids = unit_rows(rng, 5, dimension), np.arange(1, 6)
        add(index, ids, vectors)
        truth.add(ids, vectors)
        truth.check_search(index, unit_rows(rng, count, dimension), 2)


def test_searches_go_on_while_another_process_replaces_the_index(engine: VectorEngine) -> None:
    index, query = engine.open(identity()), unit_rows(np.random.default_rng(1), 1)
    step(index, 1)
    for position in (2, 1):
        created = engine.create(identity())
        step(created, 1)
        step(created, position)
        created.snapshot()
        if position == 2:
            found = index.search(query, 200).ids[0]
            assert set(created.ids().tolist()) == set(found[found >= 0].tolist())
        else:
            # Step 2 is not there any more, so it has to be applied again.
            with pytest.raises(EngineUnavailable):
                index.search(query, 200)
        with index.changing():
            assert index.applied_through == position
    assert contents(index) == contents(created)


def test_channels_have_indexes_of_their_own(engine: VectorEngine) -> None:
    rng = np.random.default_rng(5)
    channels = [
        identity(space="a-b.c"),
        identity(space="a_b_c"),
        identity(space="a-b.c", kind=Kind.CAPTION),
        identity(space="ä" * 300),
    ]
    indexes = [engine.open(channel) for channel in channels]
    for place, index in enumerate(indexes, start=1):
        add(index, np.array([place]), unit_rows(rng, 1))
    assert [index.ids().tolist() for index in indexes] == [[1], [2], [3], [4]]


def test_an_unusable_token_file_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "token"
    empty.write_text("\n")
    for file, reason in ((empty, "is empty"), (tmp_path / "none", "can't be read")):
        with pytest.raises(HomeError, match=reason):
            _engine("milvus://localhost:1", tmp_path, file)


@pytest.mark.campaign
def test_a_token_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("milvus")
    server = MilvusServer(authorization_enabled=True)
    try:
        token = tmp_path / "token"
        token.write_text("root:Milvus\n")
        index = _engine(server.url, tmp_path, token).open(identity())
        step(index, 1)
        assert len(index.ids()) == 47
        token.write_text("root:wrong\n")
        for file in (None, token):
            with pytest.raises(EngineUnavailable):
                _engine(server.url, tmp_path, file).open(identity())
    finally:
        server.remove()
