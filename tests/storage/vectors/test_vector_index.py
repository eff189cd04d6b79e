"""The one suite that every vector index implementation passes, against brute force."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from vector_oracle import (
    IMPLEMENTATIONS,
    SMALL,
    Implementation,
    Truth,
    add,
    as_rows,
    remove,
    unit_rows,
)

from regard.core.errors import NotFound
from regard.core.idset import IdSet
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.lists import ListsModel
from regard.storage.vectors.segments.state import SegmentLimits

D = 16
NOTHING = (np.empty(0, np.int64), np.empty((0, D), np.float32))
NO_IDS = np.empty(0, np.int64)


pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)


@pytest.fixture
def index(implementation: Implementation, tmp_path: Path) -> SegmentedIndex:
    return implementation.create(tmp_path / "index")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def filled(
    implementation: Implementation, index: SegmentedIndex, rng: np.random.Generator
) -> tuple[SegmentedIndex, Truth]:
    """About 1400 rows over several sealed segments and the delta, a tenth of them deleted."""
    truth = implementation.truth()
    ids = rng.permutation(np.arange(1, 6001))[:1550]
    for batch in np.array_split(ids, 41):
        vectors = unit_rows(rng, len(batch))
        add(index, batch, vectors)
        truth.add(batch, vectors)
    remove(index, ids[::10])
    truth.remove(ids[::10])
    stats = index.stats()
    assert stats["segments"] > 2
    assert stats["delta_rows"] > 0
    assert stats["tombstones"] > 0
    implementation.settle(index)
    assert (index.stats()["segments_with_lists"] > 1) == implementation.has_lists
    return index, truth


def test_empty(index: SegmentedIndex, rng: np.random.Generator) -> None:
    Truth().check_search(index, unit_rows(rng, 3), 5)
    Truth().check_search(index, unit_rows(rng, 3), 0)
    assert index.applied_through == 0
    assert index.ids().tolist() == []
    assert index.vectors(NO_IDS).shape == (0, D)
    assert index.row_count == 0


@pytest.mark.parametrize("k", [0, 1, 10, 300, 2500])
def test_unfiltered(filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator, k: int) -> None:
    index, truth = filled
    truth.check_search(index, unit_rows(rng, 5), k)
    truth.check_search(index, 37.0 * unit_rows(rng, 5), k)
    truth.check_search(index, unit_rows(rng, 0), k)
    truth.check_contents(index)


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("size", [0, 1, 10, 60, 5400, 6000])
def test_filtered(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator, size: int, complement: bool
) -> None:
    index, truth = filled
    for k in (1, 7, 40, 2000):
        allowed = IdSet(rng.choice(np.arange(1, 6001), size, replace=False), complement=complement)
        truth.check_search(index, unit_rows(rng, 3), k, allowed)


def test_filter_opposed_to_the_query(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator
) -> None:
    """What is allowed scores worst, so that fetching a little more finds none of it."""
    index, truth = filled
    query = unit_rows(rng, 1)
    worst = truth.ids()[np.argsort(truth.vectors().astype(np.float32) @ query[0])[:200]]
    truth.check_search(index, query, 20, IdSet(worst))
    truth.check_search(index, query, 200, IdSet(worst))


def test_more_rows_of_an_answer_follow_the_first(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator
) -> None:
    index, truth = filled
    queries = unit_rows(rng, 6)
    for allowed in (None, IdSet(truth.ids()[::2])):
        scores, ids = index.search(queries, 150, allowed)[:2]
        for k in (1, 8, 9, 32, 33, 100, 149):
            first = index.search(queries, k, allowed)
            np.testing.assert_array_equal(first.ids, ids[:, :k])
            np.testing.assert_array_equal(first.scores, scores[:, :k])


def test_answers_are_full_when_most_rows_are_found_late(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step over lists adds has to follow the rows of earlier steps."""
    index, truth = filled
    monkeypatch.setattr(
        ListsModel, "rows_to_read", lambda _, total, __, reading: total if reading else 1
    )
    truth.recall = 0.1
    for k in (8, 30, 60, 300, 1300):
        truth.check_search(index, unit_rows(rng, 3), k)


