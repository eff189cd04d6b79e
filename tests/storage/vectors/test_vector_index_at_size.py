"""Sizes that the CPU scans alone and that reach a GPU's limits, with nothing patched."""

from __future__ import annotations

import numpy as np
import pytest
from vector_oracle import IMPLEMENTATIONS, Implementation, Truth, as_rows, unit_rows

from regard.core.idset import IdSet
from regard.core.records import Float32Array
from regard.storage.vectors.index import SegmentedIndex
from regard.storage.vectors.state import SegmentLimits

ROWS = 14_000
D = 24


@pytest.fixture(scope="module", params=IMPLEMENTATIONS[1:])
def large(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SegmentedIndex, Truth]:
    implementation: Implementation = request.param
    rng = np.random.default_rng(4)
    truth = Truth(D)
    limits = SegmentLimits(segment_rows=11_000, delta_rows=500)
    index = implementation.create(tmp_path_factory.mktemp("index"), D, limits)
    ids = rng.permutation(np.arange(1, 2 * ROWS))[:ROWS]
    for batch in (ids[:13_600], ids[13_600:]):
        vectors = unit_rows(rng, len(batch), D)
        index.add(as_rows(batch, vectors))
        truth.add(batch, vectors)
    index.remove(ids[::7])
    truth.remove(ids[::7])
    implementation.settle(index)
    return index, truth


def queries() -> Float32Array:
    return unit_rows(np.random.default_rng(9), 4, D)


@pytest.mark.parametrize("k", [1, 50, 1900, 3000, ROWS])
def test_unfiltered(large: tuple[SegmentedIndex, Truth], k: int) -> None:
    index, truth = large
    truth.check_search(index, queries(), k)


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("size", [1, 10, ROWS // 100, ROWS, int(1.8 * ROWS)])
def test_filtered(large: tuple[SegmentedIndex, Truth], size: int, complement: bool) -> None:
    index, truth = large
    rng = np.random.default_rng(size)
    allowed = IdSet(rng.choice(np.arange(1, 2 * ROWS), size, replace=False), complement=complement)
    for k in (1, 50, 1900):
        truth.check_search(index, queries(), k, allowed)
