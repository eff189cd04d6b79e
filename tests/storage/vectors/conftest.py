"""The implementations that a test runs over, and indexes whose snapshots are tested."""

from __future__ import annotations

from pathlib import Path

import pytest
from vector_oracle import (
    APPROXIMATE,
    MULTIPLYING,
    Implementation,
    step,
)

from regard.storage.vectors.segments.index import SegmentedIndex


@pytest.fixture(params=[MULTIPLYING, APPROXIMATE], ids=["exact", "lists"])
def implementation(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Implementation:
    """Those of snapshots; a module may parametrise it with others."""
    chosen: Implementation = request.param
    chosen.prepare(monkeypatch)
    return chosen


@pytest.fixture
def saved(implementation: Implementation, tmp_path: Path) -> SegmentedIndex:
    """An index with every kind of file: rows, a delta, tombstones, and lists if it has any."""
    index = implementation.create(tmp_path / "index")
    for position in range(1, 8):
        step(index, position)
    stats = index.stats()
    assert stats["segments"] > 1
    assert stats["tombstones"] > 0
    assert stats["delta_rows"] > 0
    implementation.snapshot(index)
    assert (index.stats()["segments_with_lists"] > 1) == implementation.has_lists
    return index
