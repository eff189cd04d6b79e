"""A small pipeline, photographs made of numbers, and an opened home to keep them in."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Row, Table, func, select

from regard.core.catalog import AnalysedFile, ContentHeader, FileStamp
from regard.core.facts import PhotoFacts
from regard.core.geometry import Box
from regard.core.records import (
    Analysis,
    Caption,
    Channel,
    Embedding,
    Float32Array,
    Kind,
    PipelineSpec,
    Region,
    Space,
)
from regard.photos.masks import mask_from_box
from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog, open_catalog
from regard.storage.database.embeddings import ids_from_bytes
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.retrieval.search_catalog import SqlSearchCatalog
from regard.storage.retrieval.verification import Finding, verify_catalog
from regard.storage.vectors.engine import VectorEngine
from regard.storage.vectors.engines import make_engine

# For rules that do not depend on the database.
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])
# For slow tests of SQL that quick tests run on PostgreSQL too.
postgresql_in_campaign = pytest.mark.parametrize(
    "backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.campaign)], indirect=True
)
D = 8
SPACE = Space("joint-1", D)
SPEC = PipelineSpec("sample", (SPACE,), {"encoder": "sample@1"}, {"size": 4})
IMAGE = Channel(SPACE.name, Kind.IMAGE)
REGION = Channel(SPACE.name, Kind.REGION)
CAPTION = Channel(SPACE.name, Kind.CAPTION)


def unit(seed: object, dimension: int = D) -> Float32Array:
    """A random direction that depends on `seed` alone."""
    digest = hashlib.sha256(repr(seed).encode()).digest()
    vector = np.random.default_rng(list(digest)).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def stamp(path: str | bytes, *, size: int = 100, mtime_ns: int = 1_000) -> FileStamp:
    return FileStamp(path.encode() if isinstance(path, str) else path, size, mtime_ns)


def header(name: str) -> ContentHeader:
    return ContentHeader(hashlib.sha256(name.encode()).hexdigest(), "jpeg", 40, 30)


def analysis(name: str, regions: int = 2, *, captioned: bool = True) -> Analysis:
    """Regions, a sentence about the whole and one about the first region, and all their
    vectors."""
    found = tuple(
        Region(
            box := Box(index % 36, 1, 3, 4), mask_from_box(30, 40, box), box.area, 1 / (1 + index)
        )
        for index in range(regions)
    )
    captions = [Caption(f"a picture of {name}", "sample@1")] if captioned else []
    if captioned and regions:
        captions.append(Caption(f"a piece of {name}", "sample@1", region=0))
    embeddings = [Embedding(SPACE.name, Kind.IMAGE, unit((name, "image")))]
    embeddings += [
        Embedding(SPACE.name, Kind.REGION, unit((name, "region", index)), region=index)
        for index in range(regions)
    ]
    embeddings += [
        Embedding(SPACE.name, Kind.CAPTION, unit((name, "caption", index)), None, index)
        for index in range(len(captions[:1]))
    ]
    return Analysis(found, tuple(captions), tuple(embeddings))


@dataclass(frozen=True)
class VectorRow:
    """A vector in its stored form, with its id and owners."""

    id: int
    content_id: int
    channel_id: int
    region_id: int
    vector: bytes


@dataclass
class Home:
    """An opened catalog with a live pipeline."""

    url: str
    catalog: Catalog
    pipeline: StoredPipeline
    folder: Path
    engine_name: str = "faiss"

    def engine(self) -> VectorEngine:
        return make_engine(self.engine_name, None, self.folder, self.catalog.database)

    def writer(self, collection: str = "default") -> SqlIndexingCatalog:
        return SqlIndexingCatalog(self.catalog, self.pipeline, collection)

    @contextlib.contextmanager
    def writing(self, collection: str = "default") -> Iterator[SqlIndexingCatalog]:
        writer = self.writer(collection)
        with writer.writer_lease():
            yield writer

    def save(self, path: str, name: str, collection: str = "default", regions: int = 2) -> None:
        """One photograph with the content `name` at `path`."""
        with self.writing(collection) as writer:
            save(writer, path, name, regions)

    def searching(self) -> SqlSearchCatalog:
        return SqlSearchCatalog(self.catalog, self.pipeline)

    def indexes(self) -> ChannelIndexes:
        return ChannelIndexes(self.catalog, self.pipeline, self.engine())

    def rows(self, table: Table) -> list[Row[tuple[object, ...]]]:
        with self.catalog.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def vectors(self) -> list[VectorRow]:
        """Each vector of each row of `embedding`."""
        return [
            VectorRow(row.id + place, row.content_id, row.channel_id, region, vector.tobytes())
            for row in self.rows(schema.embedding)
            for place, (region, vector) in enumerate(
                zip(
                    ids_from_bytes(row.regions, row.vector_count).tolist(),
                    np.frombuffer(row.vectors, "<f2").reshape(row.vector_count, -1),
                    strict=True,
                )
            )
        ]

    def counts(self) -> dict[str, int]:
        """Rows of each table that a content owns."""
        tables = ("asset", "content", "analysis", "region", "caption", "embedding", "change")
        with self.catalog.database.reading() as connection:
            return {
                name: connection.execute(
                    select(func.count()).select_from(schema.metadata.tables[name])
                ).scalar_one()
                for name in tables
            }

    def findings(self) -> list[Finding]:
        """What `verify` says of the tables."""
        return verify_catalog(self.catalog, self.pipeline)

    def execute(self, statement: object) -> None:
        """Change the tables behind the catalog's back."""
        with self.catalog.database.writing() as connection:
            connection.execute(statement)  # type: ignore[call-overload]


@contextlib.contextmanager
def open_home(url: str, folder: Path, vectors: str = "faiss") -> Iterator[Home]:
    catalog = open_catalog(url)
    try:
        yield Home(url, catalog, catalog.make_live(SPEC), folder, vectors)
    finally:
        catalog.close()


def save(
    writer: SqlIndexingCatalog,
    path: str | bytes,
    name: str,
    regions: int = 2,
    facts: PhotoFacts | None = None,
) -> None:
    writer.save(
        [AnalysedFile(stamp(path), header(name), facts or PhotoFacts(), analysis(name, regions))]
    )


def save_all(writer: SqlIndexingCatalog, photos: Iterable[tuple[str, str, int]]) -> None:
    """Photographs with their paths, contents and numbers of regions, in one commit."""
    writer.save(
        [
            AnalysedFile(stamp(path), header(name), PhotoFacts(), analysis(name, regions))
            for path, name, regions in photos
        ]
    )


def attach(writer: SqlIndexingCatalog, path: str | bytes, name: str, **keywords: int) -> None:
    writer.attach(stamp(path), header(name).sha256, PhotoFacts(), **keywords)


def known_paths(writer: SqlIndexingCatalog, root: bytes = b"/") -> list[bytes]:
    return [asset.stamp.path for asset in writer.known_assets(root)]


def changed(asset_stamp: FileStamp) -> FileStamp:
    """The stamp of the same file after someone has written to it."""
    return replace(asset_stamp, size=asset_stamp.size + 1, mtime_ns=asset_stamp.mtime_ns + 1)
