"""Sizes that the CPU scans alone, that reach a GPU's limits, and that have lists; nothing is
patched."""

from __future__ import annotations

import numpy as np
import pytest
from vector_oracle import (
    APPROXIMATE,
    IMPLEMENTATIONS,
    Implementation,
    Truth,
    add,
    identity,
    remove,
    unit_rows,
)

from regard.core.idset import IdSet
from regard.core.records import Float32Array
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.state import SegmentLimits

D = 24
AT_SIZE = pytest.param(APPROXIMATE, id=APPROXIMATE.name, marks=pytest.mark.campaign)


@pytest.fixture(scope="module", params=[*IMPLEMENTATIONS[1:3], AT_SIZE, IMPLEMENTATIONS[-1]])
def large(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SegmentedIndex, Truth]:
    implementation: Implementation = request.param
    rng = np.random.default_rng(4)
    truth = implementation.truth(D)
    limits = SegmentLimits(segment_rows=11_000, delta_rows=500)
    directory = tmp_path_factory.mktemp("index")
    devices = implementation.devices()
    index = SegmentedIndex(identity(D), directory, limits=limits, devices=devices)
    rows = 40_000 if implementation.has_lists else 14_000
    ids = rng.permutation(np.arange(1, 2 * rows))[:rows]
    for batch in (ids[:-400], ids[-400:]):
        vectors = unit_rows(rng, len(batch), D)
        add(index, batch, vectors)
        truth.add(batch, vectors)
    remove(index, ids[::7])
    truth.remove(ids[::7])
    implementation.settle(index)
    assert (index.stats()["segments_with_lists"] > 2) == implementation.has_lists
    return index, truth


def queries() -> Float32Array:
    return unit_rows(np.random.default_rng(9), 4, D)


@pytest.mark.parametrize("k", [1, 50, 1900, 3000, 14_000])
def test_unfiltered(large: tuple[SegmentedIndex, Truth], k: int) -> None:
    index, truth = large
    truth.check_search(index, queries(), k)


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.5, 0.9])
def test_filtered(large: tuple[SegmentedIndex, Truth], share: float, complement: bool) -> None:
    index, truth = large
    rng = np.random.default_rng(int(1e6 * share))
    known = np.arange(1, truth.ids()[-1] + 1)
    allowed = IdSet(known[rng.random(len(known)) < share], complement=complement)
    for k in (1, 50, 1900):
        truth.check_search(index, queries(), k, allowed)
