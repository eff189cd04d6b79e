"""Rows of an index, and the bytes of a file of rows.

Vectors are the catalog's float16 values, padded with zeros to a multiple of 8 numbers, with which
FAISS multiplies fast.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.records import Float16Array, Float32Array, Int64Array
from regard.storage.vectors.engine import Additions
from regard.storage.vectors.faiss_library import faiss_threads

_BLOCK = 1024
# Numbers that are converted as one vector.
_WIDTH = 1024
# Above 1 by what rounding to float16 adds.
_MAX_NORM = 1.01
_MAX_QUERY_NORM = 1e30
# FAISS' threads spin while they wait, so they serve only more queries than a few.
FEW_QUERIES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n rows: ids, and the ids of their contents and regions (0: none), int64 (n,); vectors (n, d)
    float16."""

    ids: Int64Array
    contents: Int64Array
    regions: Int64Array
    vectors: Float16Array

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: npt.NDArray[Any] | slice) -> Rows:
        """The rows at places, in a slice or in a mask; copies, unless these are all rows in order."""
        if isinstance(places, slice):
            vectors = self.vectors[places]
        else:
            places = np.flatnonzero(places) if places.dtype == np.bool_ else places
            if len(places) == len(self.ids) and (places == np.arange(len(places))).all():
                return self
            vectors = self.vectors.take(places, axis=0)  # indexing takes several times as long
        return Rows(self.ids[places], self.contents[places], self.regions[places], vectors)

    def by_id(self) -> Rows:
        """The same rows, ordered by id."""
        return self.take(np.argsort(self.ids, kind="stable"))

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, in their order."""
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.contents for part in parts]),
            np.concatenate([part.regions for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


def checked_rows(additions: Additions, dimension: int) -> Rows:
    """The rows by ascending unique ids, with vectors rounded to float16; raises ValueError."""
    ids, vectors, contents, regions = additions
    if np.shape(vectors) != (np.size(ids), dimension):
        expected = (np.size(ids), dimension)
        raise ValueError(f"expected vectors {expected}, got {np.shape(vectors)}")
    given = Rows(checked_ids(ids), checked_ids(contents), checked_ids(regions), np.asarray(vectors))
    rows = given.take(np.unique(given.ids, return_index=True)[1])
    if rows.ids.size and rows.ids[0] <= 0:
        raise ValueError(f"ids are positive, got {rows.ids[0]}")
    norms = np.sqrt(squared_norms(rows.vectors))
    # Written so that NaN fails too.
    if not (norms <= _MAX_NORM).all():
        wrong = int(np.argmin(norms <= _MAX_NORM))
        raise ValueError(f"the vector of {rows.ids[wrong]} has norm {norms[wrong]}, not 1")
    return replace(rows, vectors=rows.vectors.astype(np.float16, copy=False))


def checked_ids(ids: Int64Array) -> Int64Array:
    """The ids (n,) as int64; raises ValueError."""
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"expected integer ids of one dimension, got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def checked_queries(queries: Float32Array, k: int, dimension: int) -> Float32Array:
    """The queries (n, d), contiguous; raises ValueError, also for a negative `k`."""
    checked = np.ascontiguousarray(queries, dtype=np.float32)
    if checked.ndim != 2 or checked.shape[1] != dimension:
        raise ValueError(f"expected queries (n, {dimension}), got {checked.shape}")
    # Written so that NaN fails too; within the bound no product or sum can overflow.
    if not (np.linalg.norm(checked.astype(np.float64), axis=1) <= _MAX_QUERY_NORM).all():
        raise ValueError("queries hold NaN, infinity or numbers near float32's limit")
    if k < 0:
        raise ValueError(f"k is not negative, got {k}")
    return checked


def padded_width(dimension: int) -> int:
    """Numbers that a vector takes in a segment."""
    return -(-dimension // 8) * 8


def pad(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Vectors (n, d) as wide as those of segments, (n, w)."""
    count, dimension = vectors.shape
    width = padded_width(dimension)
    if width == dimension:
        return vectors
    padded = np.zeros((count, width), vectors.dtype)
    padded[:, :dimension] = vectors
    return padded


def to_float32(vectors: Float16Array) -> Float32Array:
    """The same vectors (n, d); FAISS converts them in less than half of NumPy's time."""
    flat = np.ascontiguousarray(vectors).reshape(-1)
    exact = np.empty(flat.shape, np.float32)
    whole = flat.size - flat.size % _WIDTH
    codes = flat.view(np.uint8)
    with faiss_threads(1) as faiss:
        quantizer = faiss.ScalarQuantizer(_WIDTH, faiss.ScalarQuantizer.QT_fp16)
        quantizer.decode_c(faiss.swig_ptr(codes), faiss.swig_ptr(exact), whole // _WIDTH)
    exact[whole:] = flat[whole:]
    return exact.reshape(vectors.shape)


def squared_norms(vectors: npt.NDArray[np.floating]) -> Float32Array:
    """The squared length of each vector (n, d); infinite or NaN for those that are not finite."""
    norms = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
            exact = to_float32(block) if block.dtype == np.float16 else block.astype(np.float32)
            norms[start : start + _BLOCK] = np.einsum("nd,nd->n", exact, exact)
    return norms


def fp16_index(faiss: Any, vectors: Float16Array) -> Any:
    """An index of `faiss` over padded vectors (n, w), which are not copied."""
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    codes = vectors.view(np.uint8).reshape(-1)
    # FAISS owns the view for nobody; the attribute keeps the array alive as long as the index.
    nobody = faiss.MaybeOwnedVectorUInt8().owner
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(codes), codes.size, nobody)
    index.ntotal = len(vectors)
    index.referenced_objects = [codes]
    return index