def test_many_queries(filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator) -> None:
    index, truth = filled
    queries = unit_rows(rng, 150)
    truth.check_search(index, queries, 12)
    together = index.search(queries, 12)
    for row in (0, 63, 64, 149):
        alone = index.search(queries[row : row + 1], 12)
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        np.testing.assert_array_equal(alone[1][0], together[1][row])


def test_equal_rows_come_by_ascending_id(
    implementation: Implementation, index: SegmentedIndex, rng: np.random.Generator
) -> None:
    twin, others = unit_rows(rng, 1), unit_rows(rng, 900)
    add(index, np.arange(1000, 1900), others)
    twins = rng.permutation(np.arange(1, 1000, 3))
    for batch in np.array_split(twins, 25):
        add(index, batch, np.repeat(twin, len(batch), axis=0))
    implementation.settle(index)
    scores, ids = index.search(twin, 150)[:2]
    np.testing.assert_array_equal(ids[0], np.sort(twins)[:150])
    assert len(set(scores[0].tolist())) == 1


def test_scores_that_differ_by_less_than_float16_tells(
    implementation: Implementation, index: SegmentedIndex, rng: np.random.Generator
) -> None:
    centre = unit_rows(rng, 1)
    near = centre + rng.normal(0, 4e-4, (1200, D))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    truth = implementation.truth()
    for batch in np.array_split(np.arange(1, 1201), 10):
        add(index, batch, near[batch - 1].astype(np.float32))
        truth.add(batch, near[batch - 1])
    implementation.settle(index)
    for k in (1, 10, 100):
        truth.check_search(index, (centre + unit_rows(rng, 1) * 1e-3).astype(np.float32), k)


def test_short_and_long_queries(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator
) -> None:
    index, _ = filled
    query = unit_rows(rng, 1)
    expected = index.search(query, 5)[1]
    for scale in (2.0**-60, 2.0**-20, 2.0**20, 2.0**60):
        np.testing.assert_array_equal(index.search(query * np.float32(scale), 5)[1], expected)


def test_adding_again_changes_nothing(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator
) -> None:
    index, truth = filled
    add(index, truth.ids(), unit_rows(rng, len(truth.rows)))
    add(index, np.array([9000, 9000]), np.repeat(unit_rows(rng, 1), 2, axis=0))
    truth.rows[9000] = index.vectors(np.array([9000]))[0]
    truth.check_contents(index)


def test_removing_the_unknown(filled: tuple[SegmentedIndex, Truth]) -> None:
    index, truth = filled
    remove(index, np.array([-4, 0, 7000, 2**62]))
    remove(index, NO_IDS)
    truth.check_contents(index)


def test_removing_everything_then_adding(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator
) -> None:
    index, truth = filled
    remove(index, truth.ids())
    Truth().check_search(index, unit_rows(rng, 2), 3)
    assert index.stats()["segments"] == 0
    vectors = unit_rows(rng, 3)
    add(index, truth.ids()[:3], vectors)
    after = Truth()
    after.add(truth.ids()[:3], vectors)
    after.check_contents(index)
    after.check_search(index, unit_rows(rng, 2), 3)


