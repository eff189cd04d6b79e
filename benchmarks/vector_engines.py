"""Measures one vector engine on made vectors: filling, searches, recall and memory.

`python benchmarks/vector_engines.py --rows 200000 --folder DIR [--only-search]` measures the engine
that REGARD_VECTORS and REGARD_DATABASE_URL choose, and prints JSON. Every engine gets the same rows:
400 clusters with 96 degrees of freedom in 1,152 dimensions, and noise; queries are more of them.
With `--real DIR` (see `real_vectors.py`), rows are drawn from those of real regions, and queries
are texts that people wrote, which are much harder to answer.
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
from synthetic_vectors import Mixtures, RealVectors

from regard.api.library.settings import Settings
from regard.core.idset import IdSet
from regard.core.records import Kind
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import Additions, IndexIdentity, VectorIndex
from regard.storage.vectors.engines import make_engine

DIMENSION, CLUSTERS, FREEDOM, STEP = 1152, 400, 96, 20_000
QUERIES, SAMPLE, K = 100, 256, 10


class ClusteredRows:
    """Draws vectors (n, 1152) float16 of length 1."""

    dimension = DIMENSION

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self._centres = rng.standard_normal((CLUSTERS, FREEDOM)).astype(np.float32)
        self._spread = rng.standard_normal((FREEDOM, DIMENSION)).astype(np.float32)
        self._spread /= np.sqrt(np.float32(FREEDOM))
        self.queries = self.draw(10**9, QUERIES).astype(np.float32)

    def draw(self, start: int, count: int) -> np.ndarray:
        """The same rows for the same start."""
        rng = np.random.default_rng(start)
        free = 0.8 * rng.standard_normal((count, FREEDOM)).astype(np.float32)
        free += self._centres[rng.integers(0, CLUSTERS, count)]
        rows = free @ self._spread
        rows += 0.1 * rng.standard_normal((count, DIMENSION)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float16)

    def samples(self) -> list[np.ndarray]:
        """Stored vectors of each kind that the engine may measure itself with."""
        return [self.draw(0, SAMPLE).astype(np.float32)]


class RegionRows:
    """Rows (n, d) float16 like those of real regions in the space of texts, and texts."""

    def __init__(self, folder: Path, count: int) -> None:
        real = RealVectors.load(folder)
        channel, name = next(
            (channel, name)
            for channel, name in real.channel_queries()
            if name.startswith("texts-") and channel.kind == Kind.REGION
        )
        # At least ten regions a picture.
        self._rows = Mixtures(real).sample(channel, count // 10)[:count].astype(np.float16)
        self.dimension = self._rows.shape[1]
        self.queries = real.queries[name]
        self._captions = next(
            rows
            for other, rows in real.rows.items()
            if (other.space, other.kind) == (channel.space, Kind.CAPTION)
        )

    def draw(self, start: int, count: int) -> np.ndarray:
        """The rows from a place on."""
        return self._rows[start : start + count]

    def samples(self) -> list[np.ndarray]:
        """Stored vectors of each kind that the engine may measure itself with, none of a text."""
        rng = np.random.default_rng(0)
        return [
            rng.permutation(rows)[:SAMPLE].astype(np.float32)
            for rows in (self._rows, self._captions)
        ]


def steps(rows: ClusteredRows | RegionRows, count: int) -> Iterator[Additions]:
    """That many rows by ascending ids."""
    for start in range(0, count, STEP):
        ids = np.arange(start + 1, min(start + STEP, count) + 1)
        yield ids, rows.draw(start, len(ids)), ids, np.zeros_like(ids)


def timed(index: VectorIndex, queries: np.ndarray, allowed: IdSet | None) -> dict[str, float]:
    """Searches one by one: milliseconds, and recall@10 against exact searches."""
    seconds: list[float] = []
    scores: list[np.ndarray] = []
    for query in queries[:, None]:
        started = time.perf_counter()
        scores.append(index.search(query, K, allowed).scores)
        seconds.append(time.perf_counter() - started)
    # Afterwards, because exact searches read everything, and so empty caches.
    best = index.search(queries, K, allowed, exact=True).scores
    shares = np.concatenate(scores) >= best[:, -1:] - 2e-6
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    return {
        "p50_ms": round(1e3 * p50, 1),
        "p95_ms": round(1e3 * p95, 1),
        "recall_at_10": round(float(shares.mean()), 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, required=True, help="where FAISS keeps its index")
    parser.add_argument("--real", type=Path, metavar="DIR", help="draw rows from real regions")
    parser.add_argument("--only-search", action="store_true", help="the index is there already")
    given = parser.parse_args()
    settings = Settings.resolve(given.folder)
    database = Database(settings.database_url or given.folder / "none.sqlite3")
    engine = make_engine(settings.vectors, settings.vectors_token_file, given.folder, database)
    rows = RegionRows(given.real, given.rows) if given.real else ClusteredRows()
    queries, samples = rows.queries, rows.samples()
    identity = IndexIdentity("benchmark", "b" * 64, "made", Kind.REGION, rows.dimension)
    measured: dict[str, Any] = {"engine": settings.vectors, "rows": given.rows}
    if not given.only_search:
        started = time.perf_counter()
        index = engine.create(identity)
        index.fill(steps(rows, given.rows), through=given.rows)
        measured["fill_s"] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()
        index.snapshot(lambda: samples)
        while index.stats().get("graph_rows", given.rows) < given.rows:
            time.sleep(1)  # Milvus builds its graphs in the background
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
