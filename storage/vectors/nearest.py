"""Exact nearest neighbours over several parts (sealed segments and the delta).

Each part may be scanned by other arithmetic (FAISS on the CPU, a GPU in float16, a matrix
product), whose scores differ in the last digits, or on a GPU in the fourth. So a scan only
nominates: with a bound on its error it can be told which rows may still be among the `k` best,
ties at the border included. Those few are scored once more, all in the same way, and ordered by
score, then by id. The answer therefore depends neither on the device nor on how the rows are
spread over the parts.

    scan a part ─▶ enough to be sure? ─ no ─▶ fetch four times as many … ─▶ or score every row
                        │ yes
                        ▼
    contenders of all parts ─▶ float32 score, one formula ─▶ order by (-score, id) ─▶ first k
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from regard.core.idset import IdSet
from regard.core.machine import usable_cores
from regard.core.records import BoolArray, Float32Array, Int64Array

# Rows fetched beyond k, so that near ties at the border rarely need a second scan.
_SLACK = 32
# Up to this many rows are gathered and multiplied: cheaper than scanning a whole segment for them.
_GATHER_ROWS = 4096
# Rows multiplied, and queries served, at a time; they bound the memory of a search.
_BLOCK_ROWS = 8192
_BLOCK_QUERIES = 64
# FAISS shares a scan among its threads by query, so few queries leave cores idle: then the parts
# are scanned side by side. The scans release the GIL. No thread starts before the first search.
_FEW_QUERIES = 4
_scanners = ThreadPoolExecutor(usable_cores(), thread_name_prefix="regard-scan")


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan of a part nominates for q queries.

    `scores` (q, f) float32, descending; `positions` (q, f), -1 where there is nothing; `floors`
    (q,): no row left out scores higher; `error`: how far a score may lie from the exact one,
    relative to the norms of query and row.
    """

    scores: Float32Array
    positions: Int64Array
    floors: npt.NDArray[np.floating]
    error: float


class Part(Protocol):
    """Rows that are searched together."""

    @property
    def ids(self) -> Int64Array:
        """Ids of all rows, (n,)."""

    @property
    def alive(self) -> BoolArray | None:
        """Mask of rows not deleted, (n,); None when all are alive."""

    def members(self, allowed: IdSet) -> BoolArray:
        """Which rows `allowed` contains, (n,)."""

    def gather(self, positions: Int64Array) -> Float32Array:
        """The vectors at `positions` (m,), float32 (m, d), as the caller's own copy."""

    def block(self, start: int, end: int) -> Float32Array:
        """The vectors from `start` up to `end`, float32 (end - start, d), to be read only."""

    def scan(
        self, queries: Float32Array, fetch: int, selected: BoolArray | None, count: int
    ) -> Scan | None:
        """Nominate about `fetch` rows a query; None when scoring every row is as good."""


@dataclass(frozen=True, slots=True)
class _Selection:
    """A part and its rows that a search may return: a mask (None: all) and their number."""

    part: Part
    mask: BoolArray | None
    count: int


@dataclass(frozen=True, slots=True)
class _Contenders:
    """Rows of one part that may be among the best of one query; `margin` bounds their error."""

    part: Part
    positions: Int64Array
    scores: Float32Array
    margin: float


def float32_error(dimension: int) -> float:
    """Bound on how far two float32 inner products, summed in any order, of unit vectors differ."""
    return (dimension + 8) * 2.0**-23


