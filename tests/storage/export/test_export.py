"""Exports hold all that the catalog says, and come back as what they were, on either database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from catalog_samples import (
    CAPTION,
    IMAGE,
    REGION,
    SPEC,
    Home,
    header,
    postgresql_in_campaign,
    stamp,
    unit,
)
from made_exports import (
    NEW,
    check_whole,
    export,
    in_new_space,
    opened,
    portable,
    read_json,
    tables,
    take,
    without_ids,
)
from pycocotools.coco import COCO
from sqlalchemy import select

from regard.core.catalog import AnalysedFile, ChannelQuery
from regard.core.errors import CannotWork, Conflict, NotFound
from regard.core.filters import AssetFilter
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.export import exporting
from regard.storage.pipelines.reindexing import SqlReindexing
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.vectors.segments.faiss_engine import FaissEngine


@pytest.fixture
def other_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new database of the other kind."""
    if backend == "postgresql":
        yield f"sqlite:///{tmp_path / 'other.sqlite3'}"
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create_database()
    yield url
    server.drop_database(url)


def answers(catalog: Catalog, folder: Path) -> list[tuple[list[float], list[int]]]:
    live = catalog.live_pipeline()
    assert live is not None
    vectors = np.stack([unit(("query", number)) for number in range(3)])
    asked = [ChannelQuery(channel, vectors, 5) for channel in (IMAGE, REGION, CAPTION)]
    found = ChannelIndexes(catalog, live, FaissEngine(folder)).search(
        asked, AssetFilter(collections=("one", "two"))
    )
    return [(scores.tolist(), ids.tolist()) for scores, ids, *_ in found]


def test_a_new_home_of_either_kind_becomes_the_same(
    filled: Home, other_url: str, tmp_path: Path
) -> None:
    folder = export(filled.catalog, tmp_path / "export")
    before = portable(tables(folder))
    with opened(other_url) as catalog:
        report = take(catalog, folder)
        assert report.conflicts == []
        assert (report.assets, report.contents, report.waiting) == (9, 6, 1)
        # Ids and all.
        again = portable(tables(export(catalog, tmp_path / "again")))
        for name in before:
            if name in {"collections.parquet", "pipelines.parquet"}:
                continue
            rows = {"before": before[name], "after": again[name]}
            pipelines = {
                side: {row["id"]: row["fingerprint"] for row in content["pipelines.parquet"]}
                for side, content in (("before", before), ("after", again))
            }
            for side, of_side in rows.items():
                for row in of_side:
                    if "pipeline_id" in row:
                        row["pipeline_id"] = pipelines[side][row["pipeline_id"]]
            key = lambda row: repr(sorted(row.items()))  # noqa: E731
            assert sorted(rows["before"], key=key) == sorted(rows["after"], key=key), name
        check_whole(catalog, tmp_path / "indexes")
        assert answers(catalog, tmp_path / "i") == answers(filled.catalog, tmp_path / "j")
        # What comes after gets ids beyond those that came along.
        live = catalog.live_pipeline()
        assert live is not None
        home = Home(other_url, catalog, live, tmp_path / "indexes")
        former = {row.id for row in home.vectors()}
        home.save("/later.jpg", "later", "one")
        later = {row.id for row in home.vectors()} - former
        assert later
        assert min(later) > max(former)
        # A second time there is nothing to do.
        report = take(catalog, folder)
        assert (report.assets, report.unchanged, report.embeddings) == (0, 9, 0)


