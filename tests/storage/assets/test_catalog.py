"""The catalog as the indexer writes it: one transaction a content, and nothing half-visible."""

from __future__ import annotations

import dataclasses
import os

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
from sqlalchemy import event, insert
from sqlalchemy.exc import DBAPIError

from regard.core.catalog import AnalysedFile, Failure, KnownAsset
from regard.core.errors import HomeError, ModelError
from regard.core.facts import PhotoFacts
from regard.core.records import Analysis, Embedding, Kind
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


def test_known_assets_lie_at_or_below_a_root(home: Home) -> None:
    with home.writing() as writer:
        save(writer, PATHS[0], "a", regions=0)
        for path in PATHS[1:]:
            attach(writer, path, "a")
        for root, wanted in (
            (b"/a/b", [b"/a/b", b"/a/b/1.jpg", b"/a/b/c/2.jpg", b"/a/b/\xff\xff"]),
            (b"/a/b/c/2.jpg", [b"/a/b/c/2.jpg"]),
            (b"/a/%", [b"/a/%/5.jpg"]),
            (b"/a/_", [b"/a/_/6.jpg"]),
            (b"/a/\xe9", [b"/a/\xe9/4.jpg"]),
            (b"/a/b/\xff\xff", [b"/a/b/\xff\xff"]),
            (b"/", sorted(path for path in PATHS if path.startswith(b"/"))),
            (b"/nowhere", []),
        ):
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
