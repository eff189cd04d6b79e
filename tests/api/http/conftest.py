"""Real servers for the API's tests: one for each database, shared by most tests.

Each test uses its own collections.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_bucket import Bucket
from made_service import Served, Shelf
from made_two_servers import ServedByTwo
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


@pytest.fixture(scope="session")
def served_by_two_servers(
    postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with Bucket() as bucket, ServedByTwo(folder, postgres_url(), bucket) as served:
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


# Modules that run with two servers, too: those that neither restart nor configure the server.
_WITH_TWO_SERVERS = {
    "test_http_albums",
    "test_http_assets",
    "test_http_bodies",
    "test_http_bounds",
    "test_http_changes",
    "test_http_collections",
    "test_http_duplicates",
    "test_http_files",
    "test_http_jobs",
    "test_http_queries",
    "test_http_search",
    "test_http_suggestions",
    "test_http_uploads",
    "test_http_videos",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    backends = ["sqlite"]
    marks = _ON_POSTGRESQL.get(module)
    if marks is not None:
        on_pgvector = _SLOW if module == "test_http_search" else _CAMPAIGN
        backends += [
            pytest.param("postgresql", marks=marks),
            pytest.param("pgvector", marks=on_pgvector),
            pytest.param("milvus", marks=_CAMPAIGN),
        ]
    if module in _WITH_TWO_SERVERS and "home" not in metafunc.fixturenames:
        backends.append(pytest.param("two-servers", marks=_CAMPAIGN))
    metafunc.parametrize("backend", backends, scope="module")


@pytest.fixture(scope="module")
def served(backend: str, request: pytest.FixtureRequest) -> Served:
    """What answers on this test's backend, shared with other tests."""
    name = "by_two_servers" if backend == "two-servers" else f"on_{backend}"
    server: Served = request.getfixturevalue(f"served_{name}")
    return server


@pytest.fixture
def home(served: Served) -> Path:
    """The server's home, for tests of the files in it; two servers have their files in a bucket."""
    return served.home


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