@postgresql_in_campaign
def test_a_home_in_use_gets_what_it_lacks(filled: Home, new: Catalog, tmp_path: Path) -> None:
    pipeline = new.make_live(SPEC)
    home = Home("", new, pipeline, tmp_path / "in use")
    home.save("/own.jpg", "own", "one")
    home.save("/photos/a.jpg", "a", "one", 3)
    home.save("/photos/deep/c.jpg", "not c", "one")
    folder = export(filled.catalog, tmp_path / "export")
    report = take(new, folder)
    assert report.conflicts == [("/photos/deep/c.jpg", "the home has another photograph there")]
    assert report.unchanged == 1
    check_whole(new, home.folder)
    before, after = (
        without_ids(portable(tables(one))) for one in (folder, export(new, tmp_path / "again"))
    )
    own = {header(name).sha256 for name in ("own", "not c")}
    missing = {header("c").sha256, header("a").sha256}
    for name in ("regions.parquet", "captions.parquet", f"{SPEC.fingerprint} joint-1 region"):
        assert [row for row in after[name] if row["content_id"] not in own | missing] == [
            row for row in before[name] if row["content_id"] not in missing
        ], name
        # What both say of one content stands once, as the home had it.
        assert len([row for row in after[name] if row["content_id"] == header("a").sha256]) == len(
            [row for row in before[name] if row["content_id"] == header("a").sha256]
        ), name
    assert header("c").sha256 not in {row["sha256"] for row in after["contents.parquet"]}
    (a,) = (row for row in after["assets.parquet"] if row["path"] == b"/photos/a.jpg")
    assert (a["edited_title"], a["tags"]) == (None, [])
    (twin,) = (row for row in after["assets.parquet"] if row["path"] == b"/elsewhere/a.jpg")
    assert twin["content_id"] == header("a").sha256
    # Those that follow the log of assets hear of all that came.
    with new.database.reading() as connection:
        told = connection.execute(select(schema.asset_change.c.asset_id)).scalars().all()
    trashed = {row.id for row in home.rows(schema.asset) if row.deleted_at is not None}
    assert set(told) == {row.id for row in home.rows(schema.asset)} - trashed


@postgresql_in_campaign
def test_what_other_models_say_stays_theirs(filled: Home, new: Catalog, tmp_path: Path) -> None:
    live = new.make_live(NEW)
    home = Home("", new, live, tmp_path / "other models")
    with home.writing("one") as writer:
        writer.save([AnalysedFile(stamp("/own.jpg"), header("d"), _no_facts(), in_new_space("d"))])
    report = take(new, export(filled.catalog, tmp_path / "export"))
    assert new.live_pipeline() == live
    # a and b came with what the home's own models say; c, e and what waits did not.
    assert report.waiting == 3
    assert sorted(report.pipelines) == sorted([SPEC.fingerprint, NEW.fingerprint])
    check_whole(new, home.folder)
    counts = {"a": 3, "b": 3, "d": 3}
    of_live = [row for row in home.rows(schema.region) if row.pipeline_id == live.id]
    assert len(of_live) == sum(counts.values())
    # The pipeline that came lacks what the home had of its own, and goes live when it has that.
    building = SqlReindexing(new, SPEC)
    with building.builder_lease(retry_failed=True):
        assert building.go_live()
    check_whole(new, home.folder)


@pytest.mark.parametrize("backend", ["sqlite"])
def test_only_the_collections_that_are_named(filled: Home, new: Catalog, tmp_path: Path) -> None:
    folder = export(filled.catalog, tmp_path / "export", "two")
    found = tables(folder)
    assert [row["name"] for row in found["collections.parquet"]] == ["two"]
    shas = {row["sha256"] for row in found["contents.parquet"]}
    assert shas == {header(name).sha256 for name in ("a", "d", "e", "waits")}
    ids = {row["id"] for row in found["contents.parquet"]}
    assert {row["content_id"] for row in found["regions.parquet"]} <= ids
    take(new, folder)
    check_whole(new, tmp_path / "indexes")
    with pytest.raises(NotFound, match="no collection 'three'"):
        export(filled.catalog, tmp_path / "none", "three")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("backend", ["sqlite"])