def score_rows(queries: Float32Array, rows: Float16Array) -> Float32Array:
    """Inner products of queries (q, w) and rows (m, w): (q, m).

    For a single query, a row's sum does not depend on the rows beside it, so equal vectors score
    equal wherever they lie. Scores of damaged rows that are not numbers become -inf.
    """
    if not len(rows):
        return np.empty((len(queries), 0), np.float32)
    scores: Float32Array
    if len(queries) > FEW_QUERIES:
        with np.errstate(invalid="ignore"):
            scores = queries @ to_float32(rows).T  # (q, w) @ (w, m)
        scores[np.isnan(scores)] = -np.inf
        return scores
    # NumPy takes ten times as long to convert float16.
    with faiss_threads(1) as faiss:
        found, positions = fp16_index(faiss, rows).search(queries, len(rows))
    # FAISS leaves out what is not a number, and gives -1 instead: the last column.
    scores = np.full((len(queries), len(rows) + 1), -np.inf, np.float32)
    np.put_along_axis(scores, positions, found, axis=1)
    return scores[:, :-1]


def encode_rows(
    rows: Rows, checksums: npt.NDArray[np.uint32] | None = None
) -> Iterator[bytes | memoryview]:
    """The bytes of a file of rows whose vectors are padded.

    `checksums` (n,) are those of rows that were read from a file, where they may be damaged.
    """
    yield np.ascontiguousarray(rows.vectors, "<f2").view(np.uint8).data
    for column in (rows.ids, rows.contents, rows.regions):
        yield column.astype("<i8", copy=False).tobytes()
    checksums = row_checksums(rows) if checksums is None else checksums
    yield checksums.astype("<u4", copy=False).tobytes()


def encode_arriving(steps: Iterable[Rows]) -> Iterator[bytes | memoryview]:
    """The bytes of a file of rows that come in steps, ordered by id; vectors (n, d) are padded."""
    heads = []
    checksums = []
    for rows in steps:
        padded = replace(rows, vectors=pad(rows.vectors))
        yield np.ascontiguousarray(padded.vectors, "<f2").view(np.uint8).data
        heads.append(np.stack([rows.ids, rows.contents, rows.regions]))
        checksums.append(row_checksums(padded))
    yield np.concatenate(heads, axis=1).astype("<i8", copy=False).tobytes()
    yield np.concatenate(checksums).astype("<u4", copy=False).tobytes()


def encode_merged(
    parts: Sequence[Rows],
    checksums: Sequence[npt.NDArray[np.uint32]],
    positions: Sequence[Int64Array],
) -> Iterator[bytes | memoryview]:
    """The bytes of a file of rows at positions in several parts, ordered by id.

    Vectors are copied block by block. Checksums stay as they are: a damaged row remains one.
    """

    def gather(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate([of[at] for of, at in zip(columns, positions, strict=True)])

    ids = gather([part.ids for part in parts])
    contents = gather([part.contents for part in parts])
    regions = gather([part.regions for part in parts])
    checks = gather(checksums)
    order = np.argsort(ids, kind="stable")
    of_parts = np.repeat(np.arange(len(parts)), [len(at) for at in positions])[order]
    places = np.concatenate(positions)[order]
    for start in range(0, len(order), _BLOCK):
        block = slice(start, start + _BLOCK)
        of_block, at = of_parts[block], places[block]
        vectors = np.empty((len(at), parts[0].vectors.shape[1]), "<f2")
        for number in np.unique(of_block):
            own = of_block == number
            vectors[own] = parts[number].vectors.take(at[own], axis=0)
        yield vectors.view(np.uint8).data
    for column in (ids, contents, regions):
        yield column[order].astype("<i8", copy=False).tobytes()
    yield checks[order].astype("<u4", copy=False).tobytes()


def require_size(size: int, count: int, dimension: int) -> None:
    """Raise ValueError unless a file of `count` rows has `size` bytes."""
    if size != count * (2 * padded_width(dimension) + 3 * 8 + 4):
        raise ValueError(f"{size} bytes are not {count} rows of dimension {dimension}")


def row_checksums(rows: Rows) -> npt.NDArray[np.uint32]:
    """CRC-32 of each row (n,): of its id, content and region, then of its vector."""
    heads = np.stack([rows.ids, rows.contents, rows.regions], axis=1).astype("<i8", copy=False)
    vectors = np.ascontiguousarray(rows.vectors, "<f2").view(np.uint8)
    return np.fromiter(
        (zlib.crc32(vector, zlib.crc32(head)) for head, vector in zip(heads, vectors, strict=True)),
        np.uint32,
        len(rows.ids),
    )
