"""The one suite that every vector engine passes, against brute force."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from made_processes import Forked
from postgres_server import PostgresServer
from vector_oracle import (
    APPROXIMATE,
    SMALL,
    Truth,
    add,
    as_rows,
    contents,
    identity,
    remove,
    step,
    unit_rows,
)

from regard.core.errors import EngineUnavailable, HomeError, NotFound
from regard.core.idset import IdSet
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import Additions, VectorEngine, VectorIndex
from regard.storage.vectors.engines import make_engine
from regard.storage.vectors.pgvector import index as pgvector_index
from regard.storage.vectors.pgvector import scan as pgvector_scan
from regard.storage.vectors.segments import index as segments_index

D = 16
NO_IDS = np.empty(0, np.int64)
NOTHING = (np.empty(0, np.int64), np.empty((0, D), np.float32))
_APPLIER = Path(__file__).with_name("engine_applier.py")


@dataclass
class Setup:
    """One engine's store; `engine()` is another process's view of it."""

    vectors: str
    folder: Path
    url: str
    database: Database
    # The share of the best rows that large indexes find.
    recall: float = 1.0
    # Whether a killed process leaves no part of a step, which another one has to do again.
    is_atomic: bool = True
    # Whether the server builds graphs on its own after a snapshot.
    has_graphs: bool = False

    def engine(self) -> VectorEngine:
        return make_engine(self.vectors, None, self.folder, self.database)

    def open(self) -> VectorIndex:
        return self.engine().open(identity())

    def make_fast(self, index: VectorIndex, queries: np.ndarray) -> None:
        """Take a snapshot, and wait until all rows are in graphs."""
        index.snapshot(lambda: [queries])
        deadline = time.monotonic() + 240
        while self.has_graphs and index.stats()["graph_rows"] < index.row_count:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def applier(self, last: int) -> subprocess.Popen[bytes]:
        """A process that applies the steps up to `last`."""
        return Forked(
            [sys.executable, _APPLIER, self.vectors, self.folder, self.url, str(last)],
            env={"PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
        )


# Each collection that Milvus makes takes some seconds.
_ENGINES = ["faiss", "pgvector", pytest.param("milvus", marks=pytest.mark.campaign)]
_FOR_MANY = [
    "faiss, lists",
    "pgvector, hnsw",
    pytest.param("milvus, hnsw", marks=pytest.mark.campaign),
]
# Processes that apply steps have no index that is made for many rows.
over_processes = pytest.mark.parametrize("setup", _ENGINES, indirect=True)


@pytest.fixture(params=[*_ENGINES, *_FOR_MANY])
def setup(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Setup]:
    url = postgres_server.create_database()
    database = Database(url)
    name, _, index = request.param.partition(", ")
    # Few rows are searched as many are.
    if index == "lists":
        APPROXIMATE.prepare(monkeypatch)
        limits = APPROXIMATE.limits(SMALL)
        monkeypatch.setattr(segments_index, "SegmentLimits", lambda: limits)
    elif request.param == "milvus, hnsw":
        for limit, value in {"_UNSEALED_ROWS": 300, "_BREADTH": 16, "_FEW_ROWS": 100}.items():
            monkeypatch.setattr(f"regard.storage.vectors.milvus.index.{limit}", value)
    elif index == "hnsw":
        monkeypatch.setattr(pgvector_index, "_INDEXED_ROWS", 300)
        monkeypatch.setattr(pgvector_scan, "_ROW_COST", 0)
        monkeypatch.setattr(pgvector_scan, "_LISTED_CONTENTS", 1000)
    is_milvus = name == "milvus"
    vectors = request.getfixturevalue("milvus_server").url if is_milvus else name
    recall = APPROXIMATE.recall if index == "lists" else 0.95 if index or is_milvus else 1.0
    setup = Setup(
        vectors,
        tmp_path / "indexes",
        url,
        database,
        recall,
        is_atomic=not is_milvus,
        has_graphs=is_milvus and index == "hnsw",
    )
    yield setup
    if is_milvus:
        for pipeline in "abf":
            setup.engine().forget(identity().catalog, pipeline * 64)
    database.close()
    postgres_server.drop_database(url)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def filled(setup: Setup, rng: np.random.Generator) -> tuple[VectorIndex, Truth]:
    """About 1400 rows that came in several steps, a tenth of them deleted; fast searches."""
    index, truth = setup.open(), Truth(D, setup.recall)
    ids = rng.permutation(np.arange(1, 6001))[:1550]
    for batch in np.array_split(ids, 11):
        vectors = unit_rows(rng, len(batch))
        add(index, batch, vectors)
        truth.add(batch, vectors)
    remove(index, ids[::10])
    truth.remove(ids[::10])
    setup.make_fast(index, unit_rows(rng, 50))
    assert index.is_exact == (setup.recall == 1)
    return index, truth


def test_an_empty_index(setup: Setup, rng: np.random.Generator) -> None:
    index = setup.open()
    for k in (0, 5):
        Truth().check_search(index, unit_rows(rng, 3), k)
    Truth().check_contents(index)
    assert index.applied_through == 0
    assert index.vectors(NO_IDS).shape == (0, D)
    index.snapshot()
    assert setup.open().applied_through == 0


@pytest.mark.parametrize("k", [0, 1, 10, 300, 2500])
def test_unfiltered(filled: tuple[VectorIndex, Truth], rng: np.random.Generator, k: int) -> None:
    index, truth = filled
    truth.check_search(index, unit_rows(rng, 5), k)
    truth.check_search(index, 37.0 * unit_rows(rng, 5), k)
    truth.check_search(index, unit_rows(rng, 0), k)
    truth.check_search(index, np.zeros((1, D), np.float32), k)
    truth.check_contents(index)


def test_filters_never_starve(filled: tuple[VectorIndex, Truth], rng: np.random.Generator) -> None:
    """None, one, ten, about 1 % and 90 % of all contents, and all but these."""
    index, truth = filled
    for size in (0, 1, 10, 60, 5400, 6000):
        chosen = rng.choice(np.arange(1, 6001), size, replace=False)
        for allowed in (IdSet(chosen), IdSet(chosen, complement=True)):
            for k in (1, 7, 40, 2000):
                truth.check_search(index, unit_rows(rng, 3), k, allowed)


def test_filter_opposed_to_the_query(
    filled: tuple[VectorIndex, Truth], rng: np.random.Generator
) -> None:
    """What is allowed scores worst, so that reading a little more finds none of it."""
    index, truth = filled
    query = unit_rows(rng, 1)
    order = np.argsort(truth.vectors().astype(np.float32) @ query[0])
    for count in (20, 600):
        worst = truth.ids()[order[:count]]
        truth.check_search(index, query, 20, IdSet(worst))
        truth.check_search(index, query, 600, IdSet(worst))


def test_equal_rows_come_by_ascending_id(setup: Setup, rng: np.random.Generator) -> None:
    index = setup.open()
    twin, others = unit_rows(rng, 1), unit_rows(rng, 100)
    add(index, np.arange(1000, 1100), others)
    twins = rng.permutation(np.arange(1, 600, 3))
    for batch in np.array_split(twins, 5):
        add(index, batch, np.repeat(twin, len(batch), axis=0))
    index.snapshot(lambda: [others])
    for exact in (True, False):
        scores, ids = index.search(twin, 150, exact=exact)[:2]
        assert len(set(scores[0].tolist())) == 1
        assert (np.diff(ids[0]) > 0).all()
        if exact or index.is_exact:
            np.testing.assert_array_equal(ids[0], np.sort(twins)[:150])


def test_every_float16_value_is_kept(setup: Setup) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.abs(values) <= 1][::7]
    vectors = np.zeros((len(values), D), np.float16)
    vectors[:, 3] = values
    ids = np.arange(1, len(values) + 1)
    index = setup.open()
    add(index, ids, vectors)
    np.testing.assert_array_equal(index.vectors(ids).view(np.uint16), vectors.view(np.uint16))
    query = np.zeros((1, D), np.float32)
    query[0, 3] = 1
    scores = index.search(query, 500, exact=True).scores
    np.testing.assert_array_equal(scores[0], -np.sort(-values.astype(np.float32))[:500])


def test_steps_may_be_replayed(setup: Setup, rng: np.random.Generator) -> None:
    index, vectors = setup.open(), unit_rows(rng, 4)
    first = (np.array([1, 2, 3]), vectors[:3])
    index.apply(as_rows(*first), NO_IDS, through=3)
    index.apply(as_rows(*NOTHING), np.array([2]), through=4)
    index.apply(as_rows(*first), NO_IDS, through=3)
    assert index.ids().tolist() == [1, 3]
    assert index.applied_through == 4
    # A longer step that holds both: what was added and deleted in it stays deleted.
    index.apply(as_rows(np.array([1, 2, 3, 4]), vectors), np.array([2]), through=5)
    assert index.ids().tolist() == [1, 3, 4]
    np.testing.assert_array_equal(index.vectors(np.array([1]))[0], vectors[0])
    index.apply(as_rows(*NOTHING), NO_IDS, through=9)
    index.apply(as_rows(*first), NO_IDS, through=7)
    assert index.applied_through == 9


def test_removing_the_unknown_and_everything(
    filled: tuple[VectorIndex, Truth], rng: np.random.Generator
) -> None:
    index, truth = filled
    remove(index, np.array([-4, 0, 7000, 2**62]))
    truth.check_contents(index)
    remove(index, truth.ids())
    Truth().check_search(index, unit_rows(rng, 2), 3)
    vectors, after = unit_rows(rng, 3), Truth()
    add(index, truth.ids()[:3], vectors)
    after.add(truth.ids()[:3], vectors)
    after.check_contents(index)
    after.check_search(index, unit_rows(rng, 2), 3)


def test_refused_arguments(setup: Setup, rng: np.random.Generator) -> None:
    index, vectors, ids = setup.open(), unit_rows(rng, 2), np.array([1, 2])
    nan = vectors.copy()
    nan[1, 3] = np.nan
    for wrong in (nan, vectors * 3, vectors[:1], vectors[:, :5]):
        with pytest.raises(ValueError, match="vector"):
            add(index, ids, wrong)
        with pytest.raises(ValueError, match="vector"):
            index.fill([as_rows(ids, wrong)], through=3)
    with pytest.raises(ValueError, match="ids"):
        add(index, np.array([0, 1]), vectors)
    assert (index.applied_through, len(index.ids())) == (0, 0)
    add(index, ids, vectors)
    with pytest.raises(ValueError, match="can't be filled"):
        index.fill([as_rows(ids, vectors)], through=3)
    with pytest.raises(ValueError, match="NaN"):
        index.search(nan, 1)
    with pytest.raises(ValueError, match="expected queries"):
        index.search(vectors[:, :3], 1)
    with pytest.raises(ValueError, match="negative"):
        index.search(vectors, -1)
    with pytest.raises(NotFound, match="no row 5"):
        index.vectors(np.array([1, 5]))
    assert index.ids().tolist() == [1, 2]


def test_other_processes_see_what_one_applied(setup: Setup, rng: np.random.Generator) -> None:
    index, other = setup.open(), setup.open()
    step(index, 1)
    index.snapshot()
    with other.changing():
        assert other.applied_through == 1
        assert contents(other) == contents(index)
        step(other, 2)
    other.snapshot()
    with index.changing():
        # An index in memory goes its own way.
        if index.applied_through == 1:
            step(index, 2)
    assert contents(index) == contents(other) == contents(setup.open())
    stats = setup.engine().kept_stats(identity())
    assert stats is not None
    assert stats["rows"] == len(index.ids())


def test_a_new_index_replaces_the_former_when_it_is_filled(
    setup: Setup, filled: tuple[VectorIndex, Truth], rng: np.random.Generator
) -> None:
    truth = filled[1]
    for is_filled in (True, False):
        created = setup.engine().create(identity())
        assert created.applied_through == 0
        assert len(created.ids()) == 0
        Truth().check_search(created, unit_rows(rng, 2), 3)
        truth.check_contents(setup.open())
        vectors = unit_rows(rng, 400)
        truth = Truth(D, setup.recall)
        truth.add(np.arange(1, 401), vectors)
        rows = as_rows(np.arange(1, 401), vectors)
        halves = [tuple(part[:200] for part in rows), tuple(part[200:] for part in rows)]
        if is_filled:
            created.fill(halves, through=7)  # type: ignore[arg-type]
        else:
            created.apply(rows, NO_IDS, through=7)
        created.snapshot(lambda vectors=vectors: [vectors])  # type: ignore[misc]
        for seen in (created, setup.open()):
            assert seen.applied_through == 7
            truth.check_contents(seen)
            truth.check_search(seen, unit_rows(rng, 5), 10)
            assert seen.damage() == []


def test_a_pipeline_is_forgotten_alone(setup: Setup, rng: np.random.Generator) -> None:
    engine = setup.engine()
    kept, gone = (identity(pipeline=one * 64) for one in "ab")
    for each in (kept, gone):
        index = engine.open(each)
        add(index, np.arange(1, 4), unit_rows(rng, 3))
        index.snapshot()
    for _ in range(2):
        engine.forget(gone.catalog, gone.pipeline)
    assert setup.engine().open(kept).ids().tolist() == [1, 2, 3]
    if setup.vectors != "faiss":  # whose files are in the pipeline's folder
        assert setup.engine().kept_stats(gone) is None
        assert len(setup.engine().open(gone).ids()) == 0


@pytest.fixture
def on_pgvector(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Setup]:
    url = postgres_server.create_database()
    database = Database(url)
    yield Setup("pgvector", tmp_path, url, database)
    database.close()
    postgres_server.drop_database(url)


def test_pgvector_needs_its_extension(on_pgvector: Setup) -> None:
    name = f"plain_{uuid.uuid4().hex}"
    with on_pgvector.database.writing() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
        connection.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {name}")
    plain = Database(on_pgvector.url.replace("postgres@", f"{name}@"))
    engine = make_engine("pgvector", None, on_pgvector.folder, plain)
    assert engine.kept_stats(identity()) is None
    with pytest.raises(EngineUnavailable, match="permission denied to create extension") as raised:
        engine.open(identity())
    assert "CREATE EXTENSION vector" in str(raised.value)
    with on_pgvector.database.writing() as connection:
        connection.exec_driver_sql("CREATE EXTENSION vector")
    assert engine.open(identity()).applied_through == 0
    plain.close()


def test_pgvector_continues_after_lost_connections(on_pgvector: Setup) -> None:
    index, other = on_pgvector.open(), on_pgvector.open()

    def lose_all() -> None:
        database = Database(on_pgvector.url)
        with database.writing() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        database.close()

    def change_alone() -> None:
        with index.changing():
            lose_all()
            step(index, 1)

    with pytest.raises(HomeError):
        change_alone()
    assert index.applied_through == 0
    # No lock is left behind.
    with other.changing():
        step(other, 1)
    lose_all()
    with index.changing():
        assert contents(index) == contents(other)


@pytest.mark.parametrize("dimension", [3900, 3901, 4000, 4001])
def test_pgvector_takes_vectors_of_any_length(
    on_pgvector: Setup, dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that fit into a page, into an index, or into neither."""
    monkeypatch.setattr(pgvector_index, "_INDEXED_ROWS", 1)
    index, truth = on_pgvector.engine().open(identity(dimension)), Truth(dimension)
    rows = unit_rows(np.random.default_rng(1), 12, dimension)
    add(index, np.arange(1, 13), rows)
    truth.add(np.arange(1, 13), rows)
    index.snapshot(lambda: [])
    assert index.is_exact == (dimension > 4000)
    truth.check_search(index, rows[:2], 3)
    truth.check_contents(index)


