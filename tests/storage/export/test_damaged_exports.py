"""An export that is damaged, forged or no export ends as one sentence, and nothing of it comes
in."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalog_samples import open_home
from hypothesis import given, settings
from hypothesis import strategies as st
from made_exports import channel_file, export, fill, rewrite, seal, take
from pycocotools import mask as coco_mask
from sqlalchemy import func, select

from regard.core.errors import CannotWork, HomeError, MissingDependency
from regard.core.records import Kind
from regard.storage.database import schema
from regard.storage.database.catalog import open_catalog
from regard.storage.database.connection import Database
from regard.storage.database.upgrading import upgrade
from regard.storage.export import files as export_files
from regard.storage.export.checking import open_export
from regard.storage.export.coco import mask_runs
from regard.storage.export.layout import MANIFEST, OWNERS, TABLES, Manifest
from regard.storage.retrieval.verification import verify_catalog

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that fits together, not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    with open_home(f"sqlite:///{folder / 'catalog.sqlite3'}", folder) as home:
        fill(home)
        return export(home.catalog, folder / "export")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with a schema and no identity, to copy."""
    file = tmp_path_factory.mktemp("empty") / "catalog.sqlite3"
    database = Database(f"sqlite:///{file}")
    upgrade(database)
    database.close()
    return file


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "export"))


