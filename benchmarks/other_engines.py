"""Other ways to search the same vectors, for `library_size.py`: times, recall and bytes.

Each engine takes rows (n, d) float16 and answers one query at a time: rclip's way (512 dimensions
from SQLite, numpy), a FAISS scan of float16 and FAISS's HNSW, usearch's HNSW, LanceDB's IVF-PQ, and
pgvector's HNSW, which needs a database. Engines whose package is missing are skipped.
"""

from __future__ import annotations

import importlib
import io
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from size_measuring import bytes_below, spread

Rows = npt.NDArray[np.float16]
Queries = npt.NDArray[np.float32]
# Answers a query (d,) with the places of the k best rows, best first.
Search = Callable[[npt.NDArray[np.float32], int], Any]

_BLOCK = 10_000
_RCLIP = 512
_LINKS, _BUILD, _LOOK = 32, 128, 128  # of HNSW graphs
_NPROBES, _REFINE = 40, 10  # of LanceDB


def compare_engines(rows: Rows, queries: Queries, postgres: str | None) -> dict[str, Any]:
    """Seconds to build, percentiles of a search for 10, recall@10, and bytes, by engine."""
    scan = faiss_scan(rows, Path())
    exact = [set(map(int, scan(query, 10))) for query in queries]
    engines: dict[str, Callable[[Rows, Path], Search]] = {
        "faiss_float16_scan": faiss_scan,
        "rclip": rclip,
        "faiss_hnsw": faiss_hnsw,
        "usearch": usearch,
        "lancedb": lancedb,
        "pgvector": lambda rows, _: pgvector(rows, postgres),
    }
    found: dict[str, Any] = {}
    for name, build in engines.items():
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            try:
                search = build(rows, Path(folder))
            except ImportError as error:
                found[name] = {"skipped": str(error)}
                continue
            built = time.perf_counter() - started
            times, hits = [], 0
            search(queries[0], 10)
            for query, right in zip(queries, exact, strict=True):
                started = time.perf_counter()
                places = search(query, 10)
                times.append(time.perf_counter() - started)
                hits += len(right & set(map(int, places)))
            found[name] = {"build_seconds": round(built, 1), **spread(times)}
            if name != "rclip":  # which has other vectors
                found[name]["recall_10"] = round(hits / (10 * len(queries)), 4)
            found[name]["bytes_on_disk"] = bytes_below(Path(folder)) or None
    return found


def faiss_scan(rows: Rows, _: Path) -> Search:
    """An exact scan in memory, padded so that FAISS's fast kernels serve."""
    import faiss

    padded = -(-rows.shape[1] // 8) * 8
    index = faiss.IndexScalarQuantizer(
        padded, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    for start in range(0, len(rows), _BLOCK):
        index.add(_padded(rows[start : start + _BLOCK].astype(np.float32), padded))
    return lambda query, k: index.search(_padded(query[None], padded), k)[1][0]


def faiss_hnsw(rows: Rows, folder: Path) -> Search:
    """A graph over float16 rows."""
    import faiss

    padded = -(-rows.shape[1] // 8) * 8
    index = faiss.IndexHNSWSQ(
        padded, faiss.ScalarQuantizer.QT_fp16, _LINKS, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD, _LOOK
    for start in range(0, len(rows), _BLOCK):
        index.add(_padded(rows[start : start + _BLOCK].astype(np.float32), padded))
    faiss.write_index(index, str(folder / "index"))
    return lambda query, k: index.search(_padded(query[None], padded), k)[1][0]


def rclip(rows: Rows, folder: Path) -> Search:
    """Every search reads all vectors from SQLite, as rclip does; 512 dimensions, float32."""
    database = sqlite3.connect(folder / "images.db")
    database.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, vector BLOB)")
    short = rows[:, :_RCLIP].astype(np.float32)
    database.executemany(
        "INSERT INTO images (vector) VALUES (?)", ((row.tobytes(),) for row in short)
    )
    database.commit()

    def search(query: npt.NDArray[np.float32], k: int) -> Any:
        read = database.execute("SELECT id, vector FROM images").fetchall()
        vectors = np.stack([np.frombuffer(blob, np.float32) for _, blob in read])
        return np.argsort(-(vectors @ query[:_RCLIP]))[:k]

    return search


def usearch(rows: Rows, folder: Path) -> Search:
    """A graph over float16 rows."""
    module = importlib.import_module("usearch.index")
    index = module.Index(
        ndim=rows.shape[1],
        metric="ip",
        dtype="f16",
        connectivity=_LINKS,
        expansion_add=_BUILD,
        expansion_search=_LOOK,
    )
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        index.add(np.arange(start, start + len(some)), some)
    index.save(str(folder / "index"))
    return lambda query, k: index.search(query.astype(np.float16), k).keys


def lancedb(rows: Rows, folder: Path) -> Search:
    """Product-quantized lists on disk, with the nearest rescored."""
    module = importlib.import_module("lancedb")
    database = module.connect(str(folder))
    table = database.create_table(
        "rows", [{"id": place, "vector": row} for place, row in enumerate(rows.astype(np.float32))]
    )
    table.create_index(metric="dot", vector_column_name="vector")

    def search(query: npt.NDArray[np.float32], k: int) -> Any:
        asked = table.search(query).distance_type("dot").nprobes(_NPROBES).refine_factor(_REFINE)
        return [row["id"] for row in asked.select(["id"]).limit(k).to_list()]

    return search


def pgvector(rows: Rows, url: str | None) -> Search:
    """A graph over `halfvec` rows, in a database that may create the extension."""
    if url is None:
        raise ImportError("no --postgres was given")
    psycopg = importlib.import_module("psycopg")
    database = psycopg.connect(url, autocommit=True)
    size = rows.shape[1]
    database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    database.execute("DROP TABLE IF EXISTS benchmark_rows")
    database.execute(f"CREATE TABLE benchmark_rows (id int, vector halfvec({size}))")
    with (
        database.cursor() as cursor,
        cursor.copy("COPY benchmark_rows FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int4", "bytea"])
        head = np.array([size, 0], ">u2").tobytes()
        for place, row in enumerate(rows):
            copy.write_row((place, head + row.astype(">f2").tobytes()))
    database.execute("SET maintenance_work_mem = '2GB'")
    database.execute(
        "CREATE INDEX ON benchmark_rows USING hnsw (vector halfvec_ip_ops) "
        f"WITH (m = {_LINKS // 2}, ef_construction = {_BUILD})"
    )
    database.execute(f"SET hnsw.ef_search = {_LOOK}")
    statement = "SELECT id FROM benchmark_rows ORDER BY vector <#> %s::halfvec LIMIT %s"

    def search(query: npt.NDArray[np.float32], k: int) -> Any:
        text = io.StringIO()
        np.savetxt(text, query[None], fmt="%.6g", delimiter=",")
        return [row[0] for row in database.execute(statement, (f"[{text.getvalue().strip()}]", k))]

    return search


def _padded(rows: npt.NDArray[np.float32], dimension: int) -> npt.NDArray[np.float32]:
    return np.pad(rows, ((0, 0), (0, dimension - rows.shape[1])))
