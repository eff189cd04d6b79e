"""Nominates the rows of a table for a query: by HNSW, or by a scan of all rows that pass a filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection

from regard.core.idset import IdSet
from regard.core.records import Float32Array
from regard.storage.vectors.pgvector.tables import Binary, TableState, driver, fetch_rows
from regard.storage.vectors.rows import Rows

# Rows nominated beyond k.
_SLACK = 32
# pgvector's own limit.
MOST_CANDIDATES = 1000
# A candidate of HNSW costs about as much as so many rows of a scan.
_ROW_COST = 16
# Contents whose rows are looked up by an index instead of being found in a scan.
_LISTED_CONTENTS = 50_000
_SCALE = 2048

_BY_HNSW = """
SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true),
    set_config('hnsw.ef_search', %s, true), set_config('hnsw.max_scan_tuples', %s, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.scan_mem_multiplier', '8', true)
"""
_BY_SCAN = "SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'on', true)"


class Scan:
    """Nominates rows of one table that pass a filter, in one transaction."""

    def __init__(
        self,
        connection: Connection,
        table: str,
        dimension: int,
        state: TableState,
        allowed: IdSet | None = None,
    ) -> None:
        self._connection = connection
        self._dimension = dimension
        self._count = state.row_count
        self._breadth = state.breadth or MOST_CANDIDATES
        self._select = f"SELECT id, content, region, vector FROM {table} WHERE "
        self._contents = f"SELECT max(content) FROM {table}"
        self._allowed = allowed
        self._bitmap: dict[str, Any] | None = None

    def by_hnsw(self, direction: Float32Array, k: int) -> Rows | None:
        """The nearest rows by HNSW; None where a scan costs less, or when it found too few."""
        fetch = k + _SLACK
        share = self._share()
        # Among fewer, the best of those that pass would come too late.
        candidates = max(self._breadth, 2 * fetch / share)
        scanned = self._count * (share if self._is_listed() else 1)
        if 2 * fetch > self._count or scanned <= _ROW_COST * candidates:
            return None
        most = max(20_000, min(int(10 * fetch / share), self._count))
        driver(self._connection).execute(
            _BY_HNSW, (str(min(int(candidates), MOST_CANDIDATES)), str(most)), prepare=False
        )
        condition, parameters = self._condition(is_listed=False)
        # Beyond the first candidates, HNSW reads on with the best in no strict order.
        limit = fetch if self._allowed is None else 2 * fetch
        rows = self._fetch(
            f"{condition} ORDER BY vector <#> %(query)s::halfvec LIMIT %(limit)s",
            {**parameters, "query": Binary.halfvec(direction), "limit": limit},
        )
        return rows if len(rows) >= k else None

    def all(self, direction: Float32Array, k: int) -> Rows:
        """The nearest of all rows, by products that are as exact as those of float32.

        A sum of two products takes half the time of one with the vectors cast to float32.
        """
        condition, parameters = self._condition(is_listed=self._is_listed())
        driver(self._connection).execute(_BY_SCAN)
        query = direction.astype(np.float16).astype(np.float32)
        # Scaled, because small numbers lose digits in half precision.
        rest = (direction - query) * np.float32(_SCALE)
        return self._fetch(
            f"{condition} ORDER BY (vector <#> %(query)s::halfvec) "
            f"+ (vector <#> %(rest)s::halfvec) / {_SCALE}, id LIMIT %(limit)s",
            {
                **parameters,
                "query": Binary.halfvec(query),
                "rest": Binary.halfvec(rest),
                "limit": k + _SLACK,
            },
        )

    def _fetch(self, rest: str, parameters: Mapping[str, Any]) -> Rows:
        return fetch_rows(self._connection, self._dimension, self._select + rest, parameters)

    def _share(self) -> float:
        """About which share of the rows passes."""
        if self._allowed is None:
            return 1.0
        contents = driver(self._connection).execute(self._contents).fetchone()[0] or 1
        listed = min(self._allowed.listed_count / int(contents), 1.0)
        return max(1 - listed if self._allowed.is_complement else listed, 1e-9)

    def _is_listed(self) -> bool:
        """Whether the rows that pass are found by their contents."""
        allowed = self._allowed
        return (
            allowed is not None
            and not allowed.is_complement
            and allowed.listed_count <= _LISTED_CONTENTS
        )

    def _condition(self, *, is_listed: bool) -> tuple[str, dict[str, Any]]:
        """What rows have to pass."""
        allowed = self._allowed
        if allowed is None:
            return "true", {}
        if is_listed:
            contents = Binary.bigints(allowed.listed())
            return "content = ANY(%(contents)s::bigint[])", {"contents": contents}
        if self._bitmap is None:
            listed = allowed.listed()
            # The last bit stands for all that lies beyond.
            bits = np.zeros(int(listed[-1]) + 2 if len(listed) else 1, np.bool_)
            bits[listed] = True
            packed = np.packbits(bits, bitorder="little").tobytes()
            passing = 0 if allowed.is_complement else 1
            self._bitmap = {"last": len(bits) - 1, "bitmap": packed, "passing": passing}
        return "get_bit(%(bitmap)s, least(content, %(last)s)) = %(passing)s", self._bitmap
