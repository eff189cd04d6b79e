"""What is special about GPU copies, over a stand-in with a GPU index's manners."""

from __future__ import annotations

import gc
import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vector_oracle import (
    STAND_IN,
    StandInGpu,
    Truth,
    add,
    identity,
    make_rows,
    remove,
    unit_rows,
)

from regard.core.idset import IdSet
from regard.storage.vectors.faiss_library import gpu_count
from regard.storage.vectors.segments.gpu import GpuDevice, gpu_devices
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.segment import Segment
from regard.storage.vectors.segments.state import SegmentLimits

LIMITS = SegmentLimits(segment_rows=3000, delta_rows=50)


@pytest.fixture(autouse=True)
def _scan_small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    STAND_IN.prepare(monkeypatch)


def build(gpu: StandInGpu, directory: Path, rows: int) -> tuple[SegmentedIndex, Truth]:
    index = SegmentedIndex(identity(), directory, limits=LIMITS, devices=[GpuDevice(gpu.clone)])
    truth = Truth()
    ids, vectors = np.arange(1, rows + 1), unit_rows(np.random.default_rng(1), rows)
    add(index, ids, vectors)
    truth.add(ids, vectors)
    return index, truth


def test_device_count_agrees_with_the_build() -> None:
    assert len(gpu_devices()) == gpu_count()


def test_gpu_answers_while_it_can(tmp_path: Path) -> None:
    gpu = StandInGpu()
    index, truth = build(gpu, tmp_path, 3000)
    assert index.stats()["device_segments"] == gpu.copies == 1
    queries = unit_rows(np.random.default_rng(2), 3)
    truth.check_search(index, queries, 20)
    after_plain = gpu.searches
    assert after_plain > 0
    truth.check_search(index, queries, 20, IdSet(np.arange(1, 3000, 2)))
    after_filtered = gpu.searches
    assert after_filtered > after_plain
    # More neighbours than a GPU selects, and a filter that lets too little through: the CPU's
    # turn.
    truth.check_search(index, queries, 2500)
    truth.check_search(index, queries, 10, IdSet(np.arange(1, 3000, 200)))
    assert gpu.searches == after_filtered


def test_lists_are_for_what_is_not_on_a_gpu(tmp_path: Path) -> None:
    limits = replace(LIMITS, listed_segment_rows=1000, listed_index_rows=1000)
    ids, vectors = np.arange(1, 3001), unit_rows(np.random.default_rng(1), 3000)
    queries = unit_rows(np.random.default_rng(2), 3)
    truth = Truth()
    truth.add(ids, vectors)
    gpu = StandInGpu()
    for room, is_exact in ((0, False), (1, True)):
        gpu.room = room
        devices = [GpuDevice(gpu.clone)]
        index = SegmentedIndex(identity(), tmp_path / str(room), limits=limits, devices=devices)
        add(index, ids, vectors)
        index.snapshot(lambda: [queries])
        assert index.stats()["segments_with_lists"] == 1
        assert index.is_exact == is_exact
        before = gpu.searches
        found = index.search(queries, 20)
        assert (gpu.searches > before) == is_exact
        assert not is_exact or np.array_equal(found.ids, index.search(queries, 20, exact=True).ids)
    truth.check_search(index, queries, 20)


def test_no_room_leaves_the_segment_on_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = StandInGpu()
    gpu.room = 0
    with caplog.at_level(logging.WARNING):
        index, truth = build(gpu, tmp_path, 200)
    assert "200 rows stays on the CPU" in caplog.text
    assert index.stats()["device_segments"] == 0
    truth.check_search(index, unit_rows(np.random.default_rng(2), 3), 20)


def test_segments_are_spread_over_the_gpus(tmp_path: Path) -> None:
    gpus = [StandInGpu(), StandInGpu()]
    devices = [GpuDevice(gpu.clone) for gpu in gpus]
    index = SegmentedIndex(identity(), tmp_path, limits=LIMITS, devices=devices)
    for start in (1, 101, 201, 301):
        vectors = unit_rows(np.random.default_rng(start), 100)
        add(index, np.arange(start, start + 100), vectors)
    assert [gpu.copies for gpu in gpus] == [2, 2]


def test_copies_are_freed_with_their_segments(tmp_path: Path) -> None:
    gpu = StandInGpu()
    index, _ = build(gpu, tmp_path, 3000)
    remove(index, np.arange(1, 2001))  # so many that the segment is rewritten
    gc.collect()
    assert gpu.copies == 1
    remove(index, np.arange(1, 3001))
    gc.collect()
    assert gpu.copies == 0


def test_a_copy_is_freed_only_when_no_search_runs() -> None:
    gpu = StandInGpu()
    device = GpuDevice(gpu.clone)
    vectors = unit_rows(np.random.default_rng(1), 8).astype(np.float16)
    segment = Segment.of(make_rows(np.arange(1, 9), vectors))
    searching, freed = threading.Event(), threading.Event()
    release = threading.Event()
    copies = [device.copy(segment), device.copy(segment)]
    stand_in = copies[0]._gpu_index
    plain_search = stand_in.search

    def slow_search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        searching.set()
        assert release.wait(120)
        return plain_search(queries, k)

    stand_in.search = slow_search
    query = unit_rows(np.random.default_rng(2), 1)
    searcher = threading.Thread(target=copies[0].search, args=(query, 2))

    def free() -> None:
        copies.pop()
        freed.set()

    searcher.start()
    assert searching.wait(120)
    freer = threading.Thread(target=free)
    freer.start()
    assert not freed.wait(0.05)
    release.set()
    searcher.join()
    freer.join()
    assert freed.is_set()
    assert gpu.copies == 1
