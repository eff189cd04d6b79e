"""Searching the channels' indexes: exact, as fresh as the catalog, and mended when damaged."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalog_process import Worker
from catalog_samples import (
    CAPTION,
    IMAGE,
    REGION,
    D,
    Home,
    attach,
    header,
    open_home,
    postgresql_in_campaign,
    save,
    save_all,
    unit,
)
from sqlalchemy import select, update
from vector_oracle import LISTED, as_rows

from regard.core.catalog import ChannelQuery, Neighbours
from regard.core.errors import HomeError, IndexMismatch, NotFound
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Channel, Float32Array
from regard.storage.database import schema
from regard.storage.retrieval import channel_indexes
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.vectors.engine import IndexIdentity
from regard.storage.vectors.segments import index as vector_index
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.state import SegmentLimits


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database; vectors have lists where a snapshot has more than eight.

    Empty indexes are filled at once, but without lists from SQLite step by step.
    """
    name, _, way = request.param.partition(", ")
    if request.param != "sqlite":
        monkeypatch.setattr(channel_indexes, "_LONG_LOG", 0)
    if way == "with lists":
        limits = SegmentLimits(delta_rows=4, listed_segment_rows=2, listed_index_rows=8)
        monkeypatch.setattr(vector_index, "SegmentLimits", lambda: limits)
        LISTED.prepare(monkeypatch)
    return str(name)


@pytest.fixture
def home(
    request: pytest.FixtureRequest, empty_catalog: Callable[[Path], str], tmp_path: Path
) -> Iterator[Home]:
    """A new catalog with a live pipeline; a backend's name may end with its engine."""
    backend = getattr(request.node, "callspec", None)
    named = "" if backend is None else str(backend.params.get("backend", ""))
    vectors = "pgvector" if "pgvector" in named else "faiss"
    if "milvus" in named:
        vectors = request.getfixturevalue("milvus_server").url
    with open_home(empty_catalog(tmp_path), tmp_path / "indexes", vectors) as opened:
        yield opened


on_all_engines = pytest.mark.parametrize(
    "backend",
    [
        *("sqlite", "postgresql", "sqlite, with lists", "postgresql, pgvector"),
        pytest.param("postgresql, milvus", marks=pytest.mark.campaign),
    ],
    indirect=True,
)
also_with_lists = pytest.mark.parametrize(
    "backend",
    [
        *("sqlite", "sqlite, with lists"),
        pytest.param("postgresql", marks=pytest.mark.campaign),
    ],
    indirect=True,
)
lists_in_campaign = pytest.mark.parametrize(
    "backend",
    [
        *("sqlite", "postgresql, pgvector"),
        pytest.param("postgresql", marks=pytest.mark.campaign),
        pytest.param("sqlite, with lists", marks=pytest.mark.campaign),
    ],
    indirect=True,
)


def query(*seeds: object) -> Float32Array:
    return np.stack([unit(seed) for seed in seeds])


def search(
    indexes: ChannelIndexes,
    channel: Channel,
    queries: Float32Array,
    k: int,
    collection: str | None,
) -> Neighbours:
    (found,) = indexes.search([ChannelQuery(channel, queries, k)], within(collection))
    return found


def within(collection: str | None) -> AssetFilter:
    return EVERYTHING if collection is None else AssetFilter(collections=(collection,))


def brute_force(
    home: Home, channel: Channel, queries: Float32Array, k: int, collection: str | None
) -> list[list[tuple[float, int]]]:
    """The best rows by plain SQL and arithmetic."""
    asset, number = schema.asset.c, home.pipeline.channels[channel].id
    members = select(asset.content_id).join_from(schema.asset, schema.collection)
    if collection is not None:
        members = members.where(schema.collection.c.name == collection)
    with home.catalog.database.reading() as connection:
        contents = set(connection.execute(members).scalars())
    rows = [
        row for row in home.vectors() if row.channel_id == number and row.content_id in contents
    ]
    answers = []
    for vector in queries:
        scored = sorted(
            (-float(np.frombuffer(row.vector, "<f2").astype(np.float64) @ vector), row.id)
            for row in rows
        )
        answers.append([(-score, number) for score, number in scored[:k]])
    return answers


