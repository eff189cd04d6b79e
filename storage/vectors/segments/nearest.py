"""Nearest neighbours over several parts (sealed segments and the delta), with exact scores.

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
                        ▲
    lists of segments ─▶ candidates, without such a bound (see `lists`)

Candidates of lists come step by step, each step four times as many rows as the last one. What a
later step adds follows all rows of the earlier ones, and what it finds too late is left out: so
the first rows of an answer do not depend on how many are asked for. Where this makes an answer too
short, more rows are asked for. Only where nearly all rows are asked for are lists not used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from regard.core.catalog import Neighbours
from regard.core.idset import IdSet
from regard.core.machine import share_work, usable_cores
from regard.core.records import BoolArray, Float16Array, Float32Array, Int64Array
from regard.storage.vectors.faiss_library import faiss_threads, load_faiss
from regard.storage.vectors.rows import FEW_QUERIES, Rows, fp16_index, pad, score_rows
from regard.storage.vectors.segments.lists import Lists, ListsModel

# Rows fetched beyond k, so that near ties at the border rarely need a second scan.
_SLACK = 32
# Up to this many rows are gathered and multiplied: cheaper than scanning a whole segment for them.
_GATHER_ROWS = 2048
# Rows multiplied, and queries served, at a time; they bound the memory of a search.
_BLOCK_ROWS = 2048
_BLOCK_QUERIES = 64
# A part of so many rows is scanned by several threads.
_MANY_ROWS = 32_768
# Rows of the first step over lists, and what later steps multiply it by.
_FIRST_STEP, _GROWTH = 256, 4
# Candidates that are scored exactly, beyond the rows of a step.
_SPARE = 64


_memory = threading.local()


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
    def rows(self) -> Rows:
        """All rows, also deleted ones, with padded vectors."""

    @property
    def lists_to_search(self) -> Lists | None:
        """The lists that nominate rows; None where `scan` does."""

    def select(self, allowed: IdSet | None) -> Selection:
        """The rows not deleted whose contents are allowed."""

    def are_sound(self, positions: Int64Array) -> BoolArray:
        """Which of the rows at `positions` (m,) are as they were written, (m,)."""

    def scan(self, queries: Float32Array, fetch: int, selection: Selection) -> Scan:
        """Nominate about `fetch` rows for each padded query."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A part and its rows that a search may return: a mask (n,) (None: all) and their number.

    `selector` is the mask for FAISS, `in_lists` (lists,) the rows in each list of the part.
    """

    part: Part
    mask: BoolArray | None
    count: int
    selector: Any | None
    in_lists: Int64Array | None

    @classmethod
    def of(cls, part: Part, mask: BoolArray | None) -> Selection:
        """The rows of a part in a mask."""
        lists = part.lists_to_search
        in_lists = None if lists is None else lists.counts(mask)
        if mask is None:
            return cls(part, None, len(part.rows.ids), None, in_lists)
        count = int(np.count_nonzero(mask))
        selector = load_faiss().IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        return cls(part, mask, count, selector, in_lists)


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


def scan_rows(
    vectors: npt.NDArray[np.float16], queries: Float32Array, fetch: int, selection: Selection
) -> Scan:
    """The `fetch` best selected rows of a part by its padded vectors (n, w), on the CPU."""
    faiss, parameters = load_faiss(), None
    if selection.selector is not None:
        parameters = faiss.SearchParameters(sel=selection.selector)
    scores, positions = fp16_index(faiss, vectors).search(queries, fetch, params=parameters)
    floors = np.where(positions[:, -1] >= 0, scores[:, -1], -np.inf)
    return Scan(scores, positions, floors, float32_error(vectors.shape[1]))


def nearest(
    parts: Sequence[Part],
    queries: Float32Array,
    k: int,
    allowed: IdSet | None,
    model: ListsModel | None = None,
) -> Neighbours:
    """The `k` best rows of each query (n, d), padded with -inf, -1 and 0.

    Rows in lists are nominated by them if there is a `model`, else all parts are exact. Rows that
    are damaged in their file are left out.
    """
    found = Neighbours.empty(len(queries), k)
    queries = pad(queries)
    selections = [chosen for part in parts if (chosen := part.select(allowed)).count]
    if k == 0 or not selections:
        return found
    by_lists: list[Selection] = []
    if model is not None:
        by_lists = [chosen for chosen in selections if chosen.in_lists is not None]
        total = sum(chosen.count for chosen in by_lists)
        if total <= max(_GATHER_ROWS, k + _SPARE):
            by_lists = []
    exact = [chosen for chosen in selections if chosen not in by_lists]
    passing = sum(chosen.count for chosen in selections)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        nominated = share_work(partial(_nominate, queries=block, k=k), exact)
        # For many queries together it takes half the time, for a few the cores share it.
        order = model.order(block) if model and by_lists and len(block) > FEW_QUERIES else None

        def answer(
            row: int,
            block: Float32Array = block,
            start: int = start,
            nominated: Sequence[Sequence[_Contenders]] = nominated,
            order: Int64Array | None = order,
        ) -> None:
            query = block[row]
            best = _score_contenders(query, [groups[row] for groups in nominated], k)
            if model is not None and by_lists:
                own = model.order(query[None])[0] if order is None else order[row]
                best = _in_steps(query, best, _read_in_steps(model, by_lists, query, k, own))
            if len(best.ids) < k < passing:
                # Damaged rows, and those that a step found too late, are left out.
                deeper = nearest(parts, query[None], _GROWTH * k, allowed, model)
                for name in Neighbours._fields:
                    getattr(found, name)[start + row] = getattr(deeper, name)[0, :k]
            else:
                best.write(found, start + row)

        share_work(answer, range(len(block)))
    return found


def _nominate(selection: Selection, queries: Float32Array, k: int) -> list[_Contenders]:
    """For each query all rows of the part that may be among its `k` best."""
    part, count = selection.part, selection.count
    norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    found: dict[int, _Contenders] = {}
    unsure = np.arange(len(queries))
    fetch = k + _SLACK
    is_large = count >= _MANY_ROWS
    while unsure.size and count > _GATHER_ROWS and 2 * fetch <= count:
        with faiss_threads(usable_cores() if len(unsure) > FEW_QUERIES and is_large else 1):
            scan = part.scan(queries[unsure], fetch, selection)
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
        every = np.arange(count) if selection.mask is None else np.flatnonzero(selection.mask)
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
    scores = np.empty((len(queries), len(positions)), np.float32)
    for start in range(0, len(positions), _BLOCK_ROWS):
        rows = _gathered(part.rows.vectors, positions[start : start + _BLOCK_ROWS])
        scores[:, start : start + len(rows)] = score_rows(queries, rows)
    return scores


def _gathered(vectors: Float16Array, positions: Int64Array) -> Float16Array:
    """Up to `_BLOCK_ROWS` rows, valid until this thread gathers others.

    Their memory is used again, because getting new memory takes longer than copying to it.
    """
    room: Float16Array | None = getattr(_memory, "rows", None)
    if room is None or room.shape[1] != vectors.shape[1] or len(room) < len(positions):
        room = _memory.rows = np.empty((len(positions), vectors.shape[1]), np.float16)
    # With "clip" NumPy writes to `out` directly; FAISS' positions are in range.
    return vectors.take(positions, axis=0, out=room[: len(positions)], mode="clip")


def _may_be_best(
    scores: Float32Array, margins: npt.NDArray[np.float64], k: int
) -> npt.NDArray[np.intp]:
    """Which of the scores, each known to within its margin, may be among the `k` best."""
    if len(scores) <= k:
        return np.arange(len(scores))
    sure = np.partition(scores - margins, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores + margins >= sure)


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Rows with exact scores (n,): their parts as places in `parts`, and positions in these.

    `codes` (n,) are the scores by code of those that lists nominated, of others infinite.
    """

    parts: Sequence[Part]
    places: Int64Array
    positions: Int64Array
    ids: Int64Array
    scores: Float32Array
    codes: Float32Array

    @classmethod
    def score(
        cls, query: Float32Array, groups: Sequence[tuple[Part, Int64Array, Float32Array]]
    ) -> _Ranked:
        """Score rows of parts, with their codes' scores, for one query (d,); best first."""
        if not groups:
            none, nothing = np.empty(0, np.int64), np.empty(0, np.float32)
            return cls([], none, none, none, nothing, nothing)
        parts = [part for part, _, _ in groups]
        places = np.repeat(np.arange(len(groups)), [len(wanted) for _, wanted, _ in groups])
        positions = np.concatenate([wanted for _, wanted, _ in groups])
        ids = np.concatenate([part.rows.ids[wanted] for part, wanted, _ in groups])
        codes = np.concatenate([of for _, _, of in groups])
        scores = np.empty(len(ids), np.float32)
        start = 0
        for part, wanted, _ in groups:
            for first in range(0, len(wanted), _BLOCK_ROWS):
                some = wanted[first : first + _BLOCK_ROWS]
                vectors = _gathered(part.rows.vectors, some)
                scores[start : start + len(some)] = score_rows(query[None], vectors)[0]
                start += len(some)
        return cls(parts, places, positions, ids, scores, codes).take(np.lexsort((ids, -scores)))

    def take(self, chosen: Any) -> _Ranked:
        return _Ranked(
            self.parts,
            self.places[chosen],
            self.positions[chosen],
            self.ids[chosen],
            self.scores[chosen],
            self.codes[chosen],
        )

    def join(self, other: _Ranked) -> _Ranked:
        """Both, best first, each row once."""
        both = _Ranked(
            [*self.parts, *other.parts],
            np.concatenate([self.places, other.places + len(self.parts)]),
            np.concatenate([self.positions, other.positions]),
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.codes, other.codes]),
        )
        ranked = both.take(np.lexsort((both.ids, -both.scores)))
        is_new = np.ones(len(ranked.ids), np.bool_)
        is_new[1:] = ranked.ids[1:] != ranked.ids[:-1]
        return ranked if is_new.all() else ranked.take(is_new)

    def after(self, last: _Ranked) -> _Ranked:
        """Those that follow the last of others."""
        if not len(last.ids):
            return self
        score, row = last.scores[-1], last.ids[-1]
        return self.take((self.scores < score) | ((self.scores == score) & (self.ids > row)))

    def extend(self, other: _Ranked) -> _Ranked:
        """These, then the others, whose parts include these ones' in the same places."""
        if not len(self.ids):
            return other
        return _Ranked(
            other.parts,
            np.concatenate([self.places, other.places]),
            np.concatenate([self.positions, other.positions]),
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.codes, other.codes]),
        )

    def sound(self) -> _Ranked:
        """Without rows that are damaged in their files."""
        is_sound = np.ones(len(self.ids), np.bool_)
        for place, part in enumerate(self.parts):
            own = self.places == place
            is_sound[own] = part.are_sound(self.positions[own])
        return self if is_sound.all() else self.take(is_sound)

    def write(self, found: Neighbours, row: int) -> None:
        """Write the first ones, as many as there is room for, as the answer to the query of a row."""
        k = found.ids.shape[1]
        count = min(len(self.ids), k)
        found.scores[row, :count] = self.scores[:k]
        found.ids[row, :count] = self.ids[:k]
        for place, part in enumerate(self.parts):
            own = np.flatnonzero(self.places[:k] == place)
            if own.size:
                found.contents[row, own] = part.rows.contents[self.positions[own]]
                found.regions[row, own] = part.rows.regions[self.positions[own]]


