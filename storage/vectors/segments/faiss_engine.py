"""Indexes in the home's folder, searched by FAISS in this process: the default engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.core.errors import HomeError
from regard.storage.vectors.engine import IndexIdentity, VectorEngine
from regard.storage.vectors.segments.gpu import gpu_devices
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.manifest import Manifest


class FaissEngine(VectorEngine):
    """Keeps each index in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the pipeline's."""
        self._folder = folder

    def open(self, identity: IndexIdentity) -> SegmentedIndex:
        with disk_errors_named(self._folder):
            return SegmentedIndex.open(identity, self._directory(identity), devices=gpu_devices())

    def create(self, identity: IndexIdentity) -> SegmentedIndex:
        return SegmentedIndex(identity, self._directory(identity), devices=gpu_devices())

    def kept_stats(self, identity: IndexIdentity) -> Mapping[str, Any] | None:
        with disk_errors_named(self._folder):
            manifest = Manifest.read(self._directory(identity))
        return None if manifest is None else manifest.stats()

    def _directory(self, identity: IndexIdentity) -> Path:
        return self._folder / f"{identity.space}-{identity.kind}"


@contextmanager
def disk_errors_named(folder: Path) -> Iterator[None]:
    """Raise HomeError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise HomeError(
            f"the vector indexes in {folder} can't be used: {error.strerror or error}",
            remedy="check permissions and free space, then run: regard rebuild",
        ) from error