def assert_best(found: Neighbours, wanted: list[list[tuple[float, int]]], k: int) -> None:
    scores, ids = found[:2]
    assert scores.shape == ids.shape
    assert scores.shape[1] <= k
    for row_scores, row_ids, row_wanted in zip(scores, ids, wanted, strict=True):
        present = row_ids >= 0
        assert row_ids[present].tolist() == [number for _, number in row_wanted]
        np.testing.assert_allclose(
            row_scores[present], [score for score, _ in row_wanted], atol=1e-5
        )
        assert np.isneginf(row_scores[~present]).all()


def fill(home: Home) -> None:
    """Two collections that share some contents; one content belongs to neither."""
    with home.writing("one") as writer:
        save_all(
            writer,
            [(f"/one/{number}.jpg", f"content {number}", number % 4) for number in range(30)],
        )
        writer.fail(home_stamp := next(writer.known_assets(b"/one/3.jpg")).stamp, "it is damaged")
        assert home_stamp.path == b"/one/3.jpg"
    with home.writing("two") as writer:
        for number in range(10, 20):
            attach(writer, f"/two/{number}.jpg", f"content {number}")
        save_all(
            writer, [(f"/two/{number}.jpg", f"content {number}", 1) for number in range(30, 35)]
        )
    indexes = home.indexes()
    indexes.catch_up()
    indexes.snapshot()
    if home.engine_name != "faiss":
        return
    has_lists = vector_index.SegmentLimits().listed_index_rows < 10
    for stats in indexes.stats().values():
        assert (stats["segments_with_lists"] > 0) == has_lists


@on_all_engines
@pytest.mark.parametrize("channel", [IMAGE, REGION, CAPTION], ids=str)
def test_filtered_search_equals_brute_force(home: Home, channel: Channel) -> None:
    fill(home)
    indexes = home.indexes()
    queries = query("q", "r", ("content 12", "image"))
    for collection in (None, "one", "two"):
        for k in (1, 7, 1000):
            found = search(indexes, channel, queries, k, collection)
            assert_best(found, brute_force(home, channel, queries, k, collection), k)


@on_all_engines
def test_a_filter_is_as_fresh_as_the_catalog(home: Home) -> None:
    fill(home)
    indexes = home.indexes()
    queries = query("q")

    def check() -> None:
        for collection in ("one", "two"):
            found = search(indexes, IMAGE, queries, 100, collection)
            assert_best(found, brute_force(home, IMAGE, queries, 100, collection), 100)

    check()
    with home.writing("two") as writer:
        attach(writer, "/two/0.jpg", "content 0")  # changes no vector
        check()
        writer.remove(list(writer.known_assets(b"/two/11.jpg")))  # its content stays in `one`
        check()
        writer.fail(next(writer.known_assets(b"/two/30.jpg")).stamp, "it is damaged")
        check()


def test_unknown_collection(home: Home) -> None:
    indexes = home.indexes()
    with pytest.raises(NotFound, match="no collection is named x"):
        search(indexes, IMAGE, query("q"), 3, "x")
    fill(home)
    with pytest.raises(NotFound) as caught:
        search(indexes, IMAGE, query("q"), 3, "x")
    assert caught.value.remedy == "the collections are: one, two"
    home.save("/x.jpg", "x", "x")
    assert search(indexes, IMAGE, query("q"), 3, "x")[1].shape == (1, 3)


def test_the_only_collection_is_no_filter_until_there_is_another(home: Home) -> None:
    home.save("/a.jpg", "a", "one")
    indexes = home.indexes()
    assert (search(indexes, IMAGE, query("q"), 10, "one")[1] >= 0).sum() == 1
    home.save("/b.jpg", "b", "two")
    assert (search(indexes, IMAGE, query("q"), 10, "one")[1] >= 0).sum() == 1
    assert (search(indexes, IMAGE, query("q"), 10, None)[1] >= 0).sum() == 2


@postgresql_in_campaign
def test_an_empty_catalog(home: Home) -> None:
    indexes = home.indexes()
    scores, ids = search(indexes, IMAGE, query("q", "r"), 5, None)[:2]
    assert scores.shape == ids.shape == (2, 1)
    assert (ids == -1).all()
    assert indexes.verify() == []
    indexes.snapshot()
    assert home.indexes().verify() == []


