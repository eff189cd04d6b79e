"""Compares two ways of a filter to a search of pgvector: evaluated before, or joined.

`REGARD_DATABASE_URL=postgresql+psycopg://… python benchmarks/pgvector_filters.py` makes a catalog
of 50,000 photographs with tags in an empty database, and a table of 200,000 vectors of their
regions with its HNSW index (about five minutes); it prints JSON. For filters by a tag that passes
50, 10, 1 and 0.1 % and by date it measures one search of one channel, in milliseconds:

- `listed`: the contents that pass are kept, and sent as a list or bitmap, as regard does;
- `first`: the same with a filter that is not kept yet, so that it is evaluated first;
- `joined`: regard's statement with the catalog's own conditions in it, which are evaluated in every
  search and for every channel: `joined_hnsw` by iterative scans of HNSW with as many candidates as
  regard's, `joined_planned` as PostgreSQL's planner chooses.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, exists, text
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.expression import column, table
from vector_engines import ClusteredRows

from regard.core.filters import AssetFilter
from regard.core.records import Kind
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog, open_catalog
from regard.storage.retrieval.passing_contents import PassingContents
from regard.storage.vectors.engine import IndexIdentity
from regard.storage.vectors.pgvector.engine import PgvectorEngine
from regard.storage.vectors.pgvector.index import PgvectorIndex
from regard.storage.vectors.pgvector.scan import MOST_CANDIDATES
from regard.storage.vectors.pgvector.tables import Binary, fetch_rows, read_known_state, table_name

PHOTOGRAPHS, REGIONS, STEP = 50_000, 4, 20_000
# As a search of the service reads of a channel.
K, SLACK = 200, 32
QUERIES = 20
SHARES = {"50 %": 0.5, "10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
FIRST = datetime(2020, 1, 1)

FILL = (
    "INSERT INTO collection (id, name) VALUES (1, 'made')",
    "INSERT INTO content (id, sha256, format, width, height) "
    "SELECT n, lpad(n::text, 64, '0'), 'JPEG', 640, 480 FROM generate_series(1, :count) AS n",
    "INSERT INTO asset (id, collection_id, path, uri, content_id, size, mtime_ns, capture, "
    "taken_at, taken_precision) SELECT n, 1, convert_to('/p/' || n || '.jpg', 'UTF8'), "
    "'/p/' || n || '.jpg', n, 1, 1, '{}', CAST(:first AS timestamp) + n * interval '1 hour', "
    "'time' FROM generate_series(1, :count) AS n",
)
BY_HNSW = """
SELECT set_config('jit', 'off', true), set_config('hnsw.ef_search', %s, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.max_scan_tuples', %s, true),
    set_config('hnsw.scan_mem_multiplier', '8', true),
    set_config('enable_seqscan', %s, true), set_config('enable_hashjoin', %s, true),
    set_config('enable_mergejoin', %s, true), set_config('enable_sort', %s, true)
"""


def fill_catalog(connection: Connection) -> None:
    """Photographs with a date and tags."""
    for statement in FILL:
        connection.execute(text(statement), {"count": PHOTOGRAPHS, "first": FIRST})
    rng = np.random.default_rng(1)
    for name, share in SHARES.items():
        chosen = rng.choice(np.arange(1, PHOTOGRAPHS + 1), int(share * PHOTOGRAPHS), replace=False)
        rows = [{"asset_id": int(number), "tag": name} for number in chosen]
        connection.execute(schema.asset_tag.insert(), rows)


def fill_index(catalog: Catalog, rows: ClusteredRows) -> PgvectorIndex:
    """The vectors of four regions of each photograph, with the HNSW index."""
    identity = IndexIdentity(catalog.uuid, "b" * 64, "made", Kind.REGION, rows.dimension)
    with tempfile.TemporaryDirectory() as folder:
        engine = PgvectorEngine(Path(folder), catalog.database)
        count = PHOTOGRAPHS * REGIONS
        index = engine.create(identity)
        starts = range(0, count, STEP)
        ids = [np.arange(start + 1, min(start + STEP, count) + 1) for start in starts]
        additions = (
            (part, rows.draw(part[0] - 1, len(part)), (part - 1) // REGIONS + 1, part)
            for part in ids
        )
        index.fill(additions, through=count)
        index.snapshot(rows.samples)
    return index


def filters() -> dict[str, AssetFilter]:
    """By name."""
    half = FIRST + timedelta(hours=PHOTOGRAPHS / 2)
    tags = {f"tag of {name}": AssetFilter(tags=(name,)) for name in SHARES}
    return {**tags, "first half by date": AssetFilter(taken_to=half)}


def joined(name: str, asset_filter: AssetFilter) -> tuple[str, Mapping[str, Any]]:
    """pgvector's statement with the filter's own conditions, and their values."""
    rows = table(name, *map(column, ("id", "content", "region", "vector")))
    asset = schema.asset.c
    passing = exists().where(
        asset.content_id == rows.c.content, asset.failure.is_(None), passes(asset_filter)
    )
    compiled = rows.select().where(passing).compile(dialect=psycopg.dialect())
    return str(compiled) + " ORDER BY vector <#> %(query)s::halfvec LIMIT %(limit)s", {
        **compiled.params,
        "limit": 2 * (K + SLACK),
    }


def timed(
    search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, best: np.ndarray
) -> dict[str, Any]:
    """Milliseconds of a search, and recall@100 of the ids (n, k) that are the best."""
    search(queries[0])
    seconds, shares = [], []
    for query, ids in zip(queries, best, strict=True):
        started = time.perf_counter()
        found = search(query)
        seconds.append(time.perf_counter() - started)
        wanted = ids[ids >= 0][:100]
        shares.append(np.isin(wanted, found).mean())
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    return {
        "p50_ms": round(1e3 * p50, 1),
        "p95_ms": round(1e3 * p95, 1),
        "recall_at_100": round(float(np.mean(shares)), 4),
    }


def measure(
    catalog: Catalog, index: PgvectorIndex, asset_filter: AssetFilter, queries: np.ndarray
) -> dict[str, Any]:
    """The three ways, on the same queries."""
    dimension, name = index.identity.dimension, table_name(index.identity)
    statement, values = joined(name, asset_filter)
    with catalog.database.reading() as connection:
        known = PassingContents().read(connection, asset_filter, 0)
        state = read_known_state(connection, index.identity)
    assert known is not None
    assert state is not None
    listed_share = known.listed_count / PHOTOGRAPHS
    share = 1 - listed_share if known.is_complement else listed_share
    candidates = max(state.breadth, 2 * (K + SLACK) / share)

    def listed(query: np.ndarray) -> np.ndarray:
        return index.search(query[None], K, known).ids[0]

    def first(query: np.ndarray) -> np.ndarray:
        with catalog.database.reading() as connection:
            allowed = PassingContents().read(connection, asset_filter, 0)
        return index.search(query[None], K, allowed).ids[0]

    def in_sql(query: np.ndarray, other_plans: str) -> np.ndarray:
        settings = (
            str(min(int(candidates), MOST_CANDIDATES)),
            str(PHOTOGRAPHS * REGIONS),
            *[other_plans] * 4,
        )
        with catalog.database.reading() as connection:
            connection.connection.cursor().execute(BY_HNSW, settings, prepare=False)
            return fetch_rows(
                connection, dimension, statement, {**values, "query": Binary.halfvec(query)}
            ).ids

    best = index.search(queries, K, known, exact=True).ids
    return {
        "share": round(share, 4),
        "listed": timed(listed, queries, best),
        "first": timed(first, queries, best),
        "joined_hnsw": timed(lambda query: in_sql(query, "off"), queries, best),
        "joined_planned": timed(lambda query: in_sql(query, "on"), queries, best),
    }


def main() -> None:
    """Measure and print."""
    catalog = open_catalog(os.environ["REGARD_DATABASE_URL"])
    rows = ClusteredRows()
    with catalog.database.writing() as connection:
        fill_catalog(connection)
    index = fill_index(catalog, rows)
    with catalog.database.connected() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE"))
    measured = {
        name: measure(catalog, index, asset_filter, rows.queries[:QUERIES])
        for name, asset_filter in filters().items()
    }
    print(json.dumps({"stats": dict(index.stats()), **measured}, indent=1))
    catalog.close()


if __name__ == "__main__":
    main()
