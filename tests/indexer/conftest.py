"""A bucket to index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from made_bucket import Bucket, used_here


@pytest.fixture(scope="module")
def served() -> Iterator[Bucket]:
    """A bucket that this process and the commands it starts use."""
    with Bucket() as bucket, used_here(bucket):
        yield bucket


@pytest.fixture
def bucket(served: Bucket) -> Iterator[Bucket]:
    """The same bucket, empty and in order for each test."""
    served.reads.clear()
    yield served
    served.failing, served.is_away, served.denied = 0.0, False, {}
    served.delete(*served.object_keys())
