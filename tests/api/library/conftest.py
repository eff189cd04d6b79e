"""The photographs of a module as a library: over their home, and over a server of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from made_library import Library as Photos
from made_local_server import LocalServer

import regard as api
from regard import Library


@pytest.fixture(scope="module")
def url(photos: Photos) -> Iterator[str]:
    with LocalServer(photos.home) as server:
        yield server.url


@pytest.fixture(params=["local", "remote"])
def library(request: pytest.FixtureRequest, photos: Photos, url: str) -> Iterator[Library]:
    with api.open(photos.home if request.param == "local" else url) as opened:
        yield opened
