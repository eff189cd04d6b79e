"""Databases for the catalog's tests: each test runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from catalog_samples import Home, open_home
from made_assets import Assets
from postgres_server import PostgresServer

from regard.storage.database.connection import Database
from regard.storage.database.schema import metadata
from regard.storage.database.upgrading import upgrade

MakeUrl = Callable[[], str]


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """A database with the schema, which tests use one after another."""
    url = postgres_server.create_database()
    database = Database(url)
    upgrade(database)
    database.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeUrl]:
    """Makes URLs of new, empty databases."""
    urls: list[str] = []

    def make() -> str:
        if backend == "sqlite":
            urls.append(f"sqlite:///{tmp_path / f'new{len(urls)}.sqlite3'}")
        else:
            urls.append(request.getfixturevalue("postgres_server").create_database())
        return urls[-1]

    yield make
    if backend == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        for url in urls:
            server.drop_database(url)


@pytest.fixture
def empty_catalog(backend: str, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Gives the URL of a database with the schema and nothing else, in a folder if it is a
    file."""

    def make(folder: Path) -> str:
        if backend == "sqlite":
            file = folder / "catalog.sqlite3"
            shutil.copyfile(request.getfixturevalue("migrated_file"), file)
            return f"sqlite:///{file}"
        url: str = request.getfixturevalue("migrated_postgres")
        _empty(url)
        return url

    return make


@pytest.fixture
def home(empty_catalog: Callable[[Path], str], tmp_path: Path) -> Iterator[Home]:
    """A new catalog with a live pipeline."""
    with open_home(empty_catalog(tmp_path), tmp_path / "indexes") as opened:
        yield opened


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade(database)
    database.close()


def _empty(url: str) -> None:
    # Quicker than TRUNCATE for a few rows.
    tables = reversed(metadata.sorted_tables)
    database = Database(url)
    with database.writing() as connection:
        connection.exec_driver_sql("; ".join(f'DELETE FROM "{table.name}"' for table in tables))
        connection.exec_driver_sql(
            "SELECT setval(sequencename::regclass, 1, false) FROM pg_sequences "
            "WHERE schemaname = 'public'"
        )
    database.close()


@pytest.fixture
def assets(home: Home) -> Assets:
    return Assets(home)
