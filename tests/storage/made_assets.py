"""Uploads made of numbers, and what stands in for the indexer and for a copy that follows the
log."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from catalog_samples import Home, analysis, header
from sqlalchemy import select

from regard.core.assets import Asset, AssetEdit
from regard.core.catalog import AnalysedFile, FileStamp
from regard.core.facts import PhotoFacts
from regard.storage.assets.collections import SqlCollections
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.uploads import SqlUploads, Upload, Uploaded
from regard.storage.database import schema

STORE = PurePosixPath("/store")
NOON = datetime.datetime(2024, 5, 1, 12)


def place(name: str) -> bytes:
    """Where the managed store keeps the content of this name."""
    return str(STORE / header(name).sha256).encode()


def is_managed(path: bytes) -> bool:
    return path.startswith(b"/store/")


class Assets:
    """The three faces of a catalog's assets over one home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.reading = SqlAssetReading(home.catalog)
        self.editing = SqlAssetEditing(home.catalog)
        self.uploads = SqlUploads(home.catalog)
        self.collections = SqlCollections(home.catalog)
        self._names: dict[bytes, str] = {}

    def upload(
        self,
        name: str,
        collection: str = "one",
        *,
        facts: PhotoFacts | None = None,
        mtime_ns: int = 1_000,
        **said: Any,
    ) -> Uploaded:
        path = place(name)
        self._names[path] = name
        upload = Upload(
            FileStamp(path, 100, mtime_ns),
            header(name),
            facts or PhotoFacts(),
            file_name=f"{name}.jpg",
            **said,
        )
        return self.uploads.upload(collection, upload)

    def writer(self, collection: str) -> SqlIndexingCatalog:
        return SqlIndexingCatalog(
            self.home.catalog, self.home.pipeline, collection, is_managed=is_managed
        )

    def analyse(self, collection: str = "one", *, but: Sequence[str] = ()) -> None:
        """Do what an upload job does; the contents named in `but` turn out to be unusable."""
        writer = self.writer(collection)
        with writer.writer_lease():
            for path in self.uploads.waiting_originals(collection):
                name = self._names[path]
                stamp = FileStamp(path, 100, 1_000)
                if name in but:
                    writer.fail(stamp, "it is cut off")
                else:
                    writer.save([AnalysedFile(stamp, header(name), PhotoFacts(), analysis(name))])

    def record(self, asset: int) -> Asset:
        return self.reading.get(asset)

    def events(self, after: int = 0, limit: int = 3) -> list[tuple[str, int]]:
        """What the log tells, read in small pages."""
        return [(change.kind, change.asset) for change in self.changes(after, limit)]

    def changes(self, after: int = 0, limit: int = 3) -> Iterator[Any]:
        more = True
        while more:
            found, after, more = self.collections.changes(after, limit=limit)
            yield from found

    def position(self) -> int:
        found, position, more = self.collections.changes(0, limit=1_000_000)
        assert not more
        assert len({change.position for change in found}) == len(found)
        return position

    def contents(self) -> set[str]:
        with self.home.catalog.database.reading() as connection:
            return set(connection.execute(select(schema.content.c.sha256)).scalars())


def edited(**values: object) -> AssetEdit:
    return AssetEdit(frozenset(values), **values)  # type: ignore[arg-type]
