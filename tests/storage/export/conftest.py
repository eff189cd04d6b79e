"""Homes that are exported, and databases that an export comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from catalog_samples import Home
from made_exports import fill, opened

from regard.storage.database.catalog import Catalog


@pytest.fixture
def filled(home: Home) -> Home:
    fill(home)
    return home


@pytest.fixture
def new(make_url: Callable[[], str]) -> Iterator[Catalog]:
    with opened(make_url()) as catalog:
        yield catalog
