"""The search is exact as long as each scan keeps within the error that it declares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vector_oracle import unit_rows

from regard.core.idset import IdSet
from regard.storage.vectors.faiss_library import load_faiss
from regard.storage.vectors.rows import Rows, fp16_index
from regard.storage.vectors.segments import nearest as nearest_module
from regard.storage.vectors.segments.nearest import Scan, Selection, nearest

D = 8
ERROR = 0.1


@dataclass
class VaguePart:
    """A part whose scan is wrong by up to `ERROR`, differently each time."""

    rows: Rows
    alive: np.ndarray | None
    rng: np.random.Generator
    scans: int = 0
    lists_to_search: None = None

    def select(self, allowed: IdSet | None) -> Selection:
        mask = self.alive
        if allowed is not None:
            members = allowed.contains(self.rows.contents)
            mask = members if mask is None else members & mask
        return Selection.of(self, mask)

    def are_sound(self, positions: np.ndarray) -> np.ndarray:
        return np.ones(len(positions), bool)

    def scan(self, queries: np.ndarray, fetch: int, selection: Selection) -> Scan:
        self.scans += 1
        norms = np.linalg.norm(queries, axis=1, keepdims=True)
        scores = queries @ self.rows.vectors.astype(np.float32).T
        scores += norms * ERROR * self.rng.choice(np.float32([-0.99, 0.99]), scores.shape)
        positions = np.argsort(-scores, axis=1)[:, :fetch]
        scores = np.take_along_axis(scores, positions, axis=1)
        floors = scores[:, -1] if fetch < len(self.rows) else np.full(len(queries), -np.inf)
        if selection.mask is not None:
            positions = np.where(selection.mask[positions], positions, -1)
        return Scan(scores, positions, floors, ERROR)


def vague_part(
    ids: np.ndarray, vectors: np.ndarray, alive: np.ndarray | None, rng: np.random.Generator
) -> VaguePart:
    return VaguePart(Rows(ids, ids, np.zeros_like(ids), vectors.astype(np.float16)), alive, rng)


@pytest.fixture(autouse=True, scope="module")
def _scan_all_but_the_tiniest() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_module, "_GATHER_ROWS", 2)
        patch.setattr(nearest_module, "_SLACK", 1)
        yield


def part(rng: np.random.Generator, ids: np.ndarray, deleted: float) -> VaguePart:
    rows = unit_rows(rng, len(ids), D)
    rows[rng.random(len(ids)) < 0.1] = rows[0]
    alive = rng.random(len(ids)) >= deleted if deleted else None
    return vague_part(ids, rows, alive, rng)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    k=st.integers(1, 30),
    deleted=st.sampled_from([0, 0.2, 0.9]),
    allowed=st.sampled_from([None, 0.1, 0.8]),
    count=st.sampled_from([1, 3, 7]),
    length=st.sampled_from([1.0, 50.0, 0.01]),
)
def test_vague_scans_give_exact_answers(
    seed: int,
    sizes: list[int],
    k: int,
    deleted: float,
    allowed: float | None,
    count: int,
    length: float,
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(1, 1 + sum(sizes)))
    parts = [part(rng, own, deleted) for own in np.split(ids, np.cumsum(sizes)[:-1])]
    queries = unit_rows(rng, count, D) * np.float32(length)
    chosen = None if allowed is None else IdSet(ids[rng.random(len(ids)) < allowed])
    scores, found = nearest(parts, queries, k, chosen)[:2]
    keep = np.concatenate(
        [np.ones(len(p.rows), bool) if p.alive is None else p.alive for p in parts]
    )
    if chosen is not None:
        keep &= chosen.contains(ids)
    rows = np.concatenate([p.rows.vectors for p in parts])[keep].astype(np.float32)
    for row, query in enumerate(queries):
        index = fp16_index(load_faiss(), rows.astype(np.float16))
        exact = np.empty(len(rows), np.float32)
        if len(rows):
            values, places = index.search(query[None], len(rows))
            exact[places[0]] = values[0]
        order = np.lexsort((ids[keep], -exact))[:k]
        assert found[row, : len(order)].tolist() == ids[keep][order].tolist()
        np.testing.assert_array_equal(scores[row, : len(order)], exact[order])
        assert (found[row, len(order) :] == -1).all()


def test_one_scan_is_enough_when_it_is_sure() -> None:
    rng = np.random.default_rng(3)
    rows = np.repeat(np.eye(1, D, 1, dtype=np.float32), 100, axis=0)
    rows[17] = np.eye(1, D)
    clear = vague_part(np.arange(1, 101), rows, None, rng)
    found = nearest([clear], np.eye(1, D, dtype=np.float32), 1, None)
    assert found.ids.tolist() == [[18]]
    assert clear.scans == 1