def _score_contenders(query: Float32Array, contenders: Sequence[_Contenders], k: int) -> _Ranked:
    """Score and order the contenders of one query (d,)."""
    if not contenders:
        return _Ranked.score(query, [])
    scores = np.concatenate([group.scores for group in contenders])
    margins = np.concatenate([np.full(len(group.scores), group.margin) for group in contenders])
    may = _may_be_best(scores, margins, k)
    groups = [
        (group.part, group.positions[places], np.full(len(places), np.inf, np.float32))
        for group, places in _split(contenders, may)
    ]
    return _Ranked.score(query, groups).sound()


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


@dataclass(frozen=True, slots=True)
class _Reading:
    """What lists nominate for one query: of each part, scores by code and positions.

    `ends` are the numbers of rows at which the steps end that this reading serves.
    """

    ends: Sequence[int]
    groups: Sequence[tuple[Part, Float32Array, Int64Array]]

    def threshold(self, end: int) -> np.float32:
        """The score by code of the last candidate of a step."""
        scores = np.concatenate([scores for _, scores, _ in self.groups])
        count = end + _SPARE
        if len(scores) <= count:
            return np.float32(-np.inf)
        last: np.float32 = np.partition(scores, len(scores) - count)[len(scores) - count]
        return last


def _read_in_steps(
    model: ListsModel,
    selections: Sequence[Selection],
    query: Float32Array,
    k: int,
    order: Int64Array,
) -> Iterator[_Reading]:
    """Read the lists in their order for a query (d,) until they hold enough selected rows.

    They are read once for every two steps.
    """
    in_lists = np.sum([c.in_lists for c in selections if c.in_lists is not None], axis=0)
    reached = np.cumsum(in_lists[order])  # (lists,): rows up to each list
    total = int(reached[-1])
    size, reading = _FIRST_STEP, 0
    while True:
        ends = [size, size * _GROWTH]
        wanted = model.rows_to_read(total, ends[-1] + _SPARE, reading)
        probes = order[None, : int(np.searchsorted(reached, wanted)) + 1]
        if size >= k:
            ends.pop()
        yield _Reading(ends, _read_lists(selections, query, probes, ends[-1] + _SPARE))
        if ends[-1] >= k:
            return
        size, reading = size * _GROWTH**2, reading + 1


