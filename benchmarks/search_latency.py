"""Where the time of a warm text search goes: `python benchmarks/search_latency.py HOME`.

In one run, in turn: the text encoder alone, the search of the raw vector indexes alone, without
that of words (as deep as the engine reads them), the whole engine, with its stages as it tells
them itself, the engine without the keyword index, and the same search over HTTP, answered by a
warm server on the same home. They take turns first for every twenty texts and then at every text.
Prints for both the 50th and 95th percentile in milliseconds, what engine and HTTP add to encoder
and indexes, and what words add, text by text.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

# As the server does, before numerical libraries are loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from service_load import served  # noqa: E402

from regard.api.library.home import Home, open_home  # noqa: E402
from regard.api.library.settings import Settings  # noqa: E402
from regard.core.catalog import ChannelQuery  # noqa: E402
from regard.core.records import Float32Array, Kind, QueryKind, Target  # noqa: E402
from regard.search.answers import Scope, TextQuery  # noqa: E402
from regard.search.fusion import embeddings_at, level_for  # noqa: E402

# Each process's 90 MB of weights drive the other's from the caches: with blocks a process answers
# so many texts in a row, as a server does, and with turns at every text it finds its caches
# emptied each time.
_BLOCKS = (20, 1)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n(?:.+\r\n)*\r\n", re.IGNORECASE)
_RECEIVED_BYTES = 1 << 20
_ADJECTIVES = ("a red", "a small", "an old", "a wet", "a bright", "two", "a wooden", "some")
_THINGS = ("bus", "cats", "flower", "house by the sea", "bridge at night", "street", "dogs", "boat")
_PLACES = ("", " in the snow", " under trees", " on a table")


def queries(count: int) -> list[str]:
    """Texts that differ, of the length that people type."""
    texts = map("".join, itertools.product((f"{a} " for a in _ADJECTIVES), _THINGS, _PLACES))
    return list(itertools.islice(itertools.cycle(texts), count))


DISTINCT = len(_ADJECTIVES) * len(_THINGS) * len(_PLACES)


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
    """Searches over HTTP, one connection kept open.

    Reads answers off the socket: `http.client` takes 0.3 ms over their headers, which are not the
    server's.
    """

    def __init__(self, url: str, target: Target, limit: int) -> None:
        address = urlsplit(url)
        self._connection = socket.create_connection((address.hostname, address.port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = address.netloc
        self._rest = {"target": target.value, "limit": limit}

    def __call__(self, text: str) -> None:
        """One search; the answer is read whole."""
        path = f"/v1/search?{urlencode({'q': text, **self._rest})}"
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n"
        self._connection.sendall(request.encode("ascii"))
        head, length = b"", 0
        while not length:
            head += self._received()
            if found := _LENGTH.search(head):
                length = found.end() + int(found[1])
        count = len(head)
        while count < length:
            count += len(self._received())
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(head.decode())

    def _received(self) -> bytes:
        received = self._connection.recv(_RECEIVED_BYTES)
        if not received:
            raise SystemExit("the server has closed the connection")
        return received


class Parts:
    """What is timed, over one home: the parts of a search, and the whole."""

    def __init__(self, library: Home, ask: Asker, target: Target, limit: int) -> None:
        self.ask = ask
        self.stages = Rows()
        self._library = library
        self._target, self._level = target, level_for(limit)
        self._scope = Scope(target, limit)
        self._engine = library.engine(
            observe=lambda stage, took: self.stages.add(f"  engine: {stage}", took)
        )
        self._routed = [
            weighted
            for weighted in library.profile.routes[QueryKind.TEXT, target]
            if weighted.channel.kind is not Kind.KEYWORD
        ]
        self._wordless = library.engine({(QueryKind.TEXT, target): tuple(self._routed)})
        spaces = dict.fromkeys(weighted.channel.space for weighted in self._routed)
        self._encoders = {space: library.profile.encoder(space) for space in spaces}
        library.indexes.catch_up()

    def encode(self, text: str) -> dict[str, Float32Array]:
        """The text's vector in each space that it meets."""
        return {space: encoder.encode_texts([text]) for space, encoder in self._encoders.items()}

    def channel_queries(self, vectors: dict[str, Float32Array]) -> list[ChannelQuery]:
        """The queries that the engine sends to the vector channels."""
        return [
            ChannelQuery(
                weighted.channel,
                vectors[weighted.channel.space],
                embeddings_at(weighted, self._target, self._level),
            )
            for weighted in self._routed
        ]

    def search_raw(self, queries: Sequence[ChannelQuery]) -> None:
        """Search the vector indexes without reading the catalog."""
        for query in queries:
            index = self._library.indexes._index(query.channel)  # nobody else has a use for it
            index.search(query.vectors, min(query.k, index.row_count + 1))

    def search(self, text: str) -> None:
        """The whole engine."""
        self._engine.search(TextQuery(text), self._scope)

    def search_without_words(self, text: str) -> None:
        """The engine without the keyword index."""
        self._wordless.search(TextQuery(text), self._scope)


def measure(parts: Parts, texts: Sequence[str], block: int) -> Rows:
    """Warm everything up, then time the parts and the whole side by side, in turn for so many
    texts.

    Warm is a server that has answered for a while: it keeps the records of what it has shown. It
    also keeps vectors and hits of texts, so a text is never asked for twice: each gets a number.
    """
    rows = Rows()
    number = itertools.count(1)
    for text in texts:
        for call in (parts.search, parts.search_without_words, parts.ask):
            call(f"{text} {next(number)}")
    parts.stages = rows
    for start in range(0, len(texts), block):
        in_turn = texts[start : start + block]
        for text in in_turn:
            unseen = f"{text} {next(number)}"
            vectors = rows.timed("encoder alone", partial(parts.encode, unseen))
            rows.timed(
                "raw index search alone", partial(parts.search_raw, parts.channel_queries(vectors))
            )
        for name, call in (
            ("engine", parts.search),
            ("engine without words", parts.search_without_words),
            ("HTTP", parts.ask),
        ):
            for text in in_turn:
                rows.timed(name, partial(call, f"{text} {next(number)}"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--target", type=Target, choices=list(Target), default=Target.IMAGE)
    arguments = parser.parse_args()
    with (
        served(arguments.home, None) as url,
        open_home(Settings.resolve(arguments.home, {})) as library,
    ):
        ask = Asker(url, arguments.target, arguments.limit)
        parts = Parts(library, ask, arguments.target, arguments.limit)
        for block in _BLOCKS:
            print(f"in turn for every {block} texts" if block > 1 else "in turn at every text")
            report(measure(parts, queries(arguments.queries), block))


def report(rows: Rows) -> None:
    """Print the rows, and what they come to."""
    rows.print()
    least = sum(rows.percentile(name, 50) for name in ("encoder alone", "raw index search alone"))
    for name in ("engine", "HTTP"):
        added = rows.percentile(name, 50) - least
        print(f"at the median, {name} adds {added:.2f} ms to encoder and indexes")
    paired = np.subtract(rows.seconds["engine"], rows.seconds["engine without words"])
    print(f"at the median, words add {1000 * float(np.median(paired)):.2f} ms to the engine")


if __name__ == "__main__":
    main()