def test_pgvector_builds_again_what_many_rows_would_enter_one_by_one(
    on_pgvector: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgvector_index, "_INDEXED_ROWS", 1)
    monkeypatch.setattr(pgvector_index, "_MANY_NEW", 40)
    index, rng = on_pgvector.open(), np.random.default_rng(1)
    add(index, np.arange(1, 101), unit_rows(rng, 100))
    index.snapshot(lambda: [])
    add(index, np.arange(101, 141), unit_rows(rng, 40))
    assert not index.is_exact
    add(index, np.arange(201, 242), unit_rows(rng, 41))
    assert index.is_exact
    assert on_pgvector.open().is_exact
    index.snapshot(lambda: [])
    assert not on_pgvector.open().is_exact


def test_pgvector_looks_farther_where_queries_lie_apart_from_rows(
    on_pgvector: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgvector_index, "_INDEXED_ROWS", 1)
    monkeypatch.setattr(pgvector_scan, "_ROW_COST", 0)
    # The rows differ most in other directions than these queries.
    rng, count, dimension = np.random.default_rng(1), 2500, 64
    weights = np.repeat([[1.0, 0.05], [0.0, 1.0]], dimension // 2, axis=1)
    rows = rng.standard_normal((count, dimension)) * weights[0]
    apart = rng.standard_normal((40, dimension)) * weights[1]
    rows, apart = (
        (some / np.linalg.norm(some, axis=1, keepdims=True)).astype(np.float32)
        for some in (rows, apart)
    )
    ids, truth = np.arange(1, count + 1), Truth(dimension, 0.97)
    breadths = []
    for number, queries in enumerate((rows[:40], apart)):
        created = on_pgvector.engine().create(identity(dimension))
        created.fill([as_rows(ids, rows)], through=number + 1)
        created.snapshot(lambda queries=queries: [queries])  # type: ignore[misc]
        stats = on_pgvector.engine().kept_stats(identity(dimension))
        assert stats is not None
        breadths.append(stats["breadth"])
    assert breadths[0] < breadths[1]
    truth.add(ids, rows)
    truth.check_search(created, apart, 10)


def test_pgvector_follows_the_log_while_it_is_rebuilt(on_pgvector: Setup) -> None:
    index, rng = on_pgvector.open(), np.random.default_rng(1)
    step(index, 1)
    step(index, 2)
    created = on_pgvector.engine().create(identity())
    vectors = unit_rows(rng, 2)

    def meanwhile() -> Iterator[Additions]:
        yield as_rows(np.array([1]), vectors[:1])
        with index.changing():
            step(index, 3)
        yield as_rows(np.array([2]), vectors[1:])

    with created.changing():
        created.fill(meanwhile(), through=2)
    # What was applied meanwhile is not there yet, and is known not to be.
    with pytest.raises(EngineUnavailable, match="is being rebuilt"):
        step(index, 4)
    for applier in (index, created):
        with applier.changing():
            if applier.applied_through == 2:
                step(applier, 3)
    assert contents(index) == contents(created) == contents(on_pgvector.open())
    assert {1, 2, 3000} <= set(index.ids().tolist())


def test_pgvector_applies_again_what_was_deleted_beneath_it(on_pgvector: Setup) -> None:
    index = on_pgvector.open()
    step(index, 1)
    on_pgvector.engine().forget(identity().catalog, identity().pipeline)
    with pytest.raises(EngineUnavailable, match="was deleted or is being rebuilt"):
        index.search(unit_rows(np.random.default_rng(1), 1), 3)
    with index.changing():
        step(index, 1)
    assert contents(index) == contents(on_pgvector.open())


@over_processes
@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.campaign)])
def test_a_killed_applier_leaves_whole_steps(setup: Setup, kills: int, tmp_path: Path) -> None:
    truth = _steps(tmp_path)
    for _ in range(kills):
        applier = setup.applier(40 * kills)
        assert applier.stdout is not None
        applier.stdout.readline()
        time.sleep(random.uniform(0, 0.2))
        applier.kill()
        applier.wait()
        applier.stdout.close()
        index = setup.open()
        if not setup.is_atomic:
            with index.changing():
                step(index, index.applied_through + 1)
        assert contents(index) == truth(index.applied_through)
    last = index.applied_through + 20
    with setup.applier(last) as applier:
        applier.communicate()
    assert contents(setup.open()) == truth(last)


@over_processes
def test_two_appliers_at_once(setup: Setup, tmp_path: Path) -> None:
    appliers = [setup.applier(60) for _ in range(2)]
    for applier in appliers:
        applier.communicate()
        assert applier.returncode == 0
    index = setup.open()
    assert contents(index) == _steps(tmp_path)(60)
    assert index.damage() == []


def _steps(folder: Path) -> Callable[[int], tuple[int, list[int], bytes]]:
    """What an index holds after so many steps, asked in ascending order."""
    index = make_engine("faiss", None, folder / "steps", Database(folder / "none")).open(identity())

    def after(position: int) -> tuple[int, list[int], bytes]:
        while index.applied_through < position:
            step(index, index.applied_through + 1)
        return contents(index)

    return after
