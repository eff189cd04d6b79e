"""Real servers for the API's tests: one for each database, shared by most tests.

Each test uses its own collections.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_service import Served, Shelf
from milvus_server import MilvusServer
from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> Callable[[], str]:
    """Returns a function that creates an empty PostgreSQL database and returns its URL."""
    return postgres_server.create_database


# Two fixtures, because pytest would recreate a parametrised session fixture for each module.
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


@pytest.fixture(scope="session")
def served_on_pgvector(
    postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with Served(folder, postgres_url(), vectors="pgvector") as served:
        yield served


@pytest.fixture(scope="session")
def served_on_milvus(
    postgres_url: Callable[[], str],
    lasting_milvus_server: MilvusServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with Served(folder, postgres_url(), vectors=lasting_milvus_server.url) as served:
        yield served


_SLOW, _CAMPAIGN = pytest.mark.slow, pytest.mark.campaign
# Of modules that run on PostgreSQL too, the kind of those tests. The other modules test what does
# not depend on the database; the tests of storage run SQL on both.
_ON_POSTGRESQL = {
    "test_http_assets": _CAMPAIGN,
    "test_http_changes": _SLOW,
    "test_http_search": _SLOW,
    "test_http_uploads": _CAMPAIGN,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        marks = _ON_POSTGRESQL.get(metafunc.module.__name__.rpartition(".")[2])
        on_postgresql = [] if marks is None else [pytest.param("postgresql", marks=marks)]
        if marks is not None:
            is_search = metafunc.module.__name__.endswith("test_http_search")
            on_postgresql += [
                pytest.param("pgvector", marks=_SLOW if is_search else _CAMPAIGN),
                pytest.param("milvus", marks=_CAMPAIGN),
            ]
        metafunc.parametrize("backend", ["sqlite", *on_postgresql], scope="module")


@pytest.fixture(scope="module")
def served(backend: str, request: pytest.FixtureRequest) -> Served:
    """The shared server on this test's database."""
    server: Served = request.getfixturevalue(f"served_on_{backend}")
    return server


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers for one test, on SQLite."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments, **options: opened.enter_context(
            Served(tmp_path, None, *arguments, **options)
        )


@pytest.fixture
def shelf(served: Served) -> Shelf:
    """A new collection of the shared server."""
    return served.shelf()