def test_compaction_bounds_segments_and_tombstones(
    implementation: Implementation, tmp_path: Path, rng: np.random.Generator
) -> None:
    index, truth = implementation.create(tmp_path), implementation.truth()
    alive: list[int] = []
    for step in range(150):
        ids = np.arange(step * 30 + 1, step * 30 + 31)
        gone = rng.choice(alive, min(len(alive), 20), replace=False).astype(np.int64)
        vectors = unit_rows(rng, 30)
        index.apply(as_rows(ids, vectors), gone, through=step + 1)
        truth.add(ids, vectors)
        truth.remove(gone)
        alive = truth.ids().tolist()
        stats = index.stats()
        sealed_rows = stats["rows"] - stats["delta_rows"]
        assert stats["delta_rows"] <= SMALL.delta_rows
        assert stats["tombstones"] <= 0.25 * (sealed_rows + stats["tombstones"])
        full = sealed_rows / (SMALL.segment_rows / 2)
        assert stats["segments"] <= full + SMALL.small_segments
        if step % 40 == 0:
            implementation.settle(index)
    truth.check_contents(index)
    truth.check_search(index, unit_rows(rng, 3), 20)


def test_one_large_addition_is_cut_into_segments(
    implementation: Implementation, tmp_path: Path, rng: np.random.Generator
) -> None:
    index, truth = implementation.create(tmp_path), Truth()
    ids, vectors = np.arange(1, 1001), unit_rows(rng, 1000)
    add(index, ids, vectors)
    truth.add(ids, vectors)
    assert index.stats()["segments"] == 3
    truth.check_contents(index)


def test_steps_may_be_replayed(index: SegmentedIndex, rng: np.random.Generator) -> None:
    vectors = unit_rows(rng, 4)
    first = (np.array([1, 2, 3]), vectors[:3])
    index.apply(as_rows(*first), NO_IDS, through=3)
    index.apply(as_rows(*NOTHING), np.array([2]), through=4)
    index.apply(as_rows(*first), NO_IDS, through=3)
    assert index.ids().tolist() == [1, 3]
    assert index.applied_through == 4
    # A longer step that holds both: what was added and deleted in it stays deleted.
    index.apply(as_rows(np.array([1, 2, 3, 4]), vectors), np.array([2]), through=5)
    assert index.ids().tolist() == [1, 3, 4]
    index.apply(as_rows(*NOTHING), NO_IDS, through=9)
    index.apply(as_rows(*first), NO_IDS, through=7)
    assert index.applied_through == 9


def test_refused_arguments(index: SegmentedIndex, rng: np.random.Generator) -> None:
    vectors = unit_rows(rng, 2)
    nan, infinite, long = vectors.copy(), vectors.copy(), vectors * 3
    nan[1, 3], infinite[0, 0] = np.nan, np.inf
    ids = np.array([1, 2])
    for wrong in (
        nan,
        infinite,
        long,
        long * np.float32(1e37),
        vectors[:1],
        vectors[:, :5],
        vectors[0],
    ):
        with pytest.raises(ValueError, match=r"vector"):
            add(index, ids, wrong)
    for wrong_ids in (np.array([0, 1]), np.array([-3, 1]), np.array([1.0, 2.0]), ids[None]):
        with pytest.raises(ValueError, match="ids"):
            add(index, wrong_ids, vectors)
    with pytest.raises(ValueError, match="norm"):
        index.apply(as_rows(ids, long), NO_IDS, through=1)
    add(index, ids, vectors)
    for query in (nan, infinite, vectors * np.float32(1e38)):
        with pytest.raises(ValueError, match="NaN"):
            index.search(query, 1)
    for query in (vectors[0], vectors[:, :3], vectors[None]):
        with pytest.raises(ValueError, match="expected queries"):
            index.search(query, 1)
    with pytest.raises(ValueError, match="negative"):
        index.search(vectors, -1)
    with pytest.raises(NotFound, match="no row 5"):
        index.vectors(np.array([1, 5]))
    assert index.ids().tolist() == [1, 2]


def test_vectors_keep_the_order_asked_for(
    filled: tuple[SegmentedIndex, Truth], rng: np.random.Generator
) -> None:
    index, truth = filled
    ids = rng.choice(truth.ids(), 500)
    vectors = index.vectors(ids)
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, [truth.rows[key] for key in ids.tolist()])


