"""Imports that stop, meet what is there, or bring whatever a home may hold."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from catalog_samples import (
    SPEC,
    Home,
    attach,
    header,
    open_home,
    postgresql_in_campaign,
    save,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from made_exports import (
    check_whole,
    columns_of,
    export,
    opened,
    place_of,
    portable,
    tables,
    take,
    without_ids,
)
from sqlalchemy import select

from regard.core.assets import AssetEdit
from regard.core.catalog import Exclusion
from regard.core.errors import LeaseHeld
from regard.storage.assets.albums import SqlAlbums
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.assets.review import SqlDuplicateReview
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.lease import hold_writer_lease
from regard.storage.export.layout import EXCLUSIONS, MANIFEST, Manifest


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("written", [1, 2])
def test_an_import_that_was_stopped_carries_on(
    filled: Home, new: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    from regard.storage.export import importing

    monkeypatch.setattr(importing, "_CONTENTS_AT_ONCE", 2)
    folder = export(filled.catalog, tmp_path / "export")
    asked = iter(range(10))
    with pytest.raises(KeyboardInterrupt):
        take(new, folder, should_stop=lambda: next(asked) == written)
    check_whole(new, tmp_path / "half")
    live = new.live_pipeline()
    assert live is not None
    home = Home("", new, live, tmp_path / "half")
    assert len(home.rows(schema.content)) == 2 * written
    # Someone else writes in between, and takes away what came.
    home.save("/between.jpg", "between", "three")
    first = min(row.id for row in home.rows(schema.content))
    gone = {row.id for row in home.vectors() if row.content_id == first}
    with home.writing("one") as writer:
        writer.remove(
            [one for one in writer.known_assets(b"/photos") if one.stamp.path == b"/photos/a.jpg"]
        )
    with home.writing("one") as writer:
        writer.remove(list(writer.known_assets(b"/photos/twin of a.jpg")))
    with home.writing("two") as writer:
        writer.remove(list(writer.known_assets(b"/elsewhere/a.jpg")))
    assert take(new, folder).conflicts == []
    check_whole(new, tmp_path / "half")
    before, after = (
        without_ids(portable(tables(one)))
        for one in (folder, export(new, tmp_path / "again", "one", "two"))
    )
    for name, rows in before.items():
        assert rows == after[name], name
    # Ids that an index may have met are not given again.
    assert not gone & {row.id for row in home.vectors()}
    with new.database.reading() as connection:
        keys = set(connection.execute(select(schema.catalog_info.c.key)).scalars())
    assert keys == {"catalog_uuid"}


@pytest.mark.parametrize("backend", ["sqlite"])
def test_ids_that_were_used_once_are_not_taken_over(
    filled: Home, new: Catalog, tmp_path: Path
) -> None:
    pipeline = new.make_live(SPEC)
    home = Home("", new, pipeline, tmp_path / "emptied")
    home.save("/x.jpg", "x")
    used = {row.id for row in home.vectors()}
    with home.writing() as writer:
        writer.remove(list(writer.known_assets(b"/x.jpg")))
    take(new, export(filled.catalog, tmp_path / "export"))
    assert not used & {row.id for row in home.vectors()}
    check_whole(new, home.folder)


@pytest.mark.parametrize("backend", ["sqlite"])
def test_nobody_else_may_write_meanwhile(filled: Home, new: Catalog, tmp_path: Path) -> None:
    folder = export(filled.catalog, tmp_path / "export")
    for name in ("writer", "builder"):
        with hold_writer_lease(new.database, name), pytest.raises(LeaseHeld):
            take(new, folder)
    assert new.pipelines() == []


@pytest.mark.parametrize("backend", ["sqlite"])
def test_an_external_id_belongs_to_one_asset(filled: Home, new: Catalog, tmp_path: Path) -> None:
    pipeline = new.make_live(SPEC)
    home = Home("", new, pipeline, tmp_path / "h")
    home.save("/mine.jpg", "mine", "one")
    home.execute(schema.asset.update().values(external_id="x-1"))
    report = take(new, export(filled.catalog, tmp_path / "export"))
    assert [uri for uri, why in report.conflicts if "x-1" in why] == ["/photos/a.jpg"]
    (row,) = (row for row in home.rows(schema.asset) if row.path == b"/photos/a.jpg")
    assert row.external_id is None


@pytest.mark.parametrize("backend", ["sqlite"])
def test_uploads_are_looked_for_in_the_home_they_came_to(
    filled: Home, new: Catalog, tmp_path: Path
) -> None:
    take(new, export(filled.catalog, tmp_path / "export"))
    with new.database.reading() as connection:
        rows = connection.execute(
            select(schema.asset.c.path, schema.asset.c.uri).where(schema.asset.c.managed.is_(True))
        ).all()
    expected = {place_of(header(name).sha256) for name in ("e", "waits")}
    assert {bytes(row.path) for row in rows} == expected
    assert {row.uri.encode() for row in rows} == expected


@dataclass(frozen=True)
class Shot:
    """One photograph of a random home."""

    collection: str
    place: int
    content: str
    tags: frozenset[str]
    custom: dict[str, object] | None
    trashed: bool


CUSTOM = st.integers() | st.booleans() | st.text("ab'\"é", max_size=3) | st.lists(st.integers())


SHOTS = st.lists(
    st.builds(
        Shot,
        collection=st.sampled_from(["one", "two", "drei — 3"]),
        place=st.integers(0, 5),
        content=st.sampled_from(["a", "b", "c", "d"]),
        tags=st.frozensets(st.text("aé漢 ,", min_size=1, max_size=4), max_size=3),
        custom=st.none() | st.dictionaries(st.sampled_from("xyz"), CUSTOM),
        trashed=st.booleans(),
    ),
    max_size=8,
)


@given(shots=SHOTS)
@settings(max_examples=5, deadline=None)
def test_whatever_a_home_holds_comes_back(shots: list[Shot], migrated_file: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = [shutil.copy(migrated_file, folder / f"{name}.sqlite3") for name in "ab"]
        with open_home(f"sqlite:///{files[0]}", folder) as home:
            for shot in shots:
                with home.writing(shot.collection) as writer:
                    path = f"/p/{shot.place}.jpg"
                    if not writer.is_analysed(header(shot.content).sha256):
                        save(writer, path, shot.content, len(shot.content) + shot.place % 2)
                    else:
                        attach(writer, path, shot.content)
                number = max(row.id for row in home.rows(schema.asset))
                editing = SqlAssetEditing(home.catalog)
                fields = frozenset({"tags", "custom"})
                editing.edit(number, AssetEdit(fields, None, tuple(shot.tags), shot.custom))
                if shot.trashed:
                    editing.trash([number])
            before = portable(tables(export(home.catalog, folder / "export")))
        with opened(f"sqlite:///{files[1]}") as catalog:
            take(catalog, folder / "export")
            after = portable(tables(export(catalog, folder / "again")))
            check_whole(catalog, folder / "indexes")
        assert without_ids(after) == without_ids(before)
        for name in ("contents.parquet", "regions.parquet", f"{SPEC.fingerprint} joint-1 region"):
            assert [row["id"] for row in after[name]] == [row["id"] for row in before[name]]


@postgresql_in_campaign
def test_what_is_left_out_is_remembered(home: Home, new: Catalog, tmp_path: Path) -> None:
    said = [
        Exclusion(b"/p", b"*.tmp", is_left_out=True),
        Exclusion(b"/p/caf\xe9", None, is_left_out=True),
        Exclusion(b"/p", b"keep", is_left_out=False),
    ]
    home.save("/p/a.jpg", "a", "one")
    with home.writing("one") as writer:
        writer.change_exclusions([], said)
    folder = export(home.catalog, tmp_path / "export")
    for _ in range(2):
        take(new, folder)
        pipeline = new.live_pipeline()
        assert pipeline is not None
        writer = SqlIndexingCatalog(new, pipeline, "one")
        with writer.writer_lease():
            found = writer.exclusions()
        assert [dataclasses.replace(one, id=0) for one in found] == said
    # Exports from before exclusions have no such file.
    manifest = Manifest.read(folder)
    files = {name: file for name, file in manifest.files.items() if name != EXCLUSIONS}
    (folder / MANIFEST).write_bytes(dataclasses.replace(manifest, files=files).to_bytes())
    assert take(new, folder).unchanged == 1


@postgresql_in_campaign
def test_albums_come_along(filled: Home, new: Catalog, tmp_path: Path) -> None:
    store = SqlAlbums(filled.catalog)
    assets = {row.path: row.id for row in filled.rows(schema.asset)}
    chosen = {b"/photos/a.jpg", b"/elsewhere/a.jpg"}
    store.change(store.create("best").id, add=[assets[path] for path in chosen])
    store.create("empty")
    store.create("four stars", "rating:>=4")
    whole = export(filled.catalog, tmp_path / "export")
    pipeline = new.make_live(SPEC)
    home = Home("", new, pipeline, tmp_path / "h")
    home.save("/mine.jpg", "mine", "one")
    there = SqlAlbums(new)
    mine = there.create("best").id
    there.change(mine, add=[row.id for row in home.rows(schema.asset)])
    there.create("four stars", "rating:4")
    for _ in range(2):
        report = take(new, whole)
        assert [name for name, _ in report.conflicts] == ["four stars"]
        paths = {row.id: row.path for row in home.rows(schema.asset)}
        members = home.rows(schema.album_asset)
        assert {paths[row.asset_id] for row in members} == {*chosen, b"/mine.jpg"}
        assert {row.album_id for row in members} == {mine}
        kept = [(album.name, album.query) for album in there.page()]
        assert kept == [("best", None), ("empty", None), ("four stars", "rating:4")]
    part = tables(export(filled.catalog, tmp_path / "part", "two"))
    assert [row["name"] for row in part["albums.parquet"]] == ["best"]
    assert len(part["album_assets.parquet"]) == 1


@postgresql_in_campaign
def test_what_is_no_duplicate_comes_along(filled: Home, new: Catalog, tmp_path: Path) -> None:
    assets = filled.rows(schema.asset)
    first, second = [row.id for row in assets if row.content_id is not None][:2]
    SqlDuplicateReview(filled.catalog).mark_distinct([first, second])
    whole = export(filled.catalog, tmp_path / "export")
    home = Home("", new, new.make_live(SPEC), tmp_path / "h")
    home.save("/mine.jpg", "mine", "one")

    def pairs(there: Home) -> set[frozenset[str]]:
        names = {row.id: row.sha256 for row in there.rows(schema.content)}
        return {
            frozenset({names[row.first_id], names[row.second_id]})
            for row in there.rows(schema.distinct_pair)
        }

    for _ in range(2):
        take(new, whole)
        assert pairs(home) == pairs(filled)
        assert len(pairs(home)) == 1


@postgresql_in_campaign
def test_what_people_said_of_stacks_comes_along(filled: Home, new: Catalog, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        filled.save(f"/stacked/{name}.jpg", f"stacked {name}", "one")
    ids = {row.uri: row.id for row in filled.rows(schema.asset)}
    editing = SqlAssetEditing(filled.catalog)
    for names in ("ab", "cd"):
        editing.stack([ids[f"/stacked/{name}.jpg"] for name in names])
    editing.unstack([ids["/stacked/d.jpg"]])
    whole = export(filled.catalog, tmp_path / "export")
    home = Home("", new, new.make_live(SPEC), tmp_path / "h")
    for name in ("x", "y"):
        home.save(f"/mine/{name}.jpg", f"mine {name}", "one")
    SqlAssetEditing(new).stack([row.id for row in home.rows(schema.asset)])
    for _ in range(2):
        take(new, whole)
        stacks: dict[int, set[str]] = {}
        for row in home.rows(schema.asset):
            if row.chosen_stack is not None:
                stacks.setdefault(row.chosen_stack, set()).add(Path(row.uri).stem)
        assert stacks.pop(0) == {"d"}
        assert sorted(map(sorted, stacks.values())) == [["a", "b"], ["c"], ["x", "y"]]


LEFT_OUT = {
    "exclusion": {"id"},
    # Told by the table that the row stands in, or by the id of its channel.
    "embedding": {
        *("pipeline_id", "channel_id"),
        # In its own form: the owners and the vector of each.
        *("vector_count", "regions", "captions", "vectors"),
    },
    "pipeline": {"pruned_at"},
    # Derived from other columns, or counted again.
    "asset": {
        *("composed_path", "comparable_path", "taken_month"),
        *("camera", "camera_folded", "camera_model_folded", "lens_folded"),
        *("country", "city", "city_folded", "stack_id"),
    },
    "analysis": {"region_count", "caption_count", "vector_count"},
    "analysis_failure": {"reason"},
    "reading": {"reader_id", "line_count"},
    "asset_keyword": {"asset_id", "position", "keyword"},
    "asset_tag": {"asset_id", "tag"},
}


@pytest.mark.parametrize(
    ("table", "file"),
    [
        ("collection", "collections.parquet"),
        ("exclusion", "exclusions.parquet"),
        ("album", "albums.parquet"),
        ("album_asset", "album_assets.parquet"),
        ("distinct_pair", "distinct_pairs.parquet"),
        ("pipeline", "pipelines.parquet"),
        ("content", "contents.parquet"),
        ("asset", "assets.parquet"),
        ("analysis", "analyses.parquet"),
        ("analysis_failure", "analyses.parquet"),
        ("region", "regions.parquet"),
        ("caption", "captions.parquet"),
        ("reading", "readings.parquet"),
        ("text_line", "text_lines.parquet"),
        ("embedding", "owners"),
    ],
)
def test_no_column_is_forgotten(table: str, file: str) -> None:
    columns = {column.name for column in schema.metadata.tables[table].columns}
    assert columns - LEFT_OUT.get(table, set()) <= columns_of(file)
