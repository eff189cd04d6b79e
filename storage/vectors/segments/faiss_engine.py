"""Indexes in the home's folder, searched by FAISS in this process: the default engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.storage.database.stored_pipelines import index_folder
from regard.storage.vectors.engine import IndexIdentity, VectorEngine, disk_errors_named
from regard.storage.vectors.segments.gpu import gpu_devices
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.manifest import Manifest


class FaissEngine(VectorEngine):
    """Keeps each index in a folder below that of its pipeline."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the folders of all pipelines."""
        self.folder = folder

    def open(self, identity: IndexIdentity) -> SegmentedIndex:
        with disk_errors_named(self.folder):
            return SegmentedIndex.open(identity, self._directory(identity), devices=gpu_devices())

    def create(self, identity: IndexIdentity) -> SegmentedIndex:
        return SegmentedIndex(identity, self._directory(identity), devices=gpu_devices())

    def kept_stats(self, identity: IndexIdentity) -> Mapping[str, Any] | None:
        with disk_errors_named(self.folder):
            manifest = Manifest.read(self._directory(identity))
        return None if manifest is None else manifest.stats()

    def forget(self, catalog: str, pipeline: str) -> None:
        """All is in the pipeline's folder."""

    def _directory(self, identity: IndexIdentity) -> Path:
        folder = index_folder(self.folder, identity.pipeline)
        return folder / f"{identity.space}-{identity.kind}"