def test_every_float16_value_is_kept(index: SegmentedIndex) -> None:
    """Subnormals, signed zeros and all else up to 1, through delta, segments and their search."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.abs(values) <= 1]
    vectors = np.zeros((len(values), D), np.float16)
    vectors[:, 3] = values
    ids = np.arange(1, len(values) + 1)
    add(index, ids, vectors)
    np.testing.assert_array_equal(index.vectors(ids).view(np.uint16), vectors.view(np.uint16))
    query = np.zeros((1, D), np.float32)
    query[0, 3] = 1
    scores, _ = index.search(query, len(ids))[:2]
    np.testing.assert_array_equal(scores[0], -np.sort(-values.astype(np.float32)))


def test_arguments_stay_as_they_are(index: SegmentedIndex, rng: np.random.Generator) -> None:
    ids, vectors = rng.permutation(np.arange(1, 301)), unit_rows(rng, 600)[::2]
    queries, gone = unit_rows(rng, 8)[:, ::-1], np.array([5, 3, 5])
    arrays = (ids, vectors, queries, gone)
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    add(index, ids, vectors)
    index.apply(as_rows(ids, vectors), gone, through=1)
    remove(index, gone)
    index.search(queries, 4)
    index.search(queries, 4, IdSet(ids[:9]))
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_later_changes_of_the_arguments_do_not_reach_the_index(
    index: SegmentedIndex, rng: np.random.Generator
) -> None:
    for count in (5, 200):  # the delta, then a segment
        ids, vectors = np.arange(1, count + 1), unit_rows(rng, count)
        add(index, ids, vectors)
        expected = index.vectors(index.ids()).copy()
        ids[:], vectors[:] = 7, 0
        np.testing.assert_array_equal(index.vectors(index.ids()), expected)
        assert len(index.ids()) == count


def test_searches_during_changes(
    implementation: Implementation, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Each step replaces a pair of twins, so whenever one looks there is exactly one pair."""
    limits = SegmentLimits(segment_rows=128, delta_rows=16, small_segments=2)
    index = implementation.create(tmp_path, limits=limits)
    stable_ids, stable = np.arange(1, 201), unit_rows(rng, 200)
    twin = unit_rows(rng, 1)
    index.apply(as_rows(stable_ids, stable), NO_IDS, through=1)
    pair = np.array([1001, 1002])
    index.apply(as_rows(pair, np.repeat(twin, 2, axis=0)), NO_IDS, through=2)
    implementation.settle(index)
    removed_below = 1001
    failures: list[Exception] = []
    stop = threading.Event()
    counts = [0, 0, 0]

    def look(reader: int) -> None:
        own = np.random.default_rng(reader)
        try:
            while not stop.is_set():
                gone = removed_below
                chosen = own.integers(0, 200, 4)
                _, found = index.search(stable[chosen], 3)[:2]
                for row, place in zip(found, chosen, strict=True):
                    assert stable_ids[place] in row
                scores, found = index.search(twin, 3)[:2]
                is_twin = found[0] > 1000
                assert is_twin.sum() == 2, (scores, found)
                assert (found[0][is_twin] >= gone).all()
                _, found = index.search(twin, 2, IdSet(stable_ids, complement=True))[:2]
                assert found[0][0] + 1 == found[0][1]
                counts[reader] += 1
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    readers = [threading.Thread(target=look, args=(reader,)) for reader in range(3)]
    for thread in readers:
        thread.start()
    position, end = 3, time.monotonic() + 60
    while (position < 40 or min(counts) < 10) and time.monotonic() < end and not failures:
        fresh = pair + 2
        index.apply(as_rows(fresh, np.repeat(twin, 2, axis=0)), pair, through=position)
        removed_below, pair, position = int(fresh[0]), fresh, position + 1
        if position % 10 == 0:
            implementation.snapshot(index)
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures, failures[0]
    assert min(counts) >= 10
    assert position >= 40
