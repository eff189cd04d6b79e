"""Lists of similar rows with short codes, which nominate the rows that a search scores.

All large segments of an index share a `ListsModel`. Its `Clusters` group rows that are near each
other in the directions that matter most in the rows. Each segment has its `Lists`: its rows grouped
by cluster, as codes of one byte for each number (inverted lists over a scalar quantizer, as in
Jégou et al., "Product quantization for nearest neighbor search", 2011). The codes keep all
directions: texts lie apart from images, and what they ask for is often outside the main ones.

A search reads the lists that may hold the largest inner products with the query: those whose mean
row, plus a few standard deviations of the rows along the query, scores best. A mean alone would
put a list with a few good rows behind many with mediocre ones. How many rows a search reads is
measured when the model is trained, with the kinds of queries that the channel gets.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.machine import share_work
from regard.core.records import BoolArray, Float16Array, Float32Array, Int64Array
from regard.storage.vectors.faiss_library import load_faiss
from regard.storage.vectors.rows import pad, to_float32

Int32Array = npt.NDArray[np.int32]

# A model is trained again when there are this many times as many rows.
GROWTH = 4
# Numbers that vectors are projected to for clustering.
_DIRECTIONS = 128
# Sampled rows: for the projection; for clusters, their moments, and the depth of a search.
_PROJECTED_SAMPLE, _SAMPLE = 16_384, 65_536
_CENTRES_PER_ROOT = 6  # times the square root of the number of rows
_ROUNDS = 6  # of k-means
_NEAR_GROUPS = 3  # whose centres a row is compared with
# Standard deviations above the mean at which a list's best rows are expected.
_DEVIATIONS = 1.5
# Variances of unit vectors are too small for float16.
_VARIANCE_SCALE = np.float32(4096)
# Rows of the spread of all clusters that count beside a cluster's own: samples of one are small.
_PRIOR_ROWS = 4
# Shares of a query's 10 and 100 best rows that the lists it reads should hold.
_BEST = 100
_RECALL_AT_10, _RECALL_AT_100 = 0.994, 0.98
# At least this many rows are read, and up to so many times as many of those that pass a filter.
_LEAST_READ, _FILTERED = 4096, 2.0
_IMPOSSIBLE = 2  # for a number of a unit vector
# Rows at a time. The C library gets memory of more than 32 MB from the system each time.
_BLOCK = 1024
_ASSIGNED = 16_384  # to clusters
_ORDERED = 2048  # lists
# Blocks that are encoded before any is written.
_BLOCKS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Clusters of projected rows.

    `projection` (w, r) float32 takes vectors padded to w; `centres` (c, r) are ordered by groups;
    `starts` (g + 1) are the groups' first centres and `middles` (g, r) their centres. The
    projection keeps the mean of the rows, unlike common PCA, because inner products depend on it.
    """

    projection: Float32Array
    centres: Float32Array
    middles: Float32Array
    starts: Int64Array

    def project(self, vectors: Float16Array) -> Float32Array:
        """The projections (n, r) of padded vectors (n, w)."""
        return np.concatenate(
            [
                _sound(vectors[start : start + _BLOCK]) @ self.projection
                for start in _starts(vectors)
            ]
        )

    def assign(self, reduced: Float32Array) -> Int32Array:
        """The cluster of each projected row (n, r), int32 (n,)."""
        near = _nearness(reduced, self.middles)
        count = min(_NEAR_GROUPS, near.shape[1])
        groups = np.argpartition(-near, count - 1, axis=1)[:, :count]
        best = np.full(len(reduced), -np.inf, np.float32)
        clusters = np.zeros(len(reduced), np.int32)
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
            clusters[rows[is_better]] = start + chosen[is_better]
        return clusters