def nearest(
    parts: Sequence[Part], queries: Float32Array, k: int, allowed: IdSet | None
) -> tuple[Float32Array, Int64Array]:
    """The `k` best rows of each query: scores (n, k) and ids (n, k), padded with -inf and -1."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    selections = [found for part in parts if (found := _select(part, allowed)).count]
    if k == 0 or not selections:
        return scores, ids
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        side_by_side = len(block) <= _FEW_QUERIES and len(selections) > 1
        each = _scanners.map if side_by_side else map
        nominated = list(each(partial(_nominate, queries=block, k=k), selections))
        for row, query in enumerate(block):
            best, of = _rank(query, [contenders[row] for contenders in nominated], k)
            scores[start + row, : len(best)] = best
            ids[start + row, : len(of)] = of
    return scores, ids


def _select(part: Part, allowed: IdSet | None) -> _Selection:
    mask = part.alive
    if allowed is not None:
        members = part.members(allowed)
        mask = members if mask is None else members & mask
    return _Selection(part, mask, len(part.ids) if mask is None else int(np.count_nonzero(mask)))


def _nominate(selection: _Selection, queries: Float32Array, k: int) -> list[_Contenders]:
    """For each query all rows of the part that may be among its `k` best."""
    part, count = selection.part, selection.count
    norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    found: dict[int, _Contenders] = {}
    unsure = np.arange(len(queries))
    fetch = k + _SLACK
    while unsure.size and count > _GATHER_ROWS and 2 * fetch <= count:
        scan = part.scan(queries[unsure], fetch, selection.mask, count)
        if scan is None:
            break
        for row, query in enumerate(unsure):
            margin = _margin(scan.error, norms[query], queries.shape[1])
            there = scan.positions[row] >= 0
            scores = scan.scores[row][there]
            if _sure(scan.floors[row], scores, k, margin):
                may = _may_be_best(scores, np.full(len(scores), margin), k)
                positions = scan.positions[row][there]
                found[int(query)] = _Contenders(part, positions[may], scores[may], margin)
        unsure = np.asarray([query for query in unsure if int(query) not in found], np.intp)
        fetch *= 4
    if unsure.size:
        every = np.arange(len(part.ids)) if selection.mask is None else selection.mask.nonzero()[0]
        scores_of_every = _score_every(part, queries[unsure], every)
        for row, query in enumerate(unsure):
            scores = scores_of_every[row]
            margin = _margin(float32_error(queries.shape[1]), norms[query], queries.shape[1])
            may = _may_be_best(scores, np.full(len(scores), margin), k)
            found[int(query)] = _Contenders(part, every[may], scores[may], margin)
    return [found[query] for query in range(len(queries))]


def _sure(floor: float, scores: Float32Array, k: int, margin: float) -> bool:
    """Whether no row that was not fetched can be among the part's `k` best or tie with them."""
    # Such a row scores at most floor + margin, and the k-th best at least its score - margin.
    return len(scores) >= k and float(floor) + margin < float(scores[k - 1]) - margin


def _margin(error: float, norm: float, dimension: int) -> float:
    """Bound on the error of a query's scores; products may be flushed to zero one by one."""
    return error * float(norm) + dimension * float(np.finfo(np.float32).tiny)


def _score_every(part: Part, queries: Float32Array, positions: Int64Array) -> Float32Array:
    """Inner products of the queries with the rows at `positions` (m,), ascending: (q, m)."""
    total = len(part.ids)
    if 2 * len(positions) >= total:
        # Multiplying a row that is not wanted costs less than copying those that are.
        scores = np.empty((len(queries), total), np.float32)
        for start in range(0, total, _BLOCK_ROWS):
            end = min(start + _BLOCK_ROWS, total)
            scores[:, start:end] = queries @ part.block(start, end).T  # (q, d) @ (d, b)
        return scores if len(positions) == total else scores[:, positions]
    scores = np.empty((len(queries), len(positions)), np.float32)
    for start in range(0, len(positions), _BLOCK_ROWS):
        rows = part.gather(positions[start : start + _BLOCK_ROWS])
        scores[:, start : start + len(rows)] = queries @ rows.T  # (q, d) @ (d, b)
    return scores


def _may_be_best(
    scores: Float32Array, margins: npt.NDArray[np.float64], k: int
) -> npt.NDArray[np.intp]:
    """Which of the scores, each known to within its margin, may be among the `k` best."""
    if len(scores) <= k:
        return np.arange(len(scores))
    sure = np.partition(scores - margins, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores + margins >= sure)


def _rank(
    query: Float32Array, contenders: Sequence[_Contenders], k: int
) -> tuple[Float32Array, Int64Array]:
    """Score and order the contenders of one query (d,): at most `k` scores and ids."""
    scores = np.concatenate([group.scores for group in contenders])
    margins = np.concatenate([np.full(len(group.scores), group.margin) for group in contenders])
    may = _may_be_best(scores, margins, k)
    exact = np.empty(len(may), np.float32)
    ids = np.empty(len(may), np.int64)
    filled = 0
    for group, places in _split(contenders, may):
        positions = group.positions[places]
        for start in range(0, len(positions), _BLOCK_ROWS):
            block = positions[start : start + _BLOCK_ROWS]
            # Unlike a matrix product, a row's sum here does not depend on the rows beside it, so
            # equal vectors score equal wherever they lie.
            rows = group.part.gather(block)
            exact[filled : filled + len(block)] = np.multiply(rows, query, out=rows).sum(axis=1)
            ids[filled : filled + len(block)] = group.part.ids[block]
            filled += len(block)
    order = np.lexsort((ids, -exact))[:k]
    return exact[order], ids[order]


def _split(
    contenders: Sequence[_Contenders], places: npt.NDArray[np.intp]
) -> Iterator[tuple[_Contenders, npt.NDArray[np.intp]]]:
    """Distribute ascending places in the concatenated groups back to the groups."""
    start = 0
    for group in contenders:
        end = start + len(group.scores)
        first, last = np.searchsorted(places, [start, end])
        yield group, places[first:last] - start
        start = end
