"""What lists of similar rows are worth to queries that the rows do not resemble."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vector_oracle import LISTED, add

from regard.storage.vectors.segments.lists import ListsModel

_CLUSTERS, _ROWS = 40, 4000
_D = 256
_RARE = _D - 1  # a direction that hardly any row has


def test_a_list_with_few_good_rows_is_read_before_lists_of_mediocre_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a text names a thing that a few photographs show, among others of their kind."""
    rng = np.random.default_rng(7)
    rows = np.repeat(rng.normal(0, 1, (_CLUSTERS, _D)), _ROWS // _CLUSTERS, axis=0)
    rows += rng.normal(0, 0.2, rows.shape)
    rows[:, _RARE] = 0.6  # a little of it in every row
    rows[:100, _RARE] = 0.0  # but none in those of one cluster, except the best of all
    best = np.arange(0, 100, 20)
    rows[best, _RARE] = 3.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = LISTED.create(tmp_path, _D)
    add(index, np.arange(1, _ROWS + 1), rows.astype(np.float32))
    samples = rows[rng.choice(_ROWS, 64)].astype(np.float32)
    index.snapshot(lambda: [samples])
    assert index.stats()["segments_with_lists"] == index.stats()["segments"]
    monkeypatch.setattr(ListsModel, "rows_to_read", lambda *_: 200)
    query = np.zeros((1, _D), np.float32)
    query[0, _RARE] = 1
    assert set(index.search(query, 5).ids[0]) == set(best + 1)


@pytest.mark.parametrize("others", [0, 5])
def test_rows_that_are_nearly_all_equal_get_lists(
    others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may hold hardly anything but blank photographs."""
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1, (_ROWS, _D))
    rows[others:] = rows[-1]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = LISTED.create(tmp_path, _D)
    add(index, np.arange(1, _ROWS + 1), rows.astype(np.float32))
    index.snapshot(lambda: [rows[-8:].astype(np.float32)])
    assert index.stats()["segments_with_lists"] == index.stats()["segments"]
    monkeypatch.setattr(ListsModel, "rows_to_read", lambda *_: 1)
    best = index.search(rows[-1:].astype(np.float32), 50)
    np.testing.assert_array_equal(best.ids[0], np.arange(others + 1, others + 51))