@dataclass(frozen=True, slots=True, eq=False)
class ListsModel:
    """What the lists of all segments of an index share: one list a cluster.

    `means` and `variances` (c, w) float32 are those of the rows in each list, the means less their
    own mean, the variances times 4,096; their file holds them as float16, so they are rounded to
    that. `bounds` (2 w) float32 are the quantizer's least values and spans. `depth` is the share of
    all rows that a query reads.
    """

    clusters: Clusters
    means: Float32Array
    variances: Float32Array
    bounds: Float32Array
    trained_rows: int
    depth: float = 1.0

    @property
    def lists(self) -> int:
        """The number of lists, c."""
        return len(self.means)

    @property
    def width(self) -> int:
        """Numbers of a padded vector, w, and bytes of a code."""
        return int(self.means.shape[1])

    def order(self, queries: Float32Array) -> Int64Array:
        """All lists for padded queries (q, w), the most promising first, int64 (q, c)."""

        def promises(first: int) -> Float32Array:
            some = slice(first, first + _ORDERED)
            with np.errstate(invalid="ignore"):  # in a damaged file
                spreads = np.sqrt(self.variances[some] @ np.square(queries.T) / _VARIANCE_SCALE)
                promise: Float32Array = self.means[some] @ queries.T
                promise += np.float32(_DEVIATIONS) * spreads
            return promise

        promise = np.concatenate(share_work(promises, range(0, self.lists, _ORDERED)))  # (c, q)
        return np.argsort(-promise.T, axis=1, kind="stable")

    def rows_to_read(self, total: int, fetch: int, reading: int) -> int:
        """How many of `total` selected rows lists must hold for `fetch` candidates."""
        rows = int(self.depth * 4.0**reading * max(total, self.trained_rows))
        # What passes a filter may lie anywhere, also far from the query.
        filtered = min(max(self.trained_rows / max(total, 1), 1.0), _FILTERED)
        return min(total, int(filtered * max(rows, 4 * fetch, _LEAST_READ)))

    def quantizer(self) -> Any:
        """FAISS' quantizer of padded vectors."""
        faiss = load_faiss()
        quantizer = faiss.ScalarQuantizer(self.width, faiss.ScalarQuantizer.QT_8bit)
        faiss.copy_array_to_vector(self.bounds, quantizer.trained)
        return quantizer

    @property
    def shapes(self) -> tuple[int, int, int]:
        """Projected numbers, lists and groups: what `decode` must know."""
        clusters = self.clusters
        return clusters.projection.shape[1], self.lists, len(clusters.middles)

    def encode(self) -> Iterator[bytes]:
        """The bytes of the model's file; its shapes and its depth are in the manifest."""
        clusters = self.clusters
        yield clusters.starts.astype("<i8").tobytes()
        for array in (clusters.projection, clusters.centres, clusters.middles, self.bounds):
            yield array.astype("<f4").tobytes()
        for moments in (self.means, self.variances):
            yield moments.astype("<f2").tobytes()

    @classmethod
    def decode(
        cls, data: bytes, padded: int, shapes: tuple[int, int, int], rows: int, depth: float
    ) -> ListsModel:
        """The model in the bytes of a file; raises ValueError for another size."""
        directions, lists, groups = shapes
        sizes = [
            ("<i8", (groups + 1,)),
            ("<f4", (padded, directions)),
            ("<f4", (lists, directions)),
            ("<f4", (groups, directions)),
            ("<f4", (2 * padded,)),
            ("<f2", (lists, padded)),
            ("<f2", (lists, padded)),
        ]
        ends = np.cumsum([np.dtype(kind).itemsize * np.prod(size) for kind, size in sizes])
        if len(data) != ends[-1]:
            raise ValueError("its size is off")
        arrays: list[npt.NDArray[Any]] = []
        for (kind, size), end in zip(sizes, ends.tolist(), strict=True):
            count = int(np.prod(size))
            start = end - count * np.dtype(kind).itemsize
            arrays.append(np.frombuffer(data, kind, count, start).reshape(size))
        starts, projection, centres, middles, bounds, means, variances = arrays
        clusters = Clusters(projection, centres, middles, starts.astype(np.int64))
        means, variances = means.astype(np.float32), variances.astype(np.float32)
        return cls(clusters, means, variances, bounds, rows, depth)


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
        count, width = model.lists, model.width
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

    def counts(self, mask: BoolArray | None) -> Int64Array:
        """How many rows each list holds, of those in a mask, (c,)."""
        if mask is None:
            return self._sizes
        return np.bincount(self._of_rows[mask], minlength=len(self._sizes))

    def search(
        self, queries: Float32Array, probes: Int64Array, k: int, selector: Any | None
    ) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows by code of the lists in `probes` (q, p), where -1 is none.

        Queries (q, w) are padded. Returns scores (q, k), descending, and positions (q, k), -1 past
        the last.
        """
        faiss = load_faiss()
        scores = np.empty((len(queries), k), np.float32)
        positions = np.empty((len(queries), k), np.int64)
        pointer = faiss.swig_ptr
        # FAISS' own wrapper takes no selector.
        self._index.search_preassigned_c(
            len(queries),
            pointer(queries),
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


def encode_lists(model: ListsModel, vectors: Float16Array) -> Iterator[bytes]:
    """The bytes of the lists of a segment's padded vectors (n, w)."""

    def assign(start: int) -> Int32Array:
        some = vectors[start : start + _ASSIGNED]
        return model.clusters.assign(model.clusters.project(some))

    of_rows = np.concatenate(share_work(assign, range(0, len(vectors), _ASSIGNED)))
    starts = np.zeros(model.lists + 1, np.int64)
    np.cumsum(np.bincount(of_rows, minlength=model.lists), out=starts[1:])
    yield starts.astype("<i8").tobytes()
    yield of_rows.astype("<i4").tobytes().ljust(-(-4 * len(vectors) // 8) * 8, b"\0")
    order = np.argsort(of_rows, kind="stable")
    quantizer = model.quantizer()

    def encode(block: tuple[int, int]) -> bytes:
        first, end = block
        members = order[starts[first] : starts[end]]
        codes = np.empty((len(members), model.width), np.uint8)
        for start in range(0, len(members), _BLOCK):
            some = members[start : start + _BLOCK]
            codes[start : start + _BLOCK] = quantizer.compute_codes(
                _sound(vectors.take(some, axis=0))
            )
        written = []
        for start, stop in itertools.pairwise((starts[first : end + 1] - starts[first]).tolist()):
            written += [codes[start:stop].tobytes(), members[start:stop].astype("<i8").tobytes()]
        return b"".join(written)

    blocks = _blocks_of_lists(starts)
    for some in range(0, len(blocks), _BLOCKS_AT_ONCE):
        yield from share_work(encode, blocks[some : some + _BLOCKS_AT_ONCE])


def _blocks_of_lists(starts: Int64Array) -> list[tuple[int, int]]:
    """Ranges of lists with about a block of rows together."""
    firsts = np.unique(starts[:-1] // _BLOCK, return_index=True)[1].tolist()
    return [*itertools.pairwise(firsts), (firsts[-1], len(starts) - 1)]


def train(
    parts: Sequence[Float16Array], dimension: int, queries: Sequence[Float32Array]
) -> ListsModel:
    """A model of the padded vectors of all parts.

    `queries` (q, d) are samples of each kind of query. The same arguments give the same model.
    """
    rng = np.random.default_rng(len(parts))
    total = sum(len(part) for part in parts)
    sample = rng.permutation(total)[:_SAMPLE]
    projection = _main_directions(_gather(parts, sample[:_PROJECTED_SAMPLE]), dimension)
    reduced = np.concatenate(
        [_gather(parts, sample[start : start + _BLOCK]) @ projection for start in _starts(sample)]
    )
    distinct = _distinct(reduced)
    count = min(max(16, int(_CENTRES_PER_ROOT * total**0.5)), len(distinct))
    clusters = _cluster(projection, distinct, count)
    means, variances, bounds = _moments(clusters, parts, sample, clusters.assign(reduced))
    model = ListsModel(clusters, means, variances, bounds, total)
    # Other rows than those which gave the means, where there are others.
    sample = rng.permutation(total)[:_SAMPLE]
    return replace(model, depth=_measure_depth(model, parts, sample, queries))


def _starts(rows: npt.NDArray[Any]) -> range:
    """Where blocks of rows begin."""
    return range(0, len(rows), _BLOCK)


def _gather(parts: Sequence[Float16Array], positions: Int64Array) -> Float32Array:
    """The rows (m, w) at positions in all parts together."""
    ends = np.cumsum([len(part) for part in parts])
    of_parts = np.searchsorted(ends, positions, side="right")
    rows = np.empty((len(positions), parts[0].shape[1]), np.float16)
    for number in np.unique(of_parts):
        own = of_parts == number
        places = positions[own] - ends[number] + len(parts[number])
        rows[own] = parts[number].take(places, axis=0)
    return _sound(rows)


def _distinct(reduced: Float32Array) -> Float32Array:
    """Projected rows (n, r) without repetitions, which would get several centres for one place."""
    rounded = np.ascontiguousarray(reduced.round(4))
    whole = rounded.view(np.dtype((np.void, rounded.itemsize * rounded.shape[1])))[:, 0]
    return reduced[np.sort(np.unique(whole, return_index=True)[1])]


def _main_directions(sample: Float32Array, dimension: int) -> Float32Array:
    """The projection (w, r) onto the directions that matter most in a sample of rows."""
    values, directions = np.linalg.eigh(sample.T @ sample)
    main = directions[:, np.argsort(-values)[: min(dimension, _DIRECTIONS)]]
    return np.ascontiguousarray(main)


def _cluster(projection: Float32Array, reduced: Float32Array, count: int) -> Clusters:
    """About `count` clusters of projected rows (n, r)."""
    groups = max(1, round(count**0.5 / 2))
    middles = _k_means(reduced, groups)
    of_rows = _nearness(reduced, middles).argmax(axis=1)
    centres, starts = [], [0]
    for group in range(groups):
        own = reduced[of_rows == group]
        wanted = max(1, round(count * len(own) / len(reduced)))
        centres.append(_k_means(own, wanted) if len(own) > wanted else own)
        starts.append(starts[-1] + len(centres[-1]))
    return Clusters(projection, np.concatenate(centres), middles, np.asarray(starts, np.int64))


def _moments(
    clusters: Clusters,
    parts: Sequence[Float16Array],
    sample: Int64Array,
    of_sample: Int32Array,
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Means and variances (c, w) of the rows of each cluster, and bounds (2 w) of all rows.

    `of_sample` are the clusters of the sampled rows.
    """
    count = len(clusters.centres)
    means = clusters.centres @ clusters.projection.T  # of clusters without rows
    deviations = np.zeros_like(means)
    least, most = np.full((2, means.shape[1]), [[np.inf], [-np.inf]], np.float32)
    sizes = np.bincount(of_sample, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ordered = sample[np.argsort(of_sample, kind="stable")]
    for first, end in _blocks_of_lists(starts):
        rows = _gather(parts, ordered[starts[first] : starts[end]])
        for cluster in range(first, end):
            own = rows[starts[cluster] - starts[first] : starts[cluster + 1] - starts[first]]
            if len(own):
                means[cluster] = own.mean(axis=0)
                deviations[cluster] = np.square(own - means[cluster]).sum(axis=0)
        if len(rows):
            least = np.minimum(least, rows.min(axis=0))
            most = np.maximum(most, rows.max(axis=0))
    spread = deviations.sum(axis=0) / len(sample)
    variances = (deviations + _PRIOR_ROWS * spread) / (sizes + _PRIOR_ROWS)[:, None]
    bounds = np.concatenate([least, most - least])
    # What all means share changes no order, but would take digits.
    means -= means.mean(axis=0)
    return _rounded(means), _rounded(_VARIANCE_SCALE * variances), bounds


def _rounded(moments: Float32Array) -> Float32Array:
    """As the model's file holds them."""
    return moments.astype(np.float16).astype(np.float32)


def _sound(vectors: Float16Array) -> Float32Array:
    """Vectors as float32, with zeros for what no unit vector has, as damaged files hold."""
    exact = to_float32(vectors)
    if exact.size and not -_IMPOSSIBLE < exact.min() <= exact.max() < _IMPOSSIBLE:  # also for NaN
        exact[~(np.abs(exact) < _IMPOSSIBLE)] = 0
    return exact


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


def _measure_depth(
    model: ListsModel,
    parts: Sequence[Float16Array],
    sample: Int64Array,
    queries: Sequence[Float32Array],
) -> float:
    """The share of the rows that a query of the most demanding kind must read."""
    kinds = [pad(some) for some in queries if len(some)]
    best = [np.full((len(some), _BEST), -np.inf, np.float32) for some in kinds]
    places = [np.zeros((len(some), _BEST), np.int64) for some in kinds]
    reduced = []
    for start in _starts(sample):
        rows = _gather(parts, sample[start : start + _BLOCK])
        reduced.append(rows @ model.clusters.projection)
        for kind, some in enumerate(kinds):
            every = np.concatenate([best[kind], some @ rows.T], axis=1)
            top = np.argpartition(-every, _BEST - 1, axis=1)[:, :_BEST]
            best[kind] = np.take_along_axis(every, top, axis=1)
            former = np.take_along_axis(places[kind], np.minimum(top, _BEST - 1), axis=1)
            places[kind] = np.where(top < _BEST, former, top - _BEST + start)
    of_rows = model.clusters.assign(np.concatenate(reduced)).astype(np.int64)
    sizes = np.bincount(of_rows, minlength=model.lists)
    depth = 0.0
    for some, scores, of_best in zip(kinds, best, places, strict=True):
        order = model.order(some)
        reached = np.cumsum(sizes[order], axis=1)
        needed = np.empty_like(reached)
        np.put_along_axis(needed, order, reached, axis=1)
        by_score = np.take_along_axis(of_best, np.argsort(-scores, axis=1), axis=1)
        shares = np.take_along_axis(needed, of_rows[by_score], axis=1) / len(sample)
        depth = max(
            depth,
            float(np.quantile(shares[:, :10], _RECALL_AT_10)),
            float(np.quantile(shares, _RECALL_AT_100)),
        )
    return depth or 1.0
