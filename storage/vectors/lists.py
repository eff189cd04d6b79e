"""Lists of similar rows with short codes, which nominate the rows that a search scores.

All large segments of an index share a `ListsModel`: a projection of vectors onto the directions
that matter most in the rows, and the centres of clusters of rows. Each segment has its `Lists`:
its rows grouped by nearest centre, as codes of one byte for each projected number (inverted lists
over a scalar quantizer, as in Jégou et al., "Product quantization for nearest neighbor search",
2011). A search reads the lists whose centres have the largest inner product with the query. How
many it reads is measured when the model is trained, with the kinds of queries that the channel
gets: texts lie apart from images, so they need more lists than images do.

The projection keeps the mean of the rows, unlike common PCA, because inner products depend on it.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.records import BoolArray, Float32Array, Int64Array
from regard.storage.vectors.faiss_library import load_faiss

Int32Array = npt.NDArray[np.int32]

# A model is trained again when there are this many times as many rows.
GROWTH = 4
# Sampled rows: for the projection, and for each centre.
_PROJECTED_SAMPLE = 16_384
_SAMPLE_OF_CENTRE, _MOST_SAMPLED = 16, 131_072
_CENTRES_PER_ROOT = 4  # times the square root of the number of rows
_ROUNDS = 6  # of k-means
_NEAR_GROUPS = 3  # whose centres a row is compared with
# Shares of a query's 10 and 100 best rows that the lists it reads should hold.
_BEST = 100
_RECALL_AT_10, _RECALL_AT_100 = 0.998, 0.99
# People's texts lie farther from the rows than the samples that stand for them do.
_DEPTH_MARGIN = 2
# Shares of them that should be among a few times as many rows by projected scores.
_PROJECTED_RECALL = 0.995
_DIMENSIONS = (64, 128, 192, 256, 320, 384, 512, 768, 1024)
# However few pass a filter, this many are read: then their lists hardly matter.
_LEAST_READ = 16_384
_BLOCK = 8192


@dataclass(frozen=True, slots=True, eq=False)
class ListsModel:
    """What the lists of all segments of an index share.

    `projection` (w, r) float32 takes vectors padded to w; `centres` (c, r) are ordered by groups,
    of which `starts` (g + 1) are the first centres and `middles` (g, r) the centres; `bounds`
    (2 r) are the quantizer's least values and spans. `depth` is the share of all rows that a
    query reads.
    """

    projection: Float32Array
    centres: Float32Array
    middles: Float32Array
    starts: Int64Array
    bounds: Float32Array
    trained_rows: int
    depth: float = 1.0

    @property
    def width(self) -> int:
        """Projected numbers of a vector, r."""
        return int(self.projection.shape[1])

    def reduce(self, vectors: npt.NDArray[np.floating]) -> Float32Array:
        """Vectors (n, d) or padded (n, w), projected: float32 (n, r)."""
        exact = vectors.astype(np.float32, copy=False)
        projection = self.projection[: vectors.shape[1]]
        if len(exact) == 1:
            # A BLAS would start threads, which spin for longer than this takes.
            reduced: Float32Array = np.einsum("nd,dr->nr", exact, projection)
            return reduced
        return np.ascontiguousarray(exact @ projection)

    def order(self, reduced: Float32Array) -> Int64Array:
        """All lists for a projected query (r,), nearest first, int64 (c,)."""
        nearness = np.einsum("cr,r->c", self.centres, reduced)
        return np.argsort(-nearness, kind="stable")

    def rows_to_read(self, total: int, fetch: int, reading: int) -> int:
        """How many of `total` selected rows lists must hold for `fetch` candidates."""
        share = min(1.0, self.depth * 4.0**reading)
        # Few rows that pass lie deeper: as the best of a hundred times as many would.
        share = min(1.0, share * max(1.0, (self.trained_rows / max(total, 1)) ** 0.5))
        return min(total, max(int(share * total), 4 * fetch, _LEAST_READ))

    def assign(self, reduced: Float32Array) -> Int32Array:
        """The list of each projected row (n, r), int32 (n,)."""
        near = _nearness(reduced, self.middles)
        count = min(_NEAR_GROUPS, near.shape[1])
        groups = np.argpartition(-near, count - 1, axis=1)[:, :count]
        best = np.full(len(reduced), -np.inf, np.float32)
        lists = np.zeros(len(reduced), np.int32)
        for group in range(len(self.middles)):
            rows = np.flatnonzero((groups == group).any(axis=1))
            start, end = self.starts[group], self.starts[group + 1]
            if not rows.size or start == end:
                continue
            near_centres = _nearness(reduced[rows], self.centres[start:end])
            chosen = near_centres.argmax(axis=1)
            nearness = near_centres[np.arange(len(rows)), chosen]
            is_better = nearness > best[rows]
            best[rows[is_better]] = nearness[is_better]
            lists[rows[is_better]] = start + chosen[is_better]
        return lists

    def quantizer(self) -> Any:
        """FAISS' quantizer of projected vectors."""
        faiss = load_faiss()
        quantizer = faiss.ScalarQuantizer(self.width, faiss.ScalarQuantizer.QT_8bit)
        faiss.copy_array_to_vector(self.bounds, quantizer.trained)
        return quantizer

    @property
    def shapes(self) -> tuple[int, int, int]:
        """Projected numbers, centres and groups: what `decode` must know."""
        return self.width, len(self.centres), len(self.middles)

    def encode(self) -> Iterator[bytes]:
        """The bytes of the model's file; its numbers and its depth are in the manifest."""
        yield self.starts.astype("<i8").tobytes()
        for array in (self.projection, self.centres, self.middles, self.bounds):
            yield array.astype("<f4").tobytes()

    @classmethod
    def decode(
        cls, data: bytes, padded: int, shapes: tuple[int, int, int], rows: int, depth: float
    ) -> ListsModel:
        """The model in the bytes of a file; raises ValueError for another size."""
        width, lists, groups = shapes
        sizes = [(padded, width), (lists, width), (groups, width), (2 * width,)]
        if len(data) != 8 * (groups + 1) + 4 * sum(int(np.prod(size)) for size in sizes):
            raise ValueError("its size is off")
        place = 8 * (groups + 1)
        starts = np.frombuffer(data, "<i8", groups + 1).astype(np.int64)
        arrays = []
        for size in sizes:
            count = int(np.prod(size))
            arrays.append(np.frombuffer(data, "<f4", count, place).reshape(size))
            place += 4 * count
        projection, centres, middles, bounds = arrays
        return cls(projection, centres, middles, starts, bounds, rows, depth)


