"""What the vector index tests share: brute force as the truth, implementations, a GPU's
stand-in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regard.core.catalog import Neighbours
from regard.core.idset import IdSet
from regard.core.records import Kind
from regard.storage.vectors.engine import Additions, IndexIdentity, VectorIndex
from regard.storage.vectors.rows import Rows
from regard.storage.vectors.segments import lists as lists_module
from regard.storage.vectors.segments import nearest as nearest_module
from regard.storage.vectors.segments.gpu import GpuDevice, gpu_devices
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.segment import Device
from regard.storage.vectors.segments.state import SegmentLimits

SMALL = SegmentLimits(
    segment_rows=400, delta_rows=60, dead_share=0.25, small_segments=3, merged_rows=400
)


def identity(dimension: int = 16, **changes: Any) -> IndexIdentity:
    fields = {
        "catalog": "0b0e3f0e-6a54-4b54-9d39-0d2c2f0a9c11",
        "pipeline": "f" * 64,
        "space": "lite-joint",
        "kind": Kind.REGION,
        "dimension": dimension,
    }
    return IndexIdentity(**{**fields, **changes})


def unit_rows(rng: np.random.Generator, count: int, dimension: int = 16) -> np.ndarray:
    """Random unit vectors, float32 (count, dimension), that float16 holds exactly."""
    rows = rng.standard_normal((count, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)


def as_rows(ids: np.ndarray, vectors: np.ndarray) -> Additions:
    """Additions whose contents have the ids of the rows, and which have no regions."""
    return ids, vectors, ids, np.zeros_like(ids)


def add(index: VectorIndex, ids: np.ndarray, vectors: np.ndarray, *, through: int = 0) -> None:
    """Add rows in the next step of the log, or in one that ends at `through`."""
    position = through or index.applied_through + 1
    index.apply(as_rows(ids, vectors), np.empty(0, np.int64), through=position)


def remove(index: VectorIndex, ids: np.ndarray) -> None:
    """Remove rows in the next step of the log."""
    nothing = np.empty(0, np.int64), np.empty((0, index.identity.dimension), np.float32)
    index.apply(as_rows(*nothing), ids, through=index.applied_through + 1)


def make_rows(ids: np.ndarray, vectors: np.ndarray) -> Rows:
    """The same as rows."""
    return Rows(ids, ids, np.zeros_like(ids), vectors)


class Truth:
    """Brute force in float64 over the stored float16 vectors.

    Checks that searches find the share `recall` of the best rows, counted over all its checks.
    """

    def __init__(self, dimension: int = 16, recall: float = 1.0) -> None:
        self.dimension = dimension
        self.recall = recall
        self.rows: dict[int, np.ndarray] = {}
        self._missed = self._wanted = 0

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        for key, vector in zip(ids.tolist(), vectors.astype(np.float16), strict=True):
            self.rows.setdefault(key, vector)

    def remove(self, ids: np.ndarray) -> None:
        for key in ids.tolist():
            self.rows.pop(key, None)

    def ids(self) -> np.ndarray:
        return np.array(sorted(self.rows), np.int64)

    def vectors(self) -> np.ndarray:
        rows = [self.rows[key] for key in self.ids().tolist()]
        return np.array(rows, np.float16).reshape(-1, self.dimension)

    def check_search(
        self, index: VectorIndex, queries: np.ndarray, k: int, allowed: IdSet | None = None
    ) -> None:
        """Check an answer, and the exact one if rows may be missed.

        Rows whose scores tie may stand for each other.
        """
        is_best = self._check_answer(index.search(queries, k, allowed), queries, k, allowed)
        self._missed += np.count_nonzero(~is_best)
        self._wanted += is_best.size
        # A hundred rows more, so that the first few decide nothing.
        assert self._missed <= (1 - self.recall) * (self._wanted + 100)
        if self.recall < 1:
            exact = index.search(queries, k, allowed, exact=True)
            assert self._check_answer(exact, queries, k, allowed).all()

    def _check_answer(
        self, answer: Neighbours, queries: np.ndarray, k: int, allowed: IdSet | None
    ) -> np.ndarray:
        """Check all that holds whatever is missed; says which rows are among the best, (n, k)."""
        scores, found, contents, regions = answer
        np.testing.assert_array_equal(contents, np.maximum(found, 0))
        assert not regions.any()
        assert scores.shape == found.shape == (len(queries), k)
        assert (scores.dtype, found.dtype) == (np.float32, np.int64)
        ids = self.ids()
        here = np.ones(len(ids), bool) if allowed is None else allowed.contains(ids)
        ids, vectors = ids[here], self.vectors()[here].astype(np.float64)
        count = min(k, len(ids))
        assert (found[:, count:] == -1).all()
        assert np.isneginf(scores[:, count:]).all()
        every = queries.astype(np.float64) @ vectors.T  # (q, d) @ (d, n)
        for row in range(len(queries)):
            answer = found[row, :count]
            assert len(set(answer.tolist())) == count
            places = np.searchsorted(ids, answer)
            np.testing.assert_array_equal(ids[places], answer)
            np.testing.assert_allclose(
                scores[row, :count], every[row, places], atol=2e-6, rtol=2e-6
            )
            order = np.lexsort((answer, -scores[row, :count]))
            np.testing.assert_array_equal(order, np.arange(count))
        if not count:
            return np.ones((len(queries), 0), bool)
        worst = -np.sort(-every, axis=1)[:, count - 1 : count]
        return scores[:, :count] >= worst - 2e-6 * np.maximum(1, np.abs(worst))

    def check_contents(self, index: VectorIndex) -> None:
        np.testing.assert_array_equal(index.ids(), self.ids())
        np.testing.assert_array_equal(index.vectors(self.ids()), self.vectors())
        assert index.row_count == len(self.rows)


class StandInGpu:
    """Clones CPU indexes into stand-ins for GPU indexes that share one resource object."""

    def __init__(self) -> None:
        self.in_use = threading.Lock()
        self.room = 1_000_000
        self.searches = 0
        self.copies = 0

    def clone(self, cpu_index: Any) -> StandInGpuIndex:
        with _Alone(self.in_use):
            if self.room <= 0:
                raise RuntimeError("StandardGpuResources: alloc fail")
            self.room -= 1
            self.copies += 1
            return StandInGpuIndex(self, cpu_index)


class StandInGpuIndex:
    """A CPU index with a GPU index's manners: no removal, no selector, k <= 2048, one user."""

    def __init__(self, gpu: StandInGpu, cpu_index: Any) -> None:
        self._gpu = gpu
        self._cpu_index = cpu_index

    def search(self, queries: np.ndarray, k: int, *, params: Any = None) -> tuple[Any, Any]:
        with _Alone(self._gpu.in_use):
            assert params is None, "a GPU index takes no search parameters"
            assert k <= 2048, "a GPU index selects 2048 neighbours at most"
            self._gpu.searches += 1
            rounded = queries.astype(np.float16).astype(np.float32)
            return self._cpu_index.search(rounded, k)

    def remove_ids(self, _: Any) -> None:
        raise AssertionError("a GPU index removes nothing")

    def __del__(self) -> None:
        with _Alone(self._gpu.in_use):
            self._gpu.copies -= 1