def refused(folder: Path, empty: Path, words: str = "") -> None:
    """Importing it raises one sentence, and leaves the home as it was."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(shutil.copy(empty, scratch))
        catalog = open_catalog(file)
        try:
            with pytest.raises(CannotWork) as raised:
                take(catalog, folder)
            assert words in str(raised.value), raised.value
            assert not isinstance(raised.value, HomeError), raised.value
            assert "\n" not in raised.value.message
            with catalog.database.reading() as connection:
                for table in schema.metadata.sorted_tables:
                    if table.name not in {"catalog_info", "counter"}:
                        count = select(func.count()).select_from(table)
                        assert connection.execute(count).scalar_one() == 0, table
        finally:
            catalog.close()


def test_every_file_is_looked_at_byte_by_byte(folder: Path, empty: Path) -> None:
    generator = np.random.default_rng(0)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        place = int(generator.integers(len(data)))
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        refused(folder, empty, path.name)
        path.write_bytes(data[:-1])
        refused(folder, empty, path.name)
        path.unlink()
        refused(folder, empty, path.name)
        path.write_bytes(data)
    open_export(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format=2), "in format 2"),
        (lambda d: d.update(format=True), "in format True"),
        (lambda d: d.pop("format"), "is damaged"),
        (lambda d: d.update(export="x"), "is damaged"),
        (lambda d: d.update(files={}), "is damaged"),
    ],
)
def test_manifests_of_another_kind(
    folder: Path, empty: Path, change: Callable[[Any], object], words: str
) -> None:
    document = json.loads((folder / MANIFEST).read_bytes())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))
    refused(folder, empty, words)


@pytest.mark.parametrize("text", ["", "[]", "3", "nonsense", '{"format": 1}', "[" * 100_000])
def test_what_is_no_manifest(folder: Path, empty: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    refused(folder, empty, "is damaged or not the manifest")


@pytest.mark.parametrize(
    "name", ["../outside.npy", "/etc/passwd", "assets.parquet", "embeddings/..npy"]
)
def test_files_lie_in_the_export(folder: Path, empty: Path, name: str) -> None:
    from dataclasses import replace

    manifest = Manifest.read(folder)
    first, *others = manifest.channels
    moved = replace(first, vectors=name)
    files = {**manifest.files, name: manifest.files[first.vectors]}
    changed = replace(manifest, channels=(moved, *others), files=files)
    (folder / MANIFEST).write_bytes(changed.to_bytes())
    refused(folder, empty, "is damaged")


def test_a_folder_that_is_no_export(tmp_path: Path, empty: Path) -> None:
    refused(tmp_path, empty, "is not an export of regard")
    refused(tmp_path / "nothing", empty, "is not an export of regard")


def test_pickles_are_never_read(folder: Path, empty: Path) -> None:
    vectors, _ = channel_file(folder, Kind.IMAGE)
    np.save(vectors, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    seal(folder)
    refused(folder, empty, "no .npy file of numbers")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.astype(np.float32), "does not hold float16"),
        (lambda v: v[:, :-1], "does not hold rows of 8"),
        (lambda v: v.ravel(), "does not hold rows of 8"),
        (np.asfortranarray, "does not hold rows of 8"),
        (lambda v: v[:-1], "another number of rows"),
        (lambda v: v * 2, "not normalised"),
        (lambda v: v * np.float16("nan"), "not normalised"),
    ],
)
def test_vectors_of_another_form(
    folder: Path, empty: Path, change: Callable[[Any], Any], words: str
) -> None:
    path, _ = channel_file(folder, Kind.REGION)
    np.save(path, change(np.load(path)))
    seal(folder)
    refused(folder, empty, words)


def first(name: str, value: object) -> Callable[[Rows], object]:
    return lambda rows: rows[0].update({name: value})


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("contents.parquet", lambda rows: rows.reverse(), "in the order of contents"),
        ("contents.parquet", lambda rows: rows.insert(0, rows[0]), "not positive and ascending"),
        ("contents.parquet", lambda rows: rows.pop(), "rows are of no content"),
        ("contents.parquet", first("sha256", "A" * 64), "not describe a photograph"),
        ("contents.parquet", first("width", 0), "not describe a photograph"),
        ("contents.parquet", first("height", 31), "does not fit its photograph"),
        ("assets.parquet", first("collection_id", 77), "of no collection"),
        ("assets.parquet", first("path", b"relative.jpg"), "not describe a file"),
        ("assets.parquet", first("failure", "both"), "not describe a file"),
        ("assets.parquet", first("capture", "[1]"), "not what a photograph has"),
        ("assets.parquet", first("capture", '{"iso": "100"}'), "not what a photograph has"),
        ("assets.parquet", first("capture", '{"f_number": true}'), "not what a photograph has"),
        ("assets.parquet", first("capture", '{"shutter": 1}'), "not what a photograph has"),
        (
            "assets.parquet",
            first("capture", '{"motion_video_offset": -5}'),
            "not what a photograph has",
        ),
        ("assets.parquet", first("capture", '{"raw_name": 1}'), "not what a photograph has"),
        ("assets.parquet", first("custom", '{"x": NaN}'), "not a JSON object"),
        ("assets.parquet", first("title", "a\0b"), "a text holds"),
        ("assets.parquet", first("tags", ["\0"]), "a text holds"),
        ("assets.parquet", lambda rows: rows[1].update(id=rows[0]["id"]), "an id stands twice"),
        ("assets.parquet", lambda rows: rows[1].update(path=rows[0]["path"]), "a path stands twice"),
        ("analyses.parquet", lambda rows: rows.pop(0), "of no analysis"),
        ("analyses.parquet", lambda rows: rows.insert(0, rows[0]), "stands twice"),
        ("regions.parquet", first("area", 1), "does not fit"),
        ("regions.parquet", first("x", 38), "does not fit"),
        ("regions.parquet", first("mask", b"nonsense~"), "does not fit"),
        ("regions.parquet", first("mask", b""), "does not fit"),
        ("regions.parquet", first("pipeline_id", 9), "of no analysis"),
        ("regions.parquet", lambda rows: rows[1].update(ordinal=0), "stands twice"),
        ("regions.parquet", first("score", float("inf")), "does not fit"),
        ("regions.parquet", lambda rows: rows.reverse(), "not fit together"),
        ("captions.parquet", first("region_id", 10_000), "of no analysis or region"),
        ("readings.parquet", first("failure", "why"), "names no reader"),
        ("readings.parquet", first("reader", "[]"), "names no reader"),
        ("readings.parquet", lambda rows: rows.insert(0, rows[0]), "stands twice"),
        ("text_lines.parquet", first("corners", b"short"), "does not fit"),
        ("text_lines.parquet", first("confidence", 2.0), "does not fit"),
        ("text_lines.parquet", first("id", 1), "stands twice"),
        ("text_lines.parquet", first("ordinal", 7), "out of order"),
        ("pipelines.parquet", first("spec", "{}"), "not what its text says"),
        ("pipelines.parquet", first("fingerprint", "0" * 64), "fingerprint is of another"),
        ("pipelines.parquet", lambda rows: [row.update(live=True) for row in rows], "more than one"),
        ("pipelines.parquet", lambda rows: rows.pop(), "lacks the pipeline"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_together(
    folder: Path, empty: Path, table: str, change: Callable[[Rows], object], words: str
) -> None:
    rewrite(folder, table, change)
    refused(folder, empty, words)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.IMAGE, first("region_id", 1)),
        (Kind.REGION, first("region_id", None)),
        (Kind.REGION, first("region_id", 10_000)),
        (Kind.CAPTION, first("caption_id", None)),
        (Kind.IMAGE, lambda rows: rows[1].update(id=rows[0]["id"])),
        (Kind.REGION, lambda rows: rows[1].update(region_id=rows[0]["region_id"])),
    ],
)
def test_owners_that_do_not_fit(
    folder: Path, empty: Path, kind: Kind, change: Callable[[Rows], object]
) -> None:
    _, owners = channel_file(folder, kind)
    rewrite(folder, str(owners.relative_to(folder)), change)
    refused(folder, empty, "stands twice, or is of no region")


def test_contents_and_regions_have_vectors(folder: Path, empty: Path) -> None:
    for kind in (Kind.IMAGE, Kind.REGION):
        vectors, owners = channel_file(folder, kind)
        kept = vectors.read_bytes(), owners.read_bytes()
        np.save(vectors, np.load(vectors)[:-1])
        rewrite(folder, str(owners.relative_to(folder)), lambda rows: rows.pop())
        refused(folder, empty, "lacks its vector")
        vectors.write_bytes(kept[0])
        owners.write_bytes(kept[1])


def test_a_table_with_other_columns(folder: Path, empty: Path) -> None:
    shutil.copy(folder / "contents.parquet", folder / "captions.parquet")
    seal(folder)
    refused(folder, empty, "other columns")
    (folder / "captions.parquet").write_bytes(b"PAR1 and more PAR1")
    seal(folder)
    refused(folder, empty, "no Parquet file")


def test_without_pyarrow(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name, name="pyarrow")

    monkeypatch.setattr(export_files.importlib, "import_module", absent)
    with pytest.raises(MissingDependency, match=r"pip install 'regard\[export\]'"):
        open_export(whole)


@st.composite
def forgeries(draw: st.DrawFn) -> tuple[str, Callable[[Rows], None]]:
    """A table's name, or `owners`, and one change to its rows."""
    name = draw(st.sampled_from([*TABLES, "owners"]))
    columns = TABLES.get(name, OWNERS)
    column = draw(st.sampled_from(columns))
    row, other = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    what = draw(st.sampled_from(["cell", "copied", "dropped", "twice", "swapped"]))
    values: dict[str, st.SearchStrategy[Any]] = {
        "int16": st.sampled_from([0, -1, 3, 32767]),
        "int32": st.sampled_from([0, -1, 1, 39, 2**31 - 1]),
        "int64": st.sampled_from([0, -1, 1, 7, 2**63 - 1]),
        "double": st.sampled_from([0.0, -1.0, 1e300, float("nan")]),
        "bool": st.booleans(),
        "string": st.sampled_from(["", "x", "{}", "é" * 20]),
        "binary": st.sampled_from([b"", b"/x", b"0", b"\xff"]),
        "timestamp": st.datetimes(),
        "strings": st.lists(st.text("ab", max_size=2), max_size=3),
    }
    value = draw(st.none() if column.nullable and draw(st.booleans()) else values[column.type])

    def change(rows: Rows) -> None:
        if not rows:
            return
        here, there = row % len(rows), other % len(rows)
        if what == "cell":
            rows[here][column.name] = value
        elif what == "copied":
            rows[here][column.name] = rows[there][column.name]
        elif what == "dropped":
            rows.pop(here)
        elif what == "twice":
            rows.insert(there, dict(rows[here]))
        else:
            rows[here], rows[there] = rows[there], rows[here]

    return name, change


