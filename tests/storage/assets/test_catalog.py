"""The catalog as the indexer writes it: one transaction a content, and nothing half-visible."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zlib
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from catalog_samples import (
    IMAGE,
    D,
    Home,
    analysis,
    attach,
    changed,
    header,
    known_paths,
    open_home,
    save,
    stamp,
    unit,
)
from sqlalchemy import event, insert, select
from sqlalchemy.exc import DBAPIError

from regard.core.catalog import AnalysedFile, Failure, FileStamp, KnownAsset
from regard.core.errors import HomeError, ModelError, UnstorableValue
from regard.core.facts import Capture, PhotoFacts
from regard.core.filters import EVERYTHING
from regard.core.geometry import Box
from regard.core.records import Analysis, Embedding, Kind, Region
from regard.photos.masks import encode_mask, mask_from_box
from regard.storage.assets.overview import CollectionOverview, read_overview
from regard.storage.database import schema

NOTHING = dict.fromkeys(
    ("asset", "content", "analysis", "region", "caption", "embedding", "change"), 0
)


def test_save_writes_everything_that_a_content_owns(home: Home) -> None:
    home.save("/p/a.jpg", "a", regions=3)
    assert home.counts() == {
        "asset": 1,
        "content": 1,
        "analysis": 1,
        "region": 3,
        "caption": 2,
        "embedding": 3,
        "change": 3,
    }
    assert home.findings() == []


@pytest.mark.parametrize("table", ["content", "caption", "asset", "change"])
def test_failure_in_the_middle_leaves_nothing(home: Home, table: str) -> None:
    def fail_at(conn: object, cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith(f"INSERT INTO {table} "):
            raise DBAPIError(statement, None, OSError("the disk is full"))

    with home.writing("fresh collection") as writer:
        event.listen(home.catalog.database.engine, "before_cursor_execute", fail_at)
        try:
            with pytest.raises(HomeError, match="the disk is full"):
                save(writer, "/p/a.jpg", "a")
        finally:
            event.remove(home.catalog.database.engine, "before_cursor_execute", fail_at)
        assert home.counts() == NOTHING
        assert home.rows(schema.collection) == []
        save(writer, "/p/a.jpg", "a")  # the same writer carries on
    assert home.counts()["content"] == 1
    assert home.findings() == []


def test_failure_in_the_middle_of_a_replacement_leaves_the_old_content(home: Home) -> None:
    home.save("/p/a.jpg", "a")
    before = home.counts()

    def fail_at(conn: object, cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().startswith("DELETE FROM content"):
            raise KeyboardInterrupt

    with home.writing() as writer:
        event.listen(home.catalog.database.engine, "before_cursor_execute", fail_at)
        try:
            with pytest.raises(KeyboardInterrupt):
                save(writer, "/p/a.jpg", "b")
        finally:
            event.remove(home.catalog.database.engine, "before_cursor_execute", fail_at)
        assert not writer.is_analysed(header("b").sha256)
    assert home.counts() == before
    assert home.findings() == []


def test_same_bytes_at_two_paths_are_two_assets_of_one_content(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        attach(writer, "/p/b.jpg", "a")
        found = list(writer.assets_of_content(header("a").sha256))
        assert [asset.stamp.path for asset in found] == [b"/p/a.jpg", b"/p/b.jpg"]
        assert (home.counts()["asset"], home.counts()["content"]) == (2, 1)
        writer.remove(found[:1])
        assert home.counts()["embedding"] == 3
        assert writer.remove(found) == 1
    counts = home.counts()
    assert {**counts, "change": 0} == NOTHING
    assert counts["change"] == 6
    assert [row.added for row in home.rows(schema.change)] == [True] * 3 + [False] * 3
    assert home.findings() == []


def test_orphans_go_in_the_transaction_of_their_last_asset(home: Home) -> None:
    """Each way an asset can leave its content: changed, failed, removed, replaced by a move."""
    ways = {
        "changed": lambda writer: save(writer, "/p/a.jpg", "b"),
        "attached": lambda writer: attach(writer, "/p/a.jpg", "other"),
        "failed": lambda writer: writer.fail(changed(stamp("/p/a.jpg")), "it is damaged"),
        "removed": lambda writer: writer.remove(list(writer.known_assets(b"/p/a.jpg"))),
        "overwritten by a move": lambda writer: attach(
            writer, "/p/a.jpg", "other", moved_from=next(writer.known_assets(b"/p/other.jpg")).id
        ),
    }
    for way, leave in ways.items():
        with home.writing(way) as writer:
            save(writer, "/p/a.jpg", f"a of {way}")
            if not writer.is_analysed(header("other").sha256):
                save(writer, "/p/other.jpg", "other")
            else:
                attach(writer, "/p/other.jpg", "other")
            leave(writer)
            assert not writer.is_analysed(header(f"a of {way}").sha256), way
            writer.remove(list(writer.known_assets(b"/")))
        assert {**home.counts(), "change": 0} == NOTHING, way
        assert home.findings() == []
    removed = {row.embedding_id for row in home.rows(schema.change) if not row.added}
    added = {row.embedding_id for row in home.rows(schema.change) if row.added}
    assert removed == added


def test_a_content_stays_while_another_collection_needs_it(home: Home) -> None:
    home.save("/p/a.jpg", "a", "one")
    with home.writing("two") as writer:
        assert writer.is_analysed(header("a").sha256)
        assert list(writer.assets_of_content(header("a").sha256)) == []
        attach(writer, "/p/a.jpg", "a")
    with home.writing("one") as writer:
        assert writer.remove(list(writer.known_assets(b"/"))) == 1
        assert list(writer.known_assets(b"/")) == []
    assert home.counts()["content"] == 1
    assert home.findings() == []


def test_a_moved_file_keeps_its_asset_and_content(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        (before,) = writer.known_assets(b"/")
        attach(writer, "/q/a.jpg", "a", moved_from=before.id)
        (after,) = writer.known_assets(b"/")
    assert (after.id, after.stamp.path) == (before.id, b"/q/a.jpg")
    assert home.counts()["change"] == 3  # the vectors did not change
    (row,) = home.rows(schema.asset)
    assert row.uri == "/q/a.jpg"


def test_a_move_from_an_asset_that_has_gone_makes_a_new_one(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        attach(writer, "/q/a.jpg", "a", moved_from=10_000)
        assert known_paths(writer) == [b"/p/a.jpg", b"/q/a.jpg"]


def test_a_move_never_takes_an_asset_of_another_collection(home: Home) -> None:
    home.save("/p/a.jpg", "a", "one")
    (asset,) = home.rows(schema.asset)
    with home.writing("two") as writer:
        attach(writer, "/q/a.jpg", "a", moved_from=asset.id)
    with home.writing("one") as writer:
        assert known_paths(writer) == [b"/p/a.jpg"]


def test_failed_assets(home: Home) -> None:
    with home.writing() as writer:
        writer.fail(stamp("/p/bad.jpg"), "it is truncated")
        writer.fail(stamp("/p/a%/bad.jpg"), "it is empty")
        (first, second) = writer.known_assets(b"/")
        assert (first.failure_reason, second.failure_reason) == ("it is empty", "it is truncated")
        assert writer.failures([b"/p/a%"]) == [Failure("/p/a%/bad.jpg", "it is empty")]
        assert [failure.uri for failure in writer.failures([b"/"])] == [
            "/p/a%/bad.jpg",
            "/p/bad.jpg",
        ]
        assert writer.failures([]) == []
        assert writer.failures([b"/elsewhere"]) == []
        save(writer, "/p/bad.jpg", "mended")
        assert len(writer.failures([b"/p", b"/p/a%"])) == 1
    assert read_overview(home.catalog).collections == (CollectionOverview("default", 1, 1),)
    assert home.findings() == []


def test_a_reason_may_quote_any_bytes(home: Home) -> None:
    """A message of an error may hold what no database takes; a bad file must not stop a run."""
    reason = "no tag \0 in " + os.fsdecode(b"caf\xe9.jpg")
    with home.writing() as writer:
        writer.fail(stamp("/p/bad.jpg"), reason)
        (asset,) = writer.known_assets(b"/")
    assert asset.failure_reason == "no tag � in caf?.jpg"


FACTS = PhotoFacts(
    taken_at=datetime(2024, 2, 29, 23, 59, 59, 123456),
    utc_offset_minutes=-570,
    camera_make="Ünïcode 🎞",
    camera_model="M",
    lens="50mm ƒ/1.8",
    latitude=-41.123456789012,
    longitude=179.999999999999,
    title="líne\nfeed\tand tab",
    description="説明 " * 4000,
    keywords=("zebra", "Äpfel", "zebra crossing", "k" * 256),
    rating=-1,
    capture=Capture(1 / 8000, 1.8, 102_400, 50.0, -12.5),
)


def stored_facts(home: Home, path: bytes) -> PhotoFacts:
    with home.catalog.database.reading() as connection:
        row = connection.execute(select(schema.asset).where(schema.asset.c.path == path)).one()
        keywords = connection.execute(
            select(schema.asset_keyword.c.keyword)
            .where(schema.asset_keyword.c.asset_id == row.id)
            .order_by(schema.asset_keyword.c.position)
        ).scalars()
        names = {field.name for field in dataclasses.fields(PhotoFacts)} - {"keywords", "capture"}
        return PhotoFacts(
            **{name: getattr(row, name) for name in names},
            keywords=tuple(keywords),
            capture=Capture(**json.loads(row.capture)),
        )


def test_facts_round_trip(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a", facts=FACTS)
        assert stored_facts(home, b"/p/a.jpg") == FACTS
        fewer = dataclasses.replace(FACTS, keywords=("one",), taken_at=datetime(1, 1, 1))
        writer.attach(stamp("/p/a.jpg"), header("a").sha256, fewer)
        assert stored_facts(home, b"/p/a.jpg") == fewer
        writer.attach(stamp("/p/a.jpg"), header("a").sha256, PhotoFacts())
        assert stored_facts(home, b"/p/a.jpg") == PhotoFacts()
        writer.attach(stamp("/p/a.jpg"), header("a").sha256, FACTS)
        writer.fail(stamp("/p/a.jpg"), "it is damaged")
        assert stored_facts(home, b"/p/a.jpg") == PhotoFacts()
    assert home.rows(schema.asset_keyword) == []


@pytest.mark.parametrize(
    ("facts", "stored"),
    [
        (PhotoFacts(title="a\0b", lens="\ud83c"), PhotoFacts(title="a\ufffdb", lens="?")),
        (PhotoFacts(keywords=("a\0", "a\ufffd")), PhotoFacts(keywords=("a\ufffd",))),
        (PhotoFacts(latitude=math.nan, longitude=1.0), PhotoFacts()),
        (PhotoFacts(rating=2**15, utc_offset_minutes=-(2**31)), PhotoFacts()),
        (PhotoFacts(rating=-(2**80), utc_offset_minutes=2**80), PhotoFacts()),
        (
            PhotoFacts(capture=Capture(math.inf, math.nan, 2**63, -math.inf, 1e308)),
            PhotoFacts(capture=Capture(altitude_m=1e308)),
        ),
        (PhotoFacts(taken_at=datetime.max), PhotoFacts(taken_at=datetime.max)),
        (PhotoFacts(taken_at=datetime.min), PhotoFacts(taken_at=datetime.min)),
    ],
)
def test_facts_that_a_database_refuses_are_left_out(
    home: Home, facts: PhotoFacts, stored: PhotoFacts
) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a", facts=facts)
    assert stored_facts(home, b"/p/a.jpg") == stored


@pytest.mark.parametrize(
    "change", [{"width": 2**80}, {"height": 2**63}, {"format": "a\ud800"}, {"format": "\udcff"}]
)
def test_an_unstorable_value_is_an_error_of_its_photograph(
    home: Home, change: dict[str, Any]
) -> None:
    bad = dataclasses.replace(header("b"), **change)
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        before = home.counts()
        with pytest.raises(UnstorableValue, match="can't store"):
            writer.save([AnalysedFile(stamp("/p/b.jpg"), bad, PhotoFacts(), analysis("b"))])
        assert home.counts() == before
        save(writer, "/p/c.jpg", "c")
    assert home.findings() == []


def test_a_path_too_long_for_an_index_is_an_error_of_its_photograph(
    home: Home, backend: str
) -> None:
    path = b"/p/" + np.random.default_rng(1).bytes(6000).replace(b"\0", b"1")
    refused = pytest.raises(UnstorableValue, match="index row size")
    with home.writing() as writer, refused if backend == "postgresql" else nullcontext():
        writer.fail(stamp(path), "it is damaged")


def test_stamps_round_trip_and_are_clamped_to_64_bits(home: Home) -> None:
    stamps = [
        FileStamp(b"/p/1", 0, -1),
        FileStamp(b"/p/2", 2**62, 2**62, "size=1 mtime=2"),
        FileStamp(b"/p/3", 2**80, 2**80),
        FileStamp(b"/p/4", 1, -(2**80)),
    ]
    assert (stamps[2].size, stamps[2].mtime_ns) == (2**63 - 1, 2**63 - 1)
    with home.writing() as writer:
        for index, wanted in enumerate(stamps):
            writer.save(
                [AnalysedFile(wanted, header(str(index)), PhotoFacts(), analysis(str(index)))]
            )
        assert [asset.stamp for asset in writer.known_assets(b"/")] == stamps


def test_paths_keep_their_bytes(home: Home) -> None:
    path = b"/p/caf\xe9 50%\\_/\xff\xfe\n\xc3\xa9.jpg"
    with home.writing() as writer:
        save(writer, path, "a")
        (asset,) = writer.known_assets(b"/p/caf\xe9 50%\\_")
        assert asset.stamp.path == path
    (content,) = home.rows(schema.content)
    ((view,),) = home.searching().hit_records([content.id], [], EVERYTHING).assets.values()
    assert view.path == path
    assert view.uri == "/p/caf%E9 50%\\_/%FF%FE\né.jpg"


PATHS = [
    b"/a/B/z.jpg",
    b"/a/b",
    b"/a/b-c.jpg",
    b"/a/b.jpg",
    b"/a/b/1.jpg",
    b"/a/b/c/2.jpg",
    b"/a/b/\xff\xff",
    b"/a/b0",
    b"/a/b0/x.jpg",
    b"/a/bc",
    b"/a/bc/3.jpg",
    b"/a/\xe9/4.jpg",
    b"/a/%/5.jpg",
    b"/a/_/6.jpg",
    b"/0.jpg",
    b"0",
]


@pytest.mark.parametrize(
    ("root", "wanted"),
    [
        (b"/a/b", [b"/a/b", b"/a/b/1.jpg", b"/a/b/c/2.jpg", b"/a/b/\xff\xff"]),
        (b"/a/b/c/2.jpg", [b"/a/b/c/2.jpg"]),
        (b"/a/%", [b"/a/%/5.jpg"]),
        (b"/a/_", [b"/a/_/6.jpg"]),
        (b"/a/\xe9", [b"/a/\xe9/4.jpg"]),
        (b"/a/b/\xff\xff", [b"/a/b/\xff\xff"]),
        (b"/", sorted(path for path in PATHS if path.startswith(b"/"))),
        (b"/nowhere", []),
    ],
)
def test_known_assets_lie_at_or_below_a_root(home: Home, root: bytes, wanted: list[bytes]) -> None:
    with home.writing() as writer:
        save(writer, PATHS[0], "a", regions=0)
        for path in PATHS[1:]:
            attach(writer, path, "a")
        assert known_paths(writer, root) == wanted


def test_known_assets_are_read_page_by_page(home: Home) -> None:
    """First exactly one page, then a page and a bit."""
    with home.writing() as writer:
        save(writer, "/p/0000.jpg", "a", regions=0)
        (row,) = home.rows(schema.asset)
        written = {c.name for c in schema.asset.c if c.server_default is None and c.name != "id"}
        template = {name: value for name, value in row._mapping.items() if name in written}
        paths = [b"/p/%04d.jpg" % number for number in range(2100)]

        def add(some: list[bytes]) -> None:
            with home.catalog.database.writing() as connection:
                connection.execute(
                    insert(schema.asset),
                    [{**template, "path": path, "uri": path.decode()} for path in some],
                )

        add(paths[1:2000])
        assert known_paths(writer) == paths[:2000]
        add(paths[2000:])
        assert known_paths(writer) == paths
        assert known_paths(writer, b"/p") == paths
        known = writer.known_assets(b"/p")
        assert next(known).stamp.path == paths[0]
        assert writer.remove(list(known)) == 2099
        assert home.counts()["content"] == 1
        assert writer.remove(list(writer.known_assets(b"/p"))) == 1
    assert {**home.counts(), "change": 0} == NOTHING
    assert home.findings() == []


def test_an_asset_without_an_analysis_of_the_live_pipeline_counts_as_changed(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        home.execute(schema.analysis.delete())
        assert [one.stamp.size for one in writer.known_assets(b"/")] == [-1]
        assert not writer.is_analysed(header("a").sha256)


def test_remove_leaves_what_has_moved_since(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        (asset,) = writer.known_assets(b"/")
        attach(writer, "/q/a.jpg", "a", moved_from=asset.id)
        assert writer.remove([asset]) == 0
        assert writer.remove([KnownAsset(99, stamp("/p/none"), None)]) == 0
        assert known_paths(writer) == [b"/q/a.jpg"]


def test_nothing_is_written_without_the_lease(home: Home) -> None:
    with pytest.raises(RuntimeError, match="lease"):
        save(home.writer(), "/p/a.jpg", "a")
    assert home.counts() == NOTHING


def test_a_collection_is_made_by_its_first_asset(home: Home) -> None:
    """A misspelt name in `remove` must not leave an empty collection behind."""
    with home.writing("typo") as writer:
        assert list(writer.known_assets(b"/")) == []
        assert not writer.is_analysed(header("a").sha256)
        assert writer.failures([b"/"]) == []
        assert writer.remove([]) == 0
    assert home.rows(schema.collection) == []


def test_rows_keep_the_order_of_the_analysis(home: Home) -> None:
    """Ids ascend with the positions in the lists, past what one INSERT statement takes."""
    home.save("/p/a.jpg", "a", regions=1500)
    regions = {row.ordinal: row for row in home.rows(schema.region)}
    assert [regions[index].score for index in range(1500)] == [
        1 / (1 + index) for index in range(1500)
    ]
    search = home.searching()
    for ordinal in (0, 1, 777, 1499):
        (vector,) = search.region_vectors(regions[ordinal].id).vectors.values()
        np.testing.assert_array_equal(
            vector, unit(("a", "region", ordinal)).astype(np.float16).astype(np.float32)
        )


def test_contents_share_a_transaction_and_its_statements(home: Home) -> None:
    statements: list[str] = []

    def note(conn: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def files(first: int, count: int) -> list[AnalysedFile]:
        facts = PhotoFacts(keywords=("red", "blue"))
        return [
            AnalysedFile(stamp(f"/p/{n}.jpg"), header(str(n)), facts, analysis(str(n)))
            for n in range(first, first + count)
        ]

    counts = []
    with home.writing() as writer:
        save(writer, "/p/first.jpg", "first")
        event.listen(home.catalog.database.engine, "before_cursor_execute", note)
        for first, count in ((0, 2), (2, 20)):
            statements.clear()
            writer.save(files(first, count))
            counts.append(len(statements))
        event.remove(home.catalog.database.engine, "before_cursor_execute", note)
    assert counts[0] == counts[1]
    assert home.findings() == []
    assert home.counts()["embedding"] == 3 * 23
    # Nothing of a transaction stays when one of its contents can't be stored.
    bad = Analysis((), (), (Embedding(IMAGE.space, Kind.IMAGE, np.full(D, np.nan, np.float32)),))
    before = home.counts()
    good, other = files(100, 2)
    with home.writing() as writer, pytest.raises(ModelError, match="not normalised"):
        writer.save([good, dataclasses.replace(other, analysis=bad)])
    assert home.counts() == before


def test_masks_are_coco_counts_compressed_where_that_is_shorter(home: Home) -> None:
    pixels = np.random.default_rng(1).random((30, 40)) < 0.5
    long = encode_mask(pixels | (np.arange(40) < 20))
    short = mask_from_box(30, 40, Box(1, 1, 3, 4))
    regions = tuple(
        Region(Box(0, 0, 40, 30), mask, 1, score) for mask, score in ((long, 0.9), (short, 0.8))
    )
    with home.writing() as writer:
        made = Analysis(regions, (), (Embedding(IMAGE.space, Kind.IMAGE, unit("a")),))
        writer.save([AnalysedFile(stamp("/p/a.jpg"), header("a"), PhotoFacts(), made)])
    with home.catalog.database.reading() as connection:
        stored = connection.exec_driver_sql("SELECT mask FROM region ORDER BY id").scalars()
        first, second = (bytes(mask) for mask in stored)
    assert len(first) < len(long.counts)
    assert zlib.decompress(first) == long.counts
    assert second == short.counts
    assert [row.mask for row in home.rows(schema.region)] == [long.counts, short.counts]


def test_vectors_are_little_endian_float16(home: Home) -> None:
    home.save("/p/a.jpg", "a", regions=0)
    wanted = unit(("a", "image")).astype("<f2")
    stored = {row.vector for row in home.vectors()}
    assert wanted.tobytes() in stored
    assert {len(vector) for vector in stored} == {2 * D}
    # One number spelt out: 1.0 is 0x3C00, low byte first.
    with home.writing() as writer:
        vector = np.zeros(D, dtype=np.float32)
        vector[0] = 1.0
        made = Analysis((), (), (Embedding(IMAGE.space, Kind.IMAGE, vector),))
        writer.save([AnalysedFile(stamp("/p/b.jpg"), header("b"), PhotoFacts(), made)])
    assert b"\x00\x3c" + b"\0" * (2 * D - 2) in {row.vector for row in home.vectors()}


@pytest.mark.parametrize(
    "vector",
    [
        np.full(D, np.nan, dtype=np.float32),
        np.full(D, np.inf, dtype=np.float32),
        np.full(D, 1.0, dtype=np.float32),
        np.full(D, 1e30, dtype=np.float32),
        np.zeros(D - 1, dtype=np.float32),
        np.zeros((1, D), dtype=np.float32),
    ],
)
def test_a_vector_that_an_index_would_refuse_is_not_stored(home: Home, vector: np.ndarray) -> None:
    made = Analysis((), (), (Embedding(IMAGE.space, Kind.IMAGE, vector),))
    with home.writing() as writer, pytest.raises(ModelError, match="a model gave a vector"):
        writer.save([AnalysedFile(stamp("/p/a.jpg"), header("a"), PhotoFacts(), made)])
    assert home.counts() == NOTHING


def test_a_catalog_opens_again(home: Home) -> None:
    home.save("/p/a.jpg", "a")
    with open_home(home.url, home.folder) as again:
        assert again.catalog.uuid == home.catalog.uuid
        assert again.pipeline == home.pipeline
        assert again.catalog.live_pipeline() == home.pipeline
        assert again.counts() == home.counts()
