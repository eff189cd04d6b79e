"""Chooses how many candidates a search of an HNSW index keeps, by measurement.

Rows find rows among a few dozen candidates. Texts lie apart from the rows that they search, and may
need a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection

from regard.core.records import Float32Array
from regard.storage.vectors.pgvector.scan import MOST_CANDIDATES, Scan
from regard.storage.vectors.pgvector.tables import TableState, fetch_rows
from regard.storage.vectors.rows import pad, score_rows

_LADDER = (40, 80, 160, 320)
# Queries of each kind.
_SAMPLE = 64
# The least mean share of the k best rows that searches find, and how many times the breadth for that
# is chosen: texts that people write lie farther off than the captions that stand for them here.
_LEAST_RECALL = {10: 0.99, 100: 0.97}
_MARGIN = 3
_ROUNDING = 2e-6
_ROWS_AT_ONCE = 10_000


def choose_breadth(
    connection: Connection, table: str, state: TableState, queries: Sequence[Float32Array]
) -> int:
    """Three times the least breadth with which queries (q, d) of each kind find enough of the best rows.

    The most that pgvector takes where none is enough, or no queries are given.
    """
    kinds = [_directions(drawn[:_SAMPLE]) for drawn in queries if len(drawn)]
    if not kinds:
        return MOST_CANDIDATES
    dimension = kinds[0].shape[1]
    best = _best_scores(connection, table, np.concatenate(kinds), min(100, state.row_count))
    parts = np.split(best, np.cumsum([len(kind) for kind in kinds])[:-1])
    for breadth in _LADDER:
        scan = Scan(connection, table, dimension, state._replace(breadth=breadth))
        if all(_is_enough(scan, *one) for one in zip(kinds, parts, strict=True)):
            return _MARGIN * breadth
    return MOST_CANDIDATES


def _is_enough(scan: Scan, queries: Float32Array, best: Float32Array) -> bool:
    """Whether queries (q, d) find enough of their best scores (q, k), in descending order."""
    for k, least in _LEAST_RECALL.items():
        wanted = best[:, :k]
        shares = [
            _share(scan, query, scores) for query, scores in zip(queries, wanted, strict=True)
        ]
        if np.mean(shares) < least:
            return False
    return True


def _share(scan: Scan, query: Float32Array, best: Float32Array) -> float:
    rows = scan.by_hnsw(query, len(best))
    if rows is None:  # which a scan then finds
        return 1.0
    scores = score_rows(pad(query[None]), pad(rows.vectors))[0]
    found = np.count_nonzero(scores >= best[-1] - _ROUNDING)
    return min(float(found) / len(best), 1.0)


def _best_scores(connection: Connection, table: str, queries: Float32Array, k: int) -> Float32Array:
    """The `k` best scores of each query (q, d) among all rows, (q, k), in descending order."""
    padded = pad(queries)
    best = np.full((len(queries), k), -np.inf, np.float32)
    after = 0
    while True:
        rows = fetch_rows(
            connection,
            queries.shape[1],
            f"SELECT id, content, region, vector FROM {table} WHERE id > %(after)s ORDER BY id "
            f"LIMIT {_ROWS_AT_ONCE}",
            {"after": after},
        )
        if not len(rows):
            return best
        scores = np.concatenate([best, score_rows(padded, pad(rows.vectors))], axis=1)
        best = -np.sort(-scores, axis=1)[:, :k]
        after = int(rows.ids[-1])


def _directions(queries: Float32Array) -> Float32Array:
    """The queries (q, d) at norm 1."""
    norms = np.linalg.norm(queries, axis=1, keepdims=True)
    return np.asarray(queries / np.where(norms == 0, 1, norms), np.float32)
