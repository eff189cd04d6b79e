"""How much of the exact answers indexes find, and how other engines do on the same vectors."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from other_engines import compare_engines
from size_library import SORTS, Bench
from size_measuring import repeated
from synthetic_library import PROBE, SHARES, Maker
from synthetic_vectors import Pictures, RealVectors

from regard.api.library.home import Home, open_home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.catalog import ChannelQuery
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Channel, Float32Array, Kind

_RECALL_QUERIES, _FILTERED_QUERIES, _COMPARED_QUERIES = 300, 30, 100


def recall(bench: Bench) -> dict[str, Any]:
    """Recall@10 and @100 against exact searches, with real queries on the library's rows."""
    with open_home(Settings.resolve(bench.home, {})) as home:
        return _recall_of(home, bench.real)


def recall_real(bench: Bench) -> dict[str, Any]:
    """The same on a library of real rows."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Pictures(bench.real)
        with open_or_make_home(Settings.resolve(Path(folder) / "home", {}), "lite") as home:
            Maker(home, pictures).write(len(pictures), Path(folder) / "photographs")
            home.indexes.rebuild()
            return _recall_of(home, bench.real)


def _recall_of(home: Home, real: RealVectors) -> dict[str, Any]:
    """By queries and channel; and with each filter, of texts that are like the filters' own."""
    home.indexes.catch_up()
    found: dict[str, Any] = {}
    for channel, name in real.channel_queries():
        wanted = real.queries[name]
        chosen = np.random.default_rng(0).permutation(len(wanted))[:_RECALL_QUERIES]
        found[f"{name} → {channel}"] = _recall(home, channel, wanted[chosen])
        if name.startswith("texts-") and channel.kind is not Kind.CAPTION:
            probe = home.profile.encoder(channel.space).encode_texts([PROBE])[0]
            near = wanted[np.argsort(-(wanted @ probe))[:_FILTERED_QUERIES]]
            for sort, share in itertools.product(SORTS, SHARES):
                within = AssetFilter(tags=(f"{sort}-{share}",))
                found[f"{name} → {channel}, {sort}-{share}"] = _recall(home, channel, near, within)
    return found


def _recall(
    home: Home, channel: Channel, wanted: Float32Array, within: AssetFilter = EVERYTHING
) -> dict[str, float]:
    query = ChannelQuery(channel, wanted, 100)
    exact = home.indexes.search([replace(query, exact=True)], within)[0].scores
    scores = home.indexes.search([query], within)[0].scores
    figures: dict[str, float] = {
        "missing": int(np.isfinite(exact).sum() - np.isfinite(scores).sum())
    }
    for k in (10, 100):
        right = np.isfinite(exact[:, :k])
        if right.any():
            # By scores, so that rows of the same score may stand for each other.
            least = np.where(right, exact[:, :k], np.inf).min(axis=1, keepdims=True)
            figures[f"@{k}"] = round(float((scores[:, :k] >= least).sum() / right.sum()), 4)
    return figures


def engines(bench: Bench) -> dict[str, Any]:
    """Other ways to search the rows of the largest channel, beside regard's index alone."""
    with open_home(Settings.resolve(bench.home, {})) as home:
        home.indexes.catch_up()
        name = next(name for name in bench.real.queries if name.startswith("texts-"))
        index = home.indexes._index(Channel(name.removeprefix("texts-"), Kind.REGION))
        queries = bench.real.queries[name]
        wanted, others = queries[:_COMPARED_QUERIES], queries[_COMPARED_QUERIES:]
        # Other texts first, as in a server that has answered some.
        repeated([partial(index.search, query[None], 10) for query in others])
        searches = [partial(index.search, query[None], 10) for query in wanted]
        found = {"rows": index.row_count, "regard": repeated(searches)}
        rows = index.vectors(index.ids()[: bench.engine_rows])
    found |= {"rows_of_others": len(rows), **compare_engines(rows, wanted, bench.postgres)}
    scan = found["faiss_float16_scan"]["p50_ms"] * found["rows"] / len(rows)
    return found | {"regard_over_scan": round(found["regard"]["p50_ms"] / scan, 4)}