@on_all_engines
def test_snapshots_are_continued(home: Home) -> None:
    fill(home)
    first = home.indexes()
    first.catch_up()
    first.snapshot()
    with home.writing("one") as writer:
        writer.remove(list(writer.known_assets(b"/one/5.jpg")))
        save(writer, "/one/new.jpg", "new")
    again = home.indexes()
    queries = query("q")
    found = search(again, REGION, queries, 100, None)
    assert_best(found, brute_force(home, REGION, queries, 100, None), 100)
    assert again.verify() == []
    stats = again.stats()
    assert set(stats) == {str(channel) for channel in home.pipeline.channels}
    assert {channel["applied_through"] for channel in stats.values()} == {home.counts()["change"]}


@on_all_engines
def test_an_older_catalog_was_restored(home: Home, tmp_path: Path) -> None:
    fill(home)
    indexes = home.indexes()
    indexes.catch_up()
    indexes.snapshot()
    home.execute(update(schema.counter).where(schema.counter.c.name == "change").values(value=3))
    home.execute(schema.change.delete().where(schema.change.c.position > 3))
    restored = home.indexes()
    for attempt in (
        lambda: search(restored, IMAGE, query("q"), 3, None),
        restored.catch_up,
        lambda: search(indexes, IMAGE, query("q"), 3, None),
    ):
        with pytest.raises(IndexMismatch, match="ahead of its catalog") as caught:
            attempt()
        assert caught.value.remedy == "run: regard rebuild"
    assert all(finding.in_index for finding in restored.verify())
    assert len(restored.verify()) == 3
    restored.rebuild()
    # The log of this catalog is damaged, but the index contains what it says.
    assert search(restored, IMAGE, query("q"), 3, None)[1].max() > 0


@also_with_lists
def test_lost_or_damaged_files_are_mended_by_rebuild(home: Home) -> None:
    fill(home)
    indexes = home.indexes()
    indexes.catch_up()
    indexes.snapshot()
    shutil.rmtree(home.folder)
    assert home.indexes().verify() == []  # an index that is not there is made
    home.indexes().rebuild()
    files = sorted(path for path in home.folder.rglob("*") if path.suffix in {".rows", ".json"})
    assert len(files) == 6
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data)
        damaged = home.indexes()
        with pytest.raises(IndexMismatch) as caught:
            damaged.catch_up()
        assert caught.value.remedy == "run: regard rebuild"
        (finding,) = damaged.verify()
        assert finding.in_index
        home.indexes().rebuild()
        assert home.indexes().verify() == []


@on_all_engines
def test_an_index_that_lacks_and_alters_rows_is_mended_by_rebuild(home: Home) -> None:
    """Its position is right, so that only `verify` finds it."""
    fill(home)
    indexes = home.indexes()
    indexes.catch_up()
    indexes.snapshot()
    assert indexes.verify() == []
    stored = home.pipeline.channels[REGION]
    identity = IndexIdentity(
        home.catalog.uuid, home.pipeline.fingerprint, REGION.space, REGION.kind, stored.dimension
    )
    rows = [row for row in home.vectors() if row.channel_id == stored.id]
    ids = np.array([row.id for row in rows[2:]])
    vectors = np.stack([np.frombuffer(row.vector, "<f2") for row in rows[2:]])
    vectors[0] = -vectors[0]
    other = home.engine().create(identity)
    other.fill([as_rows(ids, vectors)], through=home.counts()["change"])
    other.snapshot()
    damaged = home.indexes()
    assert [finding.message for finding in damaged.verify()] == [
        f"2 embeddings are not in the index {REGION}",
        f"1 vectors of the index {REGION} differ",
    ]
    damaged.rebuild()
    mended = home.indexes()
    assert mended.verify() == []
    report = mended.measure_recall()
    assert {one.kind for one in report.channels} == {"image", "region", "caption"}
    assert all(one.is_exact or one.at_10.value > 0.95 for one in report.channels)
    assert mended.last_recall() == report


@also_with_lists
def test_folder_that_is_a_file(home: Home) -> None:
    home.save("/a.jpg", "a")
    home.folder.write_text("in the way")
    indexes = home.indexes()
    indexes.catch_up()
    with pytest.raises(HomeError, match="can't be used") as caught:
        indexes.snapshot()
    assert "regard rebuild" in str(caught.value)


