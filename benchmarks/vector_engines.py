"""Measures one vector engine on made vectors: filling, searches, recall and memory.

`python benchmarks/vector_engines.py --rows 200000 --folder DIR [--only-search]` measures the engine
that REGARD_VECTORS and REGARD_DATABASE_URL choose, and prints JSON. Every engine gets the same rows:
400 clusters with 96 degrees of freedom in 1,152 dimensions, and noise.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from regard.api.library.settings import Settings
from regard.core.idset import IdSet
from regard.core.records import Kind
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import Additions, IndexIdentity, VectorIndex
from regard.storage.vectors.engines import make_engine

DIMENSION, CLUSTERS, FREEDOM, STEP = 1152, 400, 96, 20_000
QUERIES, K = 100, 10


class Rows:
    """Draws vectors (n, 1152) float16 of length 1."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self._centres = rng.standard_normal((CLUSTERS, FREEDOM)).astype(np.float32)
        self._spread = rng.standard_normal((FREEDOM, DIMENSION)).astype(np.float32)
        self._spread /= np.sqrt(np.float32(FREEDOM))

    def draw(self, seed: int, count: int) -> np.ndarray:
        """The same rows for the same seed."""
        rng = np.random.default_rng(seed)
        free = 0.8 * rng.standard_normal((count, FREEDOM)).astype(np.float32)
        free += self._centres[rng.integers(0, CLUSTERS, count)]
        rows = free @ self._spread
        rows += 0.1 * rng.standard_normal((count, DIMENSION)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float16)

    def steps(self, count: int) -> Iterator[Additions]:
        """That many rows by ascending ids."""
        for start in range(0, count, STEP):
            ids = np.arange(start + 1, min(start + STEP, count) + 1)
            yield ids, self.draw(start, len(ids)), ids, np.zeros_like(ids)


def timed(index: VectorIndex, queries: np.ndarray, allowed: IdSet | None) -> dict[str, float]:
    """Searches one by one: milliseconds, and recall@10 against exact searches."""
    seconds, scores = [], []
    for query in queries[:, None]:
        started = time.perf_counter()
        scores.append(index.search(query, K, allowed).scores)
        seconds.append(time.perf_counter() - started)
    # Afterwards, because exact searches read everything, and so empty caches.
    best = [index.search(query, K, allowed, exact=True).scores for query in queries[:, None]]
    shares = [np.mean(a >= b[:, -1:] - 1e-6) for a, b in zip(scores, best, strict=True)]
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    return {
        "p50_ms": round(1e3 * p50, 1),
        "p95_ms": round(1e3 * p95, 1),
        "recall_at_10": round(float(np.mean(shares)), 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, required=True, help="where FAISS keeps its index")
    parser.add_argument("--only-search", action="store_true", help="the index is there already")
    given = parser.parse_args()
    settings = Settings.resolve(given.folder)
    database = Database(settings.database_url or given.folder / "none.sqlite3")
    engine = make_engine(settings.vectors, settings.vectors_token_file, given.folder, database)
    identity = IndexIdentity("benchmark", "b" * 64, "made", Kind.REGION, DIMENSION)
    rows = Rows()
    queries = rows.draw(10**9, QUERIES).astype(np.float32)
    measured: dict[str, Any] = {"engine": settings.vectors, "rows": given.rows}
    if not given.only_search:
        started = time.perf_counter()
        index = engine.create(identity)
        index.fill(rows.steps(given.rows), through=given.rows)
        measured["fill_s"] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()
        index.snapshot(lambda: [queries])
        measured["build_s"] = round(time.perf_counter() - started, 1)
    index = engine.open(identity)
    rng = np.random.default_rng(5)
    index.search(queries[:5], K)
    for share in (1.0, 0.01):
        chosen = rng.choice(np.arange(1, given.rows + 1), int(share * given.rows), replace=False)
        allowed = None if share == 1 else IdSet(chosen)
        measured[f"{share:.0%}"] = timed(index, queries, allowed)
    measured["stats"] = dict(index.stats())
    measured["private_mb"] = round(psutil.Process(os.getpid()).memory_full_info().uss / 1e6)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
