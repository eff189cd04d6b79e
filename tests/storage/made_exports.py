"""A home with something of everything, what an export holds, and exports that were tampered
with."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from catalog_samples import SPEC, D, Home, analysis, attach, save, stamp, unit
from made_assets import Assets

from regard.core.assets import AssetEdit
from regard.core.facts import Capture, PhotoFacts
from regard.core.records import Analysis, Channel, Kind, Space
from regard.core.texts import TextLine
from regard.storage.assets.texts import SqlTexts
from regard.storage.database.catalog import Catalog, open_catalog
from regard.storage.export.checking import open_export
from regard.storage.export.exporting import export_catalog
from regard.storage.export.importing import ImportReport, import_catalog
from regard.storage.export.layout import MANIFEST, OWNERS, TABLES, Manifest, file_digest
from regard.storage.pipelines.reindexing import SqlReindexing
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.retrieval.verification import verify_catalog
from regard.storage.vectors.segments.faiss_engine import FaissEngine

# Another encoder.
NEW = replace(SPEC, profile="new", spaces=(Space("joint-9", D),), models={"encoder": "sample@9"})
FACTS = PhotoFacts(
    taken_at=datetime.datetime(2024, 5, 1, 12, 30, 15, 250_000),
    utc_offset_minutes=-90,
    camera_make="Nikon",
    camera_model="D90",
    lens="50 mm",
    latitude=52.52,
    longitude=-13.405,
    title="Ümläute — 漢字",
    description="two\nlines",
    keywords=("b", "a", "é"),
    rating=-1,
    capture=Capture(exposure_seconds=1 / 3, iso=200),
)


def place_of(sha256: str) -> bytes:
    """Where an imported home keeps the upload of a digest."""
    return b"/imported/" + sha256.encode()


def in_new_space(name: str) -> Analysis:
    """What the other pipeline says of a content."""
    said = analysis(name, 3)
    moved = tuple(
        replace(one, space="joint-9", vector=unit((name, "new", number)))
        for number, one in enumerate(said.embeddings)
    )
    return replace(said, embeddings=moved)


def fill(home: Home) -> Assets:
    """Twins, edits, uploads that wait, failures, the trash, and part of another pipeline."""
    assets = Assets(home)
    with home.writing("one") as writer:
        save(writer, "/photos/a.jpg", "a", 3, FACTS)
        save(writer, b"/photos/\xff\xfe odd.jpg", "b", 0)
        save(writer, "/photos/deep/c.jpg", "c", 1)
        attach(writer, "/photos/twin of a.jpg", "a")
        writer.fail(stamp("/photos/broken.jpg"), "it is empty")
        save(writer, "/photos/gone.jpg", "gone", 2)
    with home.writing("two") as writer:
        attach(writer, "/elsewhere/a.jpg", "a")
        save(writer, "/elsewhere/d.jpg", "d", 2)
    uploaded = assets.upload(
        "e", "two", title="given", tags=("x",), custom={"n": 1, "list": [1, None]}
    )
    assets.analyse("two")
    assets.upload("waits", "two", external_id="w-1")
    ids = {row.path: row.id for row in home.rows(_asset_table())}
    assets.editing.edit(
        ids[b"/photos/a.jpg"],
        AssetEdit(frozenset({"title", "tags", "custom", "external_id"}), "mine", ("a", "new"),
                  {"f": 1.5, "s": "ü"}, "x-1"),
    )  # fmt: skip
    assets.editing.trash([ids[b"/photos/deep/c.jpg"]])
    with home.writing("one") as writer:
        gone = [
            one for one in writer.known_assets(b"/photos") if one.stamp.path.endswith(b"gone.jpg")
        ]
        assert writer.remove(gone) == 1
    building = SqlReindexing(home.catalog, NEW)
    with building.builder_lease(retry_failed=True):
        waiting = building.waiting(0, 10)
        names = {sha: name for name in "abcde" for sha in [_digest(name)]}
        for content in waiting[:2]:
            building.save([content], [in_new_space(names[content.sha256])])
        building.fail(waiting[2], "its file is away")
    numbers = {row.sha256: row.id for row in home.rows(_content_table())}
    corners = ((1, 2), (9, 2), (9, 6), (1, 6))
    lines = [TextLine("ÖFFNEN – 開", corners, 0.75), TextLine("pier 9", corners, 1.0)]
    readings = {"a": lines, "b": [], "d": "it is damaged"}
    SqlTexts(home.catalog, home.pipeline, '{"models":{}}').save(
        {numbers[_digest(name)]: reading for name, reading in readings.items()}
    )
    assert uploaded.asset
    return assets


def _content_table() -> Any:
    from regard.storage.database import schema

    return schema.content


def _asset_table() -> Any:
    from regard.storage.database import schema

    return schema.asset


def _digest(name: str) -> str:
    from catalog_samples import header

    return header(name).sha256


def export(catalog: Catalog, folder: Path, *collections: str) -> Path:
    export_catalog(catalog, folder, collections)
    return folder


def take(catalog: Catalog, folder: Path, **options: Any) -> ImportReport:
    return import_catalog(catalog, open_export(folder), place_of=place_of, **options)


Content = dict[str, list[dict[str, Any]]]


def tables(folder: Path) -> Content:
    """All rows of an export, its channels by pipeline, space and kind, vectors beside their
    owners."""
    found = {name: pyarrow.parquet.read_table(folder / name).to_pylist() for name in TABLES}
    for channel in Manifest.read(folder).channels:
        owners = pyarrow.parquet.read_table(folder / channel.owners).to_pylist()
        vectors = np.load(folder / channel.vectors, allow_pickle=False)
        assert vectors.dtype == np.float16
        assert vectors.shape == (len(owners), channel.dimension)
        name = f"{channel.pipeline} {channel.space} {channel.kind}"
        found[name] = [
            {**owner, "vector": vector.tobytes()}
            for owner, vector in zip(owners, vectors, strict=True)
        ]
    return found


def without_ids(content: Content) -> Content:
    """The same with every id told by what it is the id of, rows in the order of that."""
    names: dict[str, dict[int, Any]] = {}

    def named(table: str, key: Callable[[Mapping[str, Any]], Any]) -> dict[int, Any]:
        names[table] = {row["id"]: key(row) for row in content[f"{table}.parquet"]}
        return names[table]

    collections = named("collections", lambda row: row["name"])
    pipelines = named("pipelines", lambda row: row["fingerprint"])
    contents = named("contents", lambda row: row["sha256"])
    regions = named(
        "regions",
        lambda row: (contents[row["content_id"]], pipelines[row["pipeline_id"]], row["ordinal"]),
    )
    captions = named(
        "captions",
        lambda row: (contents[row["content_id"]], pipelines[row["pipeline_id"]], row["text"]),
    )
    of_column = {
        "collection_id": collections, "pipeline_id": pipelines, "content_id": contents,
        "region_id": regions, "caption_id": captions,
    }  # fmt: skip
    return {
        name: sorted(
            (
                {
                    key: of_column[key].get(value) if key in of_column else value
                    for key, value in row.items()
                    if key != "id"
                }
                for row in rows
            ),
            key=repr,
        )
        for name, rows in content.items()
    }


def portable(content: Content, *, uploads_move: bool = True) -> Content:
    """What an import keeps: all but since when models are live, and where uploads lie."""
    kept = {name: [dict(row) for row in rows] for name, rows in content.items()}
    for row in kept["pipelines.parquet"]:
        row["live_since"] = None
    for row in kept["assets.parquet"]:
        if row["managed"] and uploads_move:
            row["path"] = place_of(row["path"].rpartition(b"/")[2].decode())
            row["uri"] = row["path"].decode()
    return kept


def rewrite(folder: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change a table's rows and seal it again, as a forger would."""
    path = folder / name
    table = pyarrow.parquet.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), path)
    seal(folder)