@on_all_engines
def test_damaged_vector_in_the_catalog(home: Home) -> None:
    """Refused when it is stored; one that was damaged later is named, not a traceback."""
    home.save("/a.jpg", "a")
    first = select(schema.embedding.c.id).order_by(schema.embedding.c.id).limit(1).scalar_subquery()
    for vector in (b"\0" * (2 * D - 1), b"\xff" * (2 * D), b"\x00\x3c" * D):
        home.execute(
            update(schema.embedding).where(schema.embedding.c.id == first).values(vectors=vector)
        )
        indexes = home.indexes()
        with pytest.raises(HomeError, match="damaged vectors") as caught:
            search(indexes, IMAGE, query("q"), 3, None)
        assert "regard verify" in str(caught.value)
        (finding,) = indexes.verify()
        assert not finding.in_index


@lists_in_campaign
def test_threads_search_while_others_write(home: Home) -> None:
    """Each answer is one moment of the catalog: never an error, never an id that was not there."""
    fill(home)
    indexes = home.indexes()
    stopped = threading.Event()
    errors: list[Exception] = []
    searches = [0]

    def keep_searching(seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not stopped.is_set():
                channel, collection = rng.choice([IMAGE, REGION]), rng.choice([None, "one", "two"])
                scores, ids = search(indexes, channel, query(rng.random()), 5, collection)[:2]
                assert (ids >= 0).all()
                assert (np.diff(scores) <= 1e-6).all()
                searches[0] += 1
        except Exception as error:  # noqa: BLE001 - shown by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=keep_searching, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 200
    with home.writing("two") as writer:
        number = 0
        while (number < 12 or searches[0] < 30) and time.monotonic() < deadline and not errors:
            save(writer, f"/two/new {number % 3}.jpg", f"new {number}")
            number += 1
        found = indexes.verify()
    stopped.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert found == []
    assert searches[0] >= 30
    assert number >= 12
    assert indexes.verify() == []


@on_all_engines
def test_verify_while_another_writes(home: Home) -> None:
    """What is committed during the comparison does not count as a difference."""
    fill(home)
    indexes = home.indexes()
    with home.writing("one") as writer:
        original = ChannelIndexes._apply

        def apply_then_commit(self: ChannelIndexes, *arguments: object) -> None:
            original(self, *arguments)  # type: ignore[arg-type]
            for number in (0, 1):
                path = f"/one/{number}.jpg"
                known = list(writer.known_assets(path.encode()))
                save(writer, path, f"{time.monotonic()}") if known else None

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ChannelIndexes, "_apply", apply_then_commit)
            assert indexes.verify() == []
    assert indexes.verify() == []


@lists_in_campaign
def test_another_process_shows_within_a_second(home: Home, tmp_path: Path) -> None:
    fill(home)
    home.save("/p/a.jpg", "a")
    indexes = home.indexes()
    wanted = query(("b", "image"))
    assert (search(indexes, IMAGE, wanted, 5, "default")[1] >= 0).sum() == 1
    with Worker(home.url, tmp_path / "other") as other:
        other.ask("open")
        other.ask("hold")
        times = []
        for count, command in enumerate([("save", "/p/b.jpg", "b"), ("remove", "/p/b.jpg")] * 2):
            assert other.ask(*command) in {"done", 1}
            committed = time.monotonic()
            scores, ids = search(indexes, IMAGE, wanted, 5, "default")[:2]
            times.append(time.monotonic() - committed)
            assert (ids >= 0).sum() == 2 - count % 2
            assert (scores[0, 0] > 0.99) == (count % 2 == 0)
        # The machine may have been busy with something else, but not each time.
        assert min(times) < 1
        assert other.ask("save", "/p/b.jpg", "b") == "done"
        assert (search(indexes, IMAGE, wanted, 5, "default")[1] >= 0).sum() == 2
    assert indexes.verify() == []
    assert home.findings() == []