def check_forgery(forged: tuple[str, Callable[[Rows], None]], whole: Path, empty: Path) -> None:
    """It is refused with nothing written, or comes in as a home that is whole."""
    name, change = forged
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(whole, Path(scratch) / "export"))
        if name == "owners":
            name = str(channel_file(folder, Kind.REGION)[1].relative_to(folder))
        rewrite(folder, name, change)
        catalog = open_catalog(Path(shutil.copy(empty, scratch)))
        try:
            try:
                take(catalog, folder)
            except HomeError as error:
                raise AssertionError(f"the database refused what was let in: {error}") from error
            except CannotWork:
                with catalog.database.reading() as connection:
                    for table in (schema.asset, schema.content, schema.pipeline, schema.collection):
                        assert connection.execute(select(table.c.id)).first() is None
            else:
                live = catalog.live_pipeline()
                if live is not None:
                    assert verify_catalog(catalog, live) == []
        finally:
            catalog.close()


@given(forged=forgeries())
@settings(max_examples=25, deadline=None)
def test_any_change_is_refused_or_does_no_harm(
    forged: tuple[str, Callable[[Rows], None]], whole: Path, empty: Path
) -> None:
    check_forgery(forged, whole, empty)


@pytest.mark.campaign
@given(forged=forgeries())
@settings(max_examples=400, deadline=None)
def test_any_of_many_changes_is_refused_or_does_no_harm(
    forged: tuple[str, Callable[[Rows], None]], whole: Path, empty: Path
) -> None:
    check_forgery(forged, whole, empty)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_runs_of_masks(height: int, width: int, share: float, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < share
    counts = coco_mask.encode(np.asfortranarray(pixels, np.uint8))["counts"]
    runs = mask_runs(counts)
    assert runs.sum() == height * width
    assert runs[1::2].sum() == pixels.sum()
    assert np.repeat(np.arange(runs.size) % 2, runs).tolist() == pixels.T.ravel().tolist()


def test_runs_of_a_large_mask() -> None:
    pixels = np.zeros((5000, 6000), np.uint8, order="F")
    pixels[17:4000, 3000:] = 1
    runs = mask_runs(coco_mask.encode(pixels)["counts"])
    assert runs[1::2].sum() == pixels.sum()


@given(
    st.binary(max_size=40) | st.text("".join(map(chr, range(48, 112))), max_size=40).map(str.encode)
)
def test_any_bytes_are_runs_or_an_error(counts: bytes) -> None:
    try:
        runs = mask_runs(counts)
    except ValueError:
        return
    assert (runs >= 0).all()
