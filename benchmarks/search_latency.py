"""Where the time of a warm text search goes: `python benchmarks/search_latency.py HOME`.

In one run, in turn for every twenty queries: the text encoder alone, the search of the raw vector indexes
alone, without that of words (as deep as the engine reads them), the whole engine, with its stages as it
tells them itself, the engine without the keyword index, and the same search over HTTP, answered by a warm
server on the same home. Prints the 50th and 95th percentile in milliseconds, what engine and HTTP add to
encoder and indexes, and what words add, text by text.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

# As the server does, before numerical libraries are loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from service_load import served  # noqa: E402

from regard.api.wiring import Library, open_library  # noqa: E402
from regard.core.catalog import ChannelQuery  # noqa: E402
from regard.core.filters import EVERYTHING  # noqa: E402
from regard.core.records import Float32Array, Kind, QueryKind, Target  # noqa: E402
from regard.core.settings import Settings  # noqa: E402
from regard.search.answers import Scope, TextQuery  # noqa: E402
from regard.search.ranking import embeddings_at, level_for  # noqa: E402
from regard.storage.hit_records import SqlHitRecords  # noqa: E402

# Each process's 90 MB of weights drive the other's from the caches: a process answers so many in a row.
_BLOCK = 20
_ADJECTIVES = ("a red", "a small", "an old", "a wet", "a bright", "two", "a wooden", "some")
_THINGS = ("bus", "cats", "flower", "house by the sea", "bridge at night", "street", "dogs", "boat")
_PLACES = ("", " in the snow", " under trees", " on a table")


def queries(count: int) -> list[str]:
    """Texts that differ, of the length that people type."""
    texts = map("".join, itertools.product((f"{a} " for a in _ADJECTIVES), _THINGS, _PLACES))
    return list(itertools.islice(itertools.cycle(texts), count))


class Rows:
    """Seconds by name, in the order in which the names came."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        """One figure."""
        self.seconds.setdefault(name, []).append(seconds)

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        """What the call returns; how long it took is one figure."""
        started = time.perf_counter()
        result = call()
        self.add(name, time.perf_counter() - started)
        return result

    def percentile(self, name: str, percent: int) -> float:
        """In milliseconds."""
        return 1000 * float(np.percentile(self.seconds[name], percent))

    def print(self) -> None:
        """One line a name."""
        width = max(map(len, self.seconds))
        print(f"{'milliseconds':{width}}  {'p50':>7}  {'p95':>7}")
        for name in self.seconds:
            p50, p95 = self.percentile(name, 50), self.percentile(name, 95)
            print(f"{name:{width}}  {p50:7.2f}  {p95:7.2f}")


class Asker:
    """Searches over HTTP, one connection kept open."""

    def __init__(self, url: str, target: Target, limit: int) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port)
        self._rest = {"target": target.value, "limit": limit}

    def __call__(self, text: str) -> None:
        """One search; the answer is read whole."""
        self._connection.request("GET", f"/v1/search?{urlencode({'q': text, **self._rest})}")
        response = self._connection.getresponse()
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            raise SystemExit(body.decode())


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _BLOCK):
        yield texts[start : start + _BLOCK]


def measure(
    library: Library, texts: Sequence[str], target: Target, limit: int, ask: Callable[[str], None]
) -> Rows:
    """Warm everything up, then time the parts and the whole side by side."""
    rows = Rows()
    hits = SqlHitRecords(library.catalog, library.pipeline)
    hits.preload()
    engine = library.engine(
        observe=lambda stage, took: rows.add(f"  engine: {stage}", took), catalog=hits
    )
    routed = [
        weighted
        for weighted in library.profile.routes[QueryKind.TEXT, target]
        if weighted.channel.kind is not Kind.KEYWORD
    ]
    wordless = library.engine({(QueryKind.TEXT, target): tuple(routed)}, catalog=hits)
    spaces = dict.fromkeys(weighted.channel.space for weighted in routed)
    encoders = {space: library.profile.encoder(space) for space in spaces}
    scope = Scope(target, limit)
    library.indexes.catch_up()
    level = level_for(limit)

    def encode(text: str) -> dict[str, Float32Array]:
        return {space: encoder.encode_texts([text]) for space, encoder in encoders.items()}

    def asked(vectors: dict[str, Float32Array]) -> list[ChannelQuery]:
        return [
            ChannelQuery(
                weighted.channel,
                vectors[weighted.channel.space],
                embeddings_at(weighted, target, level),
            )
            for weighted in routed
        ]

    for text in texts[:20]:
        library.indexes.search(asked(encode(text)), EVERYTHING)
        engine.search(TextQuery(text), scope)
        wordless.search(TextQuery(text), scope)
        ask(text)
    rows.seconds.clear()
    for block in _blocks(texts):
        for text in block:
            vectors = rows.timed("encoder alone", lambda text=text: encode(text))
            raw = asked(vectors)
            rows.timed("raw index search alone", lambda raw=raw: search_raw(library, raw))
        for text in block:
            rows.timed("engine", lambda text=text: engine.search(TextQuery(text), scope))
        for text in block:
            rows.timed(
                "engine without words", lambda text=text: wordless.search(TextQuery(text), scope)
            )
        for text in block:
            rows.timed("HTTP", lambda text=text: ask(text))
    return rows


def search_raw(library: Library, asked: Sequence[ChannelQuery]) -> None:
    """The vector indexes as they are, without a look at the catalog."""
    for query in asked:
        index = library.indexes._index(query.channel)  # nobody else has a use for it
        index.search(query.vectors, min(query.k, index.stats()["rows"] + 1))


def main() -> None:
    """Time, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--target", type=Target, choices=list(Target), default=Target.IMAGE)
    arguments = parser.parse_args()
    with (
        served(arguments.home, None) as url,
        open_library(Settings.resolve(arguments.home, {})) as library,
    ):
        ask = Asker(url, arguments.target, arguments.limit)
        texts = queries(arguments.queries)
        rows = measure(library, texts, arguments.target, arguments.limit, ask)
    rows.print()
    parts = sum(rows.percentile(name, 50) for name in ("encoder alone", "raw index search alone"))
    for name in ("engine", "HTTP"):
        added = rows.percentile(name, 50) - parts
        print(f"at the median, {name} adds {added:.2f} ms to encoder and indexes")
    paired = np.subtract(rows.seconds["engine"], rows.seconds["engine without words"])
    print(f"at the median, words add {1000 * float(np.median(paired)):.2f} ms to the engine")


if __name__ == "__main__":
    main()