def _nearness(rows: Float32Array, centres: Float32Array) -> Float32Array:
    """Larger for nearer centres: (n, c)."""
    half = np.square(centres).sum(axis=1) / 2
    found: Float32Array = rows @ centres.T - half
    return found


class Lists:
    """The lists of one segment, mapped from a file."""

    def __init__(self, path: Path, model: ListsModel, rows: int) -> None:
        """Map the lists of a segment of `rows` rows; raises ValueError when they are damaged."""
        faiss = load_faiss()
        self.path = path
        count, width = len(model.centres), model.width
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            body = _body(count, rows)
            if size != body + rows * (width + 8):
                raise ValueError("its size is off")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Lists are read here and there by every search, so the system may read them ahead.
        mapped.madvise(mmap.MADV_WILLNEED)
        starts = np.frombuffer(mapped, "<i8", count + 1)
        self._of_rows = np.frombuffer(mapped, "<i4", rows, 8 * (count + 1))
        # FAISS reads memory where these say, so they must not be trusted.
        if self._of_rows.min() < 0 or self._of_rows.max() >= count:
            raise ValueError("it names lists that are not there")
        self._sizes = np.bincount(self._of_rows, minlength=count)
        if starts[0] != 0 or not np.array_equal(np.diff(starts), self._sizes):
            raise ValueError("its lists do not add up")
        table = np.empty((count, 3), np.uint64)
        table[:, 0] = table[:, 1] = self._sizes
        table[:, 2] = body + starts[:-1] * (width + 8)
        inverted = faiss.OnDiskInvertedLists()
        inverted.nlist, inverted.code_size = count, width
        inverted.filename, inverted.totsize = str(path), size
        inverted.read_only = True
        inverted.prefetch_nthread = 0
        inverted.lists.resize(count)
        faiss.memcpy(inverted.lists.data(), faiss.swig_ptr(table.view(np.uint8)), table.nbytes)
        try:
            inverted.do_mmap()
        except RuntimeError:
            path.stat()  # raises FileNotFoundError if another process has just removed it
            raise
        coarse = faiss.IndexFlatIP(width)  # stays empty: lists are chosen before
        index = faiss.IndexIVFScalarQuantizer(
            coarse, width, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )
        index.sq = model.quantizer()
        index.is_trained = True
        index.replace_invlists(inverted, False)
        index.ntotal = rows
        self._index = index
        self._kept_for_faiss = (inverted, coarse)
        self._width = width

    def counts(self, mask: BoolArray | None) -> Int64Array:
        """How many rows each list holds, of those in a mask, (c,)."""
        if mask is None:
            return self._sizes
        return np.bincount(self._of_rows[mask], minlength=len(self._sizes))

    def search(
        self, reduced: Float32Array, probes: Int64Array, k: int, selector: Any | None
    ) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows by code of the lists in `probes` (q, p), where -1 is none.

        Returns scores (q, k), descending, and positions (q, k), -1 past the last.
        """
        faiss = load_faiss()
        scores = np.empty((len(reduced), k), np.float32)
        positions = np.empty((len(reduced), k), np.int64)
        pointer = faiss.swig_ptr
        # FAISS' own wrapper takes no selector.
        self._index.search_preassigned_c(
            len(reduced),
            pointer(reduced),
            k,
            pointer(probes),
            pointer(np.zeros(probes.shape, np.float32)),
            pointer(scores),
            pointer(positions),
            False,
            faiss.SearchParametersIVF(sel=selector, nprobe=probes.shape[1]),
        )
        return scores, positions


def _body(lists: int, rows: int) -> int:
    """Where the lists begin in their file."""
    return 8 * (lists + 1) + -(-4 * rows // 8) * 8


def encode_lists(
    model: ListsModel,
    vectors: npt.NDArray[np.float16],
    see: Callable[[Float32Array, Int32Array], None] | None,
) -> Iterator[bytes | memoryview]:
    """The bytes of the lists of a segment's padded vectors (n, w).

    `see` is shown the projected rows and their lists, block by block.
    """
    count, rows = len(model.centres), len(vectors)
    quantizer = model.quantizer()
    codes = np.empty((rows, model.width), np.uint8)
    of_rows = np.empty(rows, np.int32)
    for start in range(0, rows, _BLOCK):
        block = slice(start, start + _BLOCK)
        reduced = model.reduce(_finite(vectors[block]))
        of_rows[block] = model.assign(reduced)
        codes[block] = quantizer.compute_codes(reduced)
        if see is not None:
            see(reduced, of_rows[block])
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(of_rows, minlength=count), out=starts[1:])
    order = np.argsort(of_rows, kind="stable")
    yield starts.astype("<i8").tobytes()
    yield of_rows.astype("<i4").tobytes().ljust(-(-4 * rows // 8) * 8, b"\0")
    width, size = model.width, model.width + 8
    body = np.empty(rows * size, np.uint8)
    for first, end in itertools.pairwise(starts.tolist()):
        members, middle = order[first:end], first * size + (end - first) * width
        body[first * size : middle] = codes[members].reshape(-1)
        body[middle : end * size] = members.astype("<i8").view(np.uint8)
    yield body.data


def train(
    parts: Sequence[npt.NDArray[np.float16]], dimension: int, queries: Sequence[Float32Array]
) -> ListsModel:
    """A model of the padded vectors of all parts, without a measured depth.

    `queries` (q, d) are samples of each kind of query. The same arguments give the same model.
    """
    faiss = load_faiss()
    rng = np.random.default_rng(len(parts))
    total = sum(len(part) for part in parts)
    projection = _project(_sample(parts, _PROJECTED_SAMPLE, rng), dimension, queries)
    centre_count = max(16, int(_CENTRES_PER_ROOT * total**0.5))
    wanted = min(total, _SAMPLE_OF_CENTRE * centre_count, _MOST_SAMPLED)
    blocks = _sampled_blocks(parts, wanted, rng)
    reduced = np.concatenate([block @ projection for block in blocks])
    groups = max(1, round(centre_count**0.5 / 2))
    middles = _k_means(reduced, groups)
    of_rows = _nearness(reduced, middles).argmax(axis=1)
    centres, starts = [], [0]
    for group in range(groups):
        own = reduced[of_rows == group]
        count = max(1, round(centre_count * len(own) / len(reduced)))
        centres.append(_k_means(own, count) if len(own) > count else own)
        starts.append(starts[-1] + len(centres[-1]))
    quantizer = faiss.ScalarQuantizer(projection.shape[1], faiss.ScalarQuantizer.QT_8bit)
    quantizer.train(reduced)
    return ListsModel(
        projection,
        np.concatenate(centres),
        middles,
        np.asarray(starts, np.int64),
        faiss.vector_to_array(quantizer.trained),
        total,
    )


def _project(sample: Float32Array, dimension: int, queries: Sequence[Float32Array]) -> Float32Array:
    """The projection (w, r) with the fewest numbers that ranks a sample of rows well."""
    values, directions = np.linalg.eigh(sample.T @ sample)
    projection = np.ascontiguousarray(directions[:, np.argsort(-values)][:, : _DIMENSIONS[-1]])
    every = sample @ projection
    kinds = [
        (some @ sample[:, : some.shape[1]].T, some @ projection[: some.shape[1]])
        for some in queries
        if len(some)
    ]
    for width in _DIMENSIONS:
        if width >= dimension or all(
            _ranks_well(exact, reduced[:, :width] @ every[:, :width].T) for exact, reduced in kinds
        ):
            break
    return np.ascontiguousarray(projection[:, :width])


def _ranks_well(exact: Float32Array, rough: Float32Array) -> bool:
    """Whether the best rows by exact scores (q, n) are among the first ones by rough scores."""
    for best, first in ((10, 12), (100, 115)):
        if first >= exact.shape[1]:
            continue
        top = np.argpartition(-exact, best, axis=1)[:, :best]
        floors = -np.partition(-rough, first - 1, axis=1)[:, first - 1, None]
        if (np.take_along_axis(rough, top, axis=1) >= floors).mean() < _PROJECTED_RECALL:
            return False
    return True


def _sample(
    parts: Sequence[npt.NDArray[np.float16]], count: int, rng: np.random.Generator
) -> Float32Array:
    return np.concatenate(list(_sampled_blocks(parts, count, rng)))


def _sampled_blocks(
    parts: Iterable[npt.NDArray[np.float16]], count: int, rng: np.random.Generator
) -> Iterator[Float32Array]:
    """About `count` rows from all parts, block by block."""
    parts = list(parts)
    total = sum(len(part) for part in parts)
    for part in parts:
        wanted = min(len(part), -(-count * len(part) // total))
        chosen = np.sort(rng.choice(len(part), wanted, replace=False))
        for start in range(0, wanted, _BLOCK):
            yield _finite(part[chosen[start : start + _BLOCK]])


def _finite(vectors: npt.NDArray[np.float16]) -> Float32Array:
    """Vectors as float32, with zeros for numbers that are not finite, as damaged files hold."""
    found: Float32Array = np.nan_to_num(vectors.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return found


def _k_means(rows: Float32Array, count: int) -> Float32Array:
    """Centres (count, r) of rows (n, r)."""
    faiss = load_faiss()
    clustering = faiss.Kmeans(
        rows.shape[1],
        count,
        niter=_ROUNDS,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=10**6,
    )
    clustering.train(rows)
    found: Float32Array = clustering.centroids
    return found


class DepthMeasurement:
    """Measures how many rows queries must read, from all rows in their lists."""

    def __init__(self, model: ListsModel, queries: Sequence[Float32Array]) -> None:
        """`queries` (q, d) are samples of each kind."""
        self._model = model
        self._kinds = [model.reduce(some) for some in queries if len(some)]
        self._best = [
            (
                np.full((len(some), _BEST), -np.inf, np.float32),
                np.zeros((len(some), _BEST), np.int32),
            )
            for some in self._kinds
        ]
        self._sizes = np.zeros(len(model.centres), np.int64)

    def see(self, reduced: Float32Array, lists: Int32Array) -> None:
        """Take projected rows (n, r) and their lists (n,)."""
        faiss = load_faiss()
        self._sizes += np.bincount(lists, minlength=len(self._sizes))
        for kind, (queries, (scores, places)) in enumerate(
            zip(self._kinds, self._best, strict=True)
        ):
            found, rows = faiss.knn(
                queries, reduced, min(_BEST, len(reduced)), faiss.METRIC_INNER_PRODUCT
            )
            every = np.concatenate([scores, found], axis=1)
            of = np.concatenate([places, lists[rows]], axis=1)
            top = np.argsort(-every, axis=1)[:, :_BEST]
            self._best[kind] = (
                np.take_along_axis(every, top, axis=1),
                np.take_along_axis(of, top, axis=1),
            )

    def conclude(self) -> ListsModel:
        """The model with the depth that serves the most demanding kind of query."""
        total = int(self._sizes.sum())
        depth = 0.0
        for queries, (_, places) in zip(self._kinds, self._best, strict=True):
            order = np.stack([self._model.order(query) for query in queries])
            reached = np.cumsum(self._sizes[order], axis=1)
            needed = np.empty_like(reached)
            np.put_along_axis(needed, order, reached, axis=1)
            of_best = np.take_along_axis(needed, places.astype(np.int64), axis=1) / max(total, 1)
            depth = max(
                depth,
                float(np.quantile(of_best[:, :10], _RECALL_AT_10)),
                float(np.quantile(of_best, _RECALL_AT_100)),
            )
        return replace(self._model, depth=min(_DEPTH_MARGIN * depth, 1.0) or 1.0)