def seal(folder: Path, **changes: Any) -> None:
    """Let the manifest fit the files that are there."""
    manifest = Manifest.read(folder)
    files = {}
    for name, former in manifest.files.items():
        path, rows = folder / name, former.rows
        if name.endswith(".parquet"):
            try:
                rows = pyarrow.parquet.ParquetFile(path).metadata.num_rows
            except pyarrow.ArrowException:
                rows = former.rows
        files[name] = replace(
            former, bytes=path.stat().st_size, sha256=file_digest(path), rows=rows
        )
    sealed = dataclasses.replace(manifest, files=files, **changes)
    (folder / MANIFEST).write_bytes(sealed.to_bytes())


def channel_file(folder: Path, kind: Kind, space: str = "joint-1") -> tuple[Path, Path]:
    """The vectors and owners of a channel."""
    wanted = Channel(space, kind)
    channel = next(one for one in Manifest.read(folder).channels if one.channel == wanted)
    return folder / channel.vectors, folder / channel.owners


def columns_of(name: str) -> set[str]:
    """The columns that an export's table has, or for embeddings those of their owners."""
    return {column.name for column in TABLES.get(name, OWNERS)}


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


@contextlib.contextmanager
def opened(url: str) -> Iterator[Catalog]:
    catalog = open_catalog(url)
    yield catalog
    catalog.close()


def check_whole(catalog: Catalog, folder: Path) -> None:
    """`verify` finds nothing, in the tables and in indexes made of them."""
    live = catalog.live_pipeline()
    assert live is not None
    assert verify_catalog(catalog, live) == []
    assert ChannelIndexes(catalog, live, FaissEngine(folder)).verify() == []
