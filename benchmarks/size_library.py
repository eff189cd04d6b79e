"""The made library that `library_size.py` measures, and what its figures share."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx
from search_latency import DISTINCT, queries
from size_measuring import Server, bytes_below, get, run, serving
from sqlalchemy import text
from synthetic_library import Maker
from synthetic_vectors import Mixtures, RealVectors

from regard.api.library.home import open_home, open_or_make_home
from regard.api.library.settings import Settings

SORTS = ("any", "near", "far")


class Skipped(Exception):
    """A figure cannot be measured here; the message says why."""


class Bench:
    """A made library, and what the figures share."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.home = folder / "home"
        self.photographs = folder / "photographs"
        self.repeats: int = options.repeats
        self.engine_rows: int = options.engine_rows
        self.postgres: str | None = options.postgres
        self._real: Path | None = options.real
        self._notes = folder / "made.json"
        self._open = ExitStack()
        single = queries(DISTINCT)
        pairs = [f"{one} and {other}" for one, other in itertools.permutations(single, 2)]
        # For several threads.
        self._texts = iter(single + pairs)

    @cached_property
    def real(self) -> RealVectors:
        """The vectors of real photographs."""
        return RealVectors.load(self._real) if self._real else RealVectors.sample()

    @cached_property
    def mixtures(self) -> Mixtures:
        """What synthetic vectors are drawn from."""
        return Mixtures(self.real)

    def make(self, photographs: int) -> None:
        """Make the library and its indexes, unless they are there."""
        if self.made:
            return
        with open_or_make_home(Settings.resolve(self.home, {}), "lite") as home:
            print(f"making {photographs} photographs", file=sys.stderr)
            written = Maker(home, self.mixtures).write(photographs, self.photographs)
        built = run("rebuild", "--home", self.home)
        catalog = (self.home / "catalog.sqlite3").stat().st_size
        stored = "SELECT sum(vector_count * dimension) AS numbers FROM embedding JOIN channel"
        vectors = 2 * self.query(f"{stored} ON channel.id = embedding.channel_id")[0].numbers
        made = {
            "photographs": photographs,
            "contents_per_second": round(photographs / written.seconds, 1),
            "catalog_bytes": catalog,
            "vector_bytes": vectors,
            "catalog_over_vectors": round(catalog / vectors, 3),
            "index_bytes": bytes_below(self.home / "indexes"),
            "first_build": built,
        }
        self._notes.write_text(json.dumps(made), encoding="utf-8")

    @property
    def made(self) -> dict[str, Any]:
        """What `make` noted; empty before."""
        return json.loads(self._notes.read_text()) if self._notes.exists() else {}

    def query(self, statement: str, **values: object) -> Sequence[Any]:
        """Rows of the catalog."""
        with (
            open_home(Settings.resolve(self.home, {})) as home,
            home.catalog.database.reading() as connection,
        ):
            return connection.execute(text(statement), values).all()

    @cached_property
    def server(self) -> Server:
        """One server for all figures that do not stop it."""
        return self._open.enter_context(serving(self.home, "a warm coat"))

    @cached_property
    def client(self) -> httpx.Client:
        """A connection to the server."""
        return self._open.enter_context(httpx.Client(base_url=self.server.url, timeout=3600))

    def texts(self, count: int) -> list[str]:
        """Texts that nobody has searched for before: answers to the last ones are kept."""
        return list(itertools.islice(self._texts, count))

    def searches(self, count: int = 0, **parameters: Any) -> list[Callable[[], Any]]:
        """Searches for different texts over HTTP."""
        texts = self.texts(count or self.repeats)
        return [partial(get, self.client, "/v1/search", q=one, **parameters) for one in texts]

    def stop(self) -> None:
        """End the server; the next figure that needs one starts another."""
        self._open.close()
        for name in ("server", "client"):
            self.__dict__.pop(name, None)