def _read_lists(
    selections: Sequence[Selection],
    query: Float32Array,
    probes: Int64Array,
    fetch: int,
) -> list[tuple[Part, Float32Array, Int64Array]]:
    """The `fetch` best rows of the lists in `probes` (1, p) of each part: scores and positions.

    Each core reads a share of a large part's lists, and nominates as many rows.
    """

    def read(share: tuple[Selection, int, int]) -> tuple[Part, Float32Array, Int64Array]:
        chosen, place, shares = share
        lists = chosen.part.lists_to_search
        assert lists is not None
        of_part = min(fetch, chosen.count)
        own = np.ascontiguousarray(probes[:, place::shares])
        scores, positions = lists.search(query[None], own, of_part, chosen.selector)
        # Damaged lists may hold any number.
        sound = (positions[0] >= 0) & (positions[0] < len(chosen.part.rows))
        return chosen.part, scores[0][sound], positions[0][sound]

    shares = []
    for chosen in selections:
        cores = usable_cores() if chosen.count >= _MANY_ROWS and probes.shape[1] > 1 else 1
        shares += [(chosen, place, cores) for place in range(cores)]
    return share_work(read, shares)


def _in_steps(query: Float32Array, certain: _Ranked, readings: Iterable[_Reading]) -> _Ranked:
    """The best of certain rows and of candidates that come in steps."""
    pool, answer = certain, certain.take(slice(0))
    for reading in readings:
        least = reading.threshold(reading.ends[-1])
        groups = [
            (part, at[codes >= least], codes[codes >= least]) for part, codes, at in reading.groups
        ]
        pool = pool.join(_Ranked.score(query, groups).sound())
        for end in reading.ends:
            candidates = pool.take(pool.codes >= reading.threshold(end))
            more = candidates.after(answer)
            answer = answer.extend(more.take(slice(end - len(answer.ids))))
    return answer