def test_stored_vectors_by_id(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        writer.fail(next(writer.known_assets(b"/p/a.jpg")).stamp, "it is damaged")
        save(writer, "/p/b.jpg", "b")
    search = home.searching()
    assets = {row.uri: row for row in home.rows(schema.asset)}
    regions = home.rows(schema.region)
    found = search.asset_vectors(assets["/p/b.jpg"].id)
    assert set(found.vectors) == {IMAGE}
    np.testing.assert_allclose(found.vectors[IMAGE], unit(("b", "image")), atol=1e-3)
    found = search.region_vectors(regions[1].id)
    assert set(found.vectors) == {REGION}
    assert found.region == regions[1].id
    np.testing.assert_allclose(found.vectors[REGION], unit(("b", "region", 1)), atol=1e-3)
    for missing in (assets["/p/a.jpg"].id, 999, 10**18 - 1):
        with pytest.raises(NotFound):
            search.asset_vectors(missing)
    with pytest.raises(NotFound):
        search.region_vectors(999)


def test_answers_are_hydrated(home: Home) -> None:
    fill(home)
    contents = {row.sha256: row.id for row in home.rows(schema.content)}
    shared = contents[header("content 12").sha256]
    searching = home.searching()
    both = searching.hit_records([shared, 10**6], [], EVERYTHING).assets
    assert [asset.uri for asset in both[shared]] == ["/one/12.jpg", "/two/12.jpg"]
    assert {asset.caption for asset in both[shared]} == {"a picture of content 12"}
    assert {(asset.width, asset.height) for asset in both[shared]} == {(40, 30)}
    only = searching.hit_records([shared], [], within("two")).assets
    assert [(asset.uri, asset.path) for asset in only[shared]] == [("/two/12.jpg", b"/two/12.jpg")]
    assert searching.hit_records([shared], [], within("three")).assets == {}
    stored = {row.id: row for row in home.rows(schema.region)}
    records = searching.hit_records(contents.values(), [*stored, 10**6], EVERYTHING)
    assert len(records.assets) == len(contents) == 34
    assert set(records.regions) == set(stored)
    for number, region in records.regions.items():
        row = stored[number]
        assert region.box.to_list() == [row.x, row.y, row.width, row.height]
        assert (region.caption is not None) == (row.ordinal == 0)


@postgresql_in_campaign
def test_hits_carry_contents_and_regions(home: Home) -> None:
    fill(home)
    rows = {row.id: (row.content_id, row.region_id or 0) for row in home.vectors()}
    for channel in home.pipeline.channels:
        (found,) = home.indexes().search(
            [ChannelQuery(channel, np.eye(3, D, dtype=np.float32), 100)], EVERYTHING
        )
        for number, content, region in zip(*(column.ravel() for column in found[1:]), strict=True):
            assert (content, region) == rows.get(number, (0, 0))


@postgresql_in_campaign
def test_indexes_of_another_catalog(home: Home, make_url, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    home.save("/a.jpg", "a")
    indexes = home.indexes()
    indexes.catch_up()
    indexes.snapshot()
    with open_home(make_url(), home.folder) as other:
        with pytest.raises(IndexMismatch) as caught:
            other.indexes().catch_up()
        assert caught.value.remedy == "run: regard rebuild"


@postgresql_in_campaign
def test_answers_are_kept_until_something_changes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home)
    indexes, asked = home.indexes(), query("q")
    searches: list[int] = []
    search_index = SegmentedIndex.search

    def count(index: SegmentedIndex, queries: Float32Array, k: int, *rest: Any, **more: Any) -> Any:
        searches.append(k)
        return search_index(index, queries, k, *rest, **more)

    monkeypatch.setattr(SegmentedIndex, "search", count)
    wanted = brute_force(home, REGION, asked, 20, None)
    for k in (10, 5, 10, 20, 7):
        assert_best(search(indexes, REGION, asked, k, None), [wanted[0][:k]], k)
    assert searches == [10, 20]
    # Whatever there is: no more can be found.
    everything = search(indexes, IMAGE, asked, 1000, None)
    assert search(indexes, IMAGE, asked, 2000, None).ids.tolist() == everything.ids.tolist()
    assert len(searches) == 3
    search(indexes, REGION, asked, 20, "one")
    search(indexes, REGION, query("r"), 20, None)
    assert len(searches) == 5
    with home.writing("two") as writer:
        save(writer, "/two/99.jpg", "content 99", regions=3)
    found = search(indexes, REGION, asked, 20, None)
    assert_best(found, brute_force(home, REGION, asked, 20, None), 20)
    assert len(searches) == 6