def test_coco_files_as_other_programs_read_them(
    filled: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(filled.catalog, tmp_path / "export")
    stored = tables(folder)
    coco = COCO(str(folder / "coco/instances.json"))
    live = {row["id"] for row in stored["pipelines.parquet"] if row["live"]}
    regions = {row["id"]: row for row in stored["regions.parquet"] if row["pipeline_id"] in live}
    shown = {
        row["id"]: row
        for row in stored["assets.parquet"]
        if row["content_id"] is not None and row["deleted_at"] is None
    }
    assert set(coco.getImgIds()) == set(shown)
    assert coco.dataset["info"]["root"] == "/"
    names = {image["id"]: image["file_name"] for image in coco.loadImgs(coco.getImgIds())}
    assert names[min(names)] == "photos/a.jpg"
    assert "photos/%FF%FE odd.jpg" in names.values()
    expected = sum(
        row["content_id"] == a["content_id"] for a in shown.values() for row in regions.values()
    )
    assert len(coco.getAnnIds()) == expected
    for one in coco.loadAnns(coco.getAnnIds()):
        region = regions[one["region_id"]]
        assert shown[one["image_id"]]["content_id"] == region["content_id"]
        mask = coco.annToMask(one)
        assert mask.shape == (30, 40)
        assert mask.sum() == one["area"] == region["area"]
        x, y, width, height = one["bbox"]
        assert mask[y : y + height, x : x + width].sum() == one["area"]
        assert one["score"] == region["score"]
    captions = COCO(str(folder / "coco/captions.json"))
    (first,) = captions.loadAnns(captions.getAnnIds(imgIds=[min(names)]))
    assert (first["caption"], first["model"]) == ("a picture of a", "sample@1")
    pieces = [one for one in coco.loadAnns(coco.getAnnIds()) if "caption" in one]
    assert {one["caption"] for one in pieces} >= {"a piece of a", "a piece of d"}
    assert "index created" in capsys.readouterr().out


def test_file_names_are_relative_to_the_deepest_folder_of_all(home: Home, tmp_path: Path) -> None:
    home.save("/p/q/r/a.jpg", "a")
    home.save("/p/q/rr.jpg", "b")
    written = read_json(export(home.catalog, tmp_path / "export") / "coco/instances.json")
    assert written["info"]["root"] == "/p/q"
    assert [image["file_name"] for image in written["images"]] == ["r/a.jpg", "rr.jpg"]


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_home_with_nothing_in_it(home: Home, new: Catalog, tmp_path: Path) -> None:
    report = take(new, export(home.catalog, tmp_path / "export"))
    assert (report.assets, report.contents) == (0, 0)
    live = new.live_pipeline()
    assert live is not None
    assert live.fingerprint == SPEC.fingerprint


@pytest.mark.parametrize("backend", ["sqlite"])
def test_an_export_is_there_whole_or_not_at_all(
    filled: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep")
    with pytest.raises(Conflict, match="is there already"):
        export(filled.catalog, full)
    assert sorted(path.name for path in full.iterdir()) == ["mine.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "_sealed", fail)
        with pytest.raises(CannotWork, match="can't be written: No space left"):
            export(filled.catalog, empty)
    assert list(empty.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} <= {
        "full",
        "empty",
        "catalog.sqlite3",
        "indexes",
    } | {name for path in tmp_path.glob("catalog.sqlite3-*") for name in [path.name]}
    export(filled.catalog, empty)
    assert (empty / "export.json").is_file()
    assert os.stat(empty).st_mode & 0o777 == 0o777 & ~_umask()


def test_an_export_shows_one_moment(
    filled: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables(export(filled.catalog, tmp_path / "before"))
    pages = exporting._Export._pages

    def pages_beside_a_writer(self: exporting._Export) -> Iterator[list[exporting.Row]]:
        for number, page in enumerate(pages(self)):
            filled.save(f"/new{number}.jpg", f"new {number}", "one")
            yield page

    monkeypatch.setattr(exporting._Export, "_pages", pages_beside_a_writer)
    monkeypatch.setattr(exporting, "_CONTENTS_AT_ONCE", 2)
    assert tables(export(filled.catalog, tmp_path / "during")) == before
    assert len(filled.rows(schema.content)) > len(before["contents.parquet"])


def _no_facts() -> object:
    from regard.core.facts import PhotoFacts

    return PhotoFacts()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