class _Alone:
    """Fails when two threads are in it at once."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        assert self._lock.acquire(blocking=False), "a GPU resource was used by two threads at once"

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@dataclass(frozen=True)
class Implementation:
    """One way to search, by which every test of the suite is run."""

    name: str
    devices: Callable[[], tuple[Device, ...]]
    scans: bool
    has_lists: bool = False
    recall: float = 1.0

    def prepare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let small parts be scanned that would otherwise be multiplied outright.

        Lists of small parts are read whole, unless rows may be missed.
        """
        if self.scans:
            monkeypatch.setattr(nearest_module, "_GATHER_ROWS", 4)
            monkeypatch.setattr(nearest_module, "_SLACK", 1)
        if self.recall < 1:
            monkeypatch.setattr(nearest_module, "_FIRST_STEP", 8)
            monkeypatch.setattr(nearest_module, "_SPARE", 4)
            monkeypatch.setattr(lists_module, "_LEAST_READ", 8)

    def truth(self, dimension: int = 16) -> Truth:
        return Truth(dimension, self.recall)

    def settle(self, index: SegmentedIndex) -> None:
        """Let the index build its lists, if it has any."""
        if self.has_lists:
            self.snapshot(index)

    def snapshot(self, index: SegmentedIndex) -> None:
        """Write a snapshot, with lists if the index has any."""
        queries = unit_rows(np.random.default_rng(5), 50, index.identity.dimension)
        index.snapshot((lambda: [queries]) if self.has_lists else None)

    def create(
        self, directory: Path, dimension: int = 16, limits: SegmentLimits = SMALL
    ) -> SegmentedIndex:
        return SegmentedIndex(
            identity(dimension), directory, limits=self.limits(limits), devices=self.devices()
        )

    def open(
        self, directory: Path, dimension: int = 16, limits: SegmentLimits = SMALL
    ) -> SegmentedIndex:
        return SegmentedIndex.open(
            identity(dimension), directory, limits=self.limits(limits), devices=self.devices()
        )

    def limits(self, limits: SegmentLimits) -> SegmentLimits:
        """The same limits, by which small segments have lists if the index has any."""
        if not self.has_lists:
            return limits
        return replace(limits, listed_segment_rows=8, listed_index_rows=30)


def _real_gpus() -> tuple[Device, ...]:
    devices = gpu_devices()
    if not devices:
        pytest.skip("FAISS sees no GPU")
    return devices


MULTIPLYING = Implementation("cpu multiplying", tuple, scans=False)
SCANNING = Implementation("cpu scanning", tuple, scans=True)
STAND_IN = Implementation(
    "gpu stand-in", lambda: (GpuDevice(StandInGpu().clone), GpuDevice(StandInGpu().clone)), True
)
STAND_IN_LISTED = replace(STAND_IN, name="gpu stand-in with lists", has_lists=True)
LISTED = Implementation("cpu lists", tuple, scans=True, has_lists=True)
APPROXIMATE = Implementation("cpu few lists", tuple, scans=True, has_lists=True, recall=0.9)
REAL_GPU = Implementation("gpu", _real_gpus, scans=True)

IMPLEMENTATIONS = [
    pytest.param(MULTIPLYING, id=MULTIPLYING.name),
    pytest.param(SCANNING, id=SCANNING.name),
    pytest.param(STAND_IN, id=STAND_IN.name),
    pytest.param(STAND_IN_LISTED, id=STAND_IN_LISTED.name),
    pytest.param(LISTED, id=LISTED.name),
    pytest.param(APPROXIMATE, id=APPROXIMATE.name),
    pytest.param(REAL_GPU, id=REAL_GPU.name, marks=pytest.mark.gpu),
]


def step(index: VectorIndex, position: int, rows: int = 47) -> None:
    """A step of the log that depends on its position alone: rows to add, some of the former to
    go."""
    rng = np.random.default_rng(position)
    ids = np.arange(position * 1000, position * 1000 + rows)
    gone = np.arange((position - 1) * 1000, (position - 1) * 1000 + rows, 7)
    index.apply(as_rows(ids, unit_rows(rng, rows)), gone, through=position)


def contents(index: VectorIndex) -> tuple[int, list[int], bytes]:
    ids = index.ids()
    return index.applied_through, ids.tolist(), index.vectors(ids).tobytes()
