"""Segments that are merged on disk hold the same rows as before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from vector_oracle import (
    LISTED,
    SMALL,
    Truth,
    as_rows,
    unit_rows,
)

from regard.storage.vectors.segments.index import SegmentedIndex

NO_IDS = np.empty(0, np.int64)
D = 16


MERGING = dataclasses.replace(SMALL, merged_rows=4000)


def segments_to_merge(directory: Path, truth: Truth, count: int) -> SegmentedIndex:
    """An index with segments of 250 rows each, whose ids alternate."""
    index = LISTED.create(directory, limits=MERGING)
    for number in range(count):
        ids = np.arange(250) * count + number + 1
        rows = unit_rows(np.random.default_rng(number), 250)
        truth.add(ids, rows)
        index.apply(as_rows(ids, rows), NO_IDS, through=index.applied_through + 1)
    return index


def test_similar_segments_are_merged_on_disk(tmp_path: Path) -> None:
    truth = Truth()
    index = segments_to_merge(tmp_path / "index", truth, 4)
    assert index.stats()["segments"] == 4
    index.snapshot()
    assert index.stats()["segments"] == 4
    gone = np.arange(1, 1000, 9)
    truth.remove(gone)
    index.apply(as_rows(NO_IDS, np.empty((0, D), np.float32)), gone, through=9)
    LISTED.snapshot(index)
    for merged in (index, LISTED.open(index.directory)):
        assert merged.stats()["segments"] == 1
        assert merged.stats()["tombstones"] == 0
        assert merged.damage() == []
        truth.check_contents(merged)
        truth.check_search(merged, unit_rows(np.random.default_rng(9), 5), 30)
    # A large segment with many deleted rows is written again alone.
    gone = truth.ids()[::3]
    truth.remove(gone)
    index.apply(as_rows(NO_IDS, np.empty((0, D), np.float32)), gone, through=10)
    assert index.stats()["tombstones"] == len(gone)
    LISTED.snapshot(index)
    assert index.stats()["tombstones"] == 0
    truth.check_contents(index)
    truth.check_contents(LISTED.open(index.directory))


def test_changes_while_segments_are_merged_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LISTED.prepare(monkeypatch)
    truth = Truth()
    index = segments_to_merge(tmp_path / "index", truth, 4)
    late = 5000 + np.arange(80)

    def change() -> list[np.ndarray]:
        gone = np.arange(2, 1000, 5)
        truth.remove(gone)
        rows = unit_rows(np.random.default_rng(20), len(late))
        truth.add(late, rows)
        index.apply(as_rows(late, rows), gone, through=20)
        return [unit_rows(np.random.default_rng(21), 50)]

    index.snapshot(change)
    assert index.stats()["segments"] < 4
    truth.check_contents(index)
    truth.check_search(index, unit_rows(np.random.default_rng(22), 5), 30)
    index.snapshot()
    truth.check_contents(LISTED.open(index.directory))
