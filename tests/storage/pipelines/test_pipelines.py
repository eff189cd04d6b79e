"""Which pipeline is live: the first, until another is built beside it and takes its place; one
only."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from catalog_samples import SPEC, D, Home, analysis, attach, header, save, save_all, stamp
from sqlalchemy import update

from regard.core.catalog import AnalysedFile, Failure, WaitingContent
from regard.core.errors import CannotWork, Conflict, LeaseHeld, NotFound, PipelineConflict
from regard.core.facts import PhotoFacts
from regard.core.records import Analysis, Space
from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.database import schema
from regard.storage.database.lease import hold_writer_lease
from regard.storage.database.stored_pipelines import StoredPipeline, check_pipeline
from regard.storage.pipelines.pruning import prune, serving_mark
from regard.storage.pipelines.reindexing import SqlReindexing
from regard.storage.pipelines.states import PipelineState, read_pipelines, roll_back
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.retrieval.search_catalog import SqlSearchCatalog
from regard.storage.retrieval.verification import verify_catalog

# Another encoder, of as many numbers.
NEW = replace(SPEC, profile="new", spaces=(Space("joint-9", D),), models={"encoder": "sample@9"})
OTHER = replace(SPEC, profile="other", spaces=(Space("joint-2", 5), Space("looks-2", 3)))


def test_a_pipeline_that_made_nothing_gives_way_to_another(home: Home) -> None:
    other = home.catalog.make_live(OTHER)
    assert home.catalog.live_pipeline() == other
    check_pipeline(other, OTHER)
    assert {(c.channel.space, c.dimension) for c in other.channels.values()} == {
        ("joint-2", 5),
        ("looks-2", 3),
    }
    # And back: the pipeline and its channels are those of before.
    assert home.catalog.make_live(SPEC) == home.pipeline == home.catalog.live_pipeline()


def test_a_pipeline_that_made_something_stays(home: Home) -> None:
    home.save("/a.jpg", "a")
    assert home.catalog.make_live(OTHER) == home.pipeline
    with home.writing() as writer:
        assert writer.remove(list(writer.known_assets(b"/a.jpg"))) == 1
    assert home.counts()["analysis"] == 0
    assert home.catalog.make_live(OTHER).profile == "other"


def test_a_pipeline_that_is_being_written_with_stays(home: Home) -> None:
    with home.writing() as writer:
        assert home.catalog.make_live(OTHER) == home.pipeline
        save(writer, "/a.jpg", "a")
    assert home.catalog.live_pipeline() == home.pipeline


def test_what_was_opened_before_a_change_writes_nothing_after_it(home: Home) -> None:
    before = SqlIndexingCatalog(home.catalog, home.pipeline, "default")
    other = home.catalog.make_live(OTHER)
    with pytest.raises(PipelineConflict, match="other models than sample"), before.writer_lease():
        raise AssertionError("not reached")
    with SqlIndexingCatalog(home.catalog, other, "default").writer_lease():
        pass


def test_what_is_built_beside_changes_nothing_until_all_is_there(home: Home) -> None:
    for name in "abc":
        home.save(f"/{name}.jpg", name)
    before = home.indexes()
    before.catch_up()
    with building(home) as builder:
        assert builder.count() == 3
        first, second, third = builder.waiting(0, 10)
        assert first.paths == (b"/a.jpg",)
        assert [one.id for one in builder.waiting(first.id, 1)] == [second.id]
        for one in (first, second):
            assert builder.save([one], [newly(one.sha256)])
        assert [one.id for one in builder.waiting(0, 10)] == [third.id]
        assert not builder.go_live()
        assert home.catalog.live_pipeline() == home.pipeline
        assert before.verify() == []
        assert states(home) == [("sample", PipelineState.LIVE, 3, 0), ("new", "unfinished", 2, 1)]
        builder.save([third], [newly("c")])
        assert builder.go_live()
        # As after a crash between the switch and the word of it.
        assert builder.go_live()
    assert home.catalog.live_pipeline() == builder.pipeline
    assert states(home) == [("new", PipelineState.LIVE, 3, 0), ("sample", "kept", 3, 0)]
    assert findings(home, builder.pipeline) == []
    assert before.verify() == []
    told = home.rows(schema.asset_change)[-3:]
    assert {(row.asset_id, row.kind) for row in told} == {(n, "changed") for n in (1, 2, 3)}
    with pytest.raises(PipelineConflict, match="other models"), home.writing():
        raise AssertionError("not reached")


def test_what_comes_and_goes_during_the_build_is_met(home: Home) -> None:
    for name in "abc":
        home.save(f"/{name}.jpg", name)
    with building(home) as builder:
        first, second, _ = builder.waiting(0, 10)
        builder.save([first], [newly("a")])
        with home.writing() as writer:
            writer.remove(list(writer.known_assets(b"/a.jpg")))
            writer.remove(list(writer.known_assets(b"/b.jpg")))
            save(writer, "/d.jpg", "d")
            attach(writer, "/moved.jpg", "c", moved_from=3)
        assert not builder.save([second], [newly("b")])
        builder.fail(second, "it is gone")
        assert [one.paths for one in builder.waiting(0, 10)] == [(b"/moved.jpg",), (b"/d.jpg",)]
        finish(builder)
        assert builder.go_live()
    assert findings(home, builder.pipeline) == []
    assert home.counts()["analysis"] == 4


def test_what_can_not_be_analysed_holds_nothing_up_and_counts_as_new(home: Home) -> None:
    home.save("/a.jpg", "a")
    home.save("/b.jpg", "b")
    with building(home) as builder:
        first, second = builder.waiting(0, 10)
        builder.save([first], [newly("a")])
        builder.fail(second, "its file has vanished\0")
        assert builder.count() == 0
        told = [Failure("/b.jpg", "its file has vanished\ufffd")]
        assert builder.failures() == told
    with building(home, retry_failed=False) as builder:
        assert (builder.count(), builder.failures()) == (0, told)
    # It may be there again when the next builder looks.
    with building(home) as builder:
        assert builder.failures() == []
        assert [one.id for one in builder.waiting(0, 10)] == [second.id]
        builder.fail(second, "its file has vanished")
        assert builder.go_live()
    assert findings(home, builder.pipeline) == []
    assert [one.failed for one in read_pipelines(home.catalog)] == [1, 0]
    writer = SqlIndexingCatalog(home.catalog, builder.pipeline, "default")
    with writer.writer_lease():
        assert [one.stamp.size for one in writer.known_assets(b"/")] == [100, -1]
        writer.save([AnalysedFile(stamp("/b.jpg"), header("b"), PhotoFacts(), newly("b"))])
        assert [one.stamp.size for one in writer.known_assets(b"/")] == [100, 100]
    assert [one.failed for one in read_pipelines(home.catalog)] == [0, 0]


@pytest.mark.parametrize(
    ("total", "lost", "lives"),
    [(1, 1, False), (2, 1, True), (24, 11, False), (110, 11, True)],
)
def test_a_pipeline_that_would_lose_many_photographs_does_not_go_live(
    home: Home, total: int, lost: int, lives: bool
) -> None:
    """As when their disk is not there, or a model takes none of them."""
    with home.writing() as writer:
        save_all(writer, [(f"/{number}.jpg", f"{number}", 2) for number in range(total)])
    with building(home) as builder:
        for number, waiting in enumerate(builder.waiting(0, total)):
            if number < lost:
                builder.fail(waiting, "no photograph lies there any more")
            else:
                builder.save([waiting], [newly(waiting.sha256)])
        if lives:
            assert builder.go_live()
        else:
            with pytest.raises(CannotWork, match=f"{lost} of {total} .* lies there any more"):
                builder.go_live()
    live = home.catalog.live_pipeline()
    assert live == (builder.pipeline if lives else home.pipeline)
    # Once repaired, it continues with only those.
    with building(home) as builder:
        if not lives:
            assert builder.count() == lost
            finish(builder)
        assert builder.go_live()


def test_the_switch_waits_for_who_indexes_and_builders_for_each_other(home: Home) -> None:
    home.save("/a.jpg", "a")
    with building(home) as builder:
        with pytest.raises(LeaseHeld, match="is reindexing"), building(home):
            raise AssertionError("not reached")
        finish(builder)
        with home.writing() as writer:
            with pytest.raises(LeaseHeld, match="is indexing"):
                builder.go_live()
            save(writer, "/b.jpg", "b")
        assert not builder.go_live()
        finish(builder)
        assert builder.go_live()
    with pytest.raises(RuntimeError):
        builder.fail(first_content(home), "late")


def test_a_builder_that_was_taken_over_writes_nothing(home: Home) -> None:
    home.save("/a.jpg", "a")
    with building(home) as builder:
        waiting = builder.waiting(0, 1)[0]
        home.execute(update(schema.lease).where(schema.lease.c.name == "builder").values(token="x"))
        with pytest.raises(LeaseHeld):
            builder.save([waiting], [newly("a")])
        with pytest.raises(LeaseHeld):
            builder.go_live()
    assert home.catalog.live_pipeline() == home.pipeline
    assert home.counts()["analysis"] == 1


def test_going_back_and_forth(home: Home) -> None:
    home.save("/a.jpg", "a")
    with pytest.raises(Conflict, match="keeps no former models"):
        roll_back(home.catalog, at_once=True)
    new = switched(home)
    assert roll_back(home.catalog, at_once=False).is_live
    assert home.catalog.live_pipeline() == home.pipeline
    assert roll_back(home.catalog, at_once=False).pipeline == new
    assert home.catalog.live_pipeline() == new


def test_going_back_tells_what_would_be_missing(home: Home) -> None:
    home.save("/a.jpg", "a")
    new = switched(home)
    writer = SqlIndexingCatalog(home.catalog, new, "later")
    with writer.writer_lease():
        writer.save([AnalysedFile(stamp("/b.jpg"), header("b"), PhotoFacts(), newly("b"))])
    found = roll_back(home.catalog, at_once=False)
    assert (found.missing, found.collections, found.is_live) == (1, ("later",), False)
    assert home.catalog.live_pipeline() == new
    found = roll_back(home.catalog, at_once=True)
    assert (found.missing, found.is_live) == (1, True)
    assert home.catalog.live_pipeline() == home.pipeline
    # Forth and back again, it is missing still.
    assert roll_back(home.catalog, at_once=False).is_live
    found = roll_back(home.catalog, at_once=False)
    assert (found.missing, found.is_live) == (1, False)
    assert roll_back(home.catalog, at_once=True).missing == 1
    # It counts as new, and nothing as broken.
    assert findings(home, home.pipeline) == []
    with home.writing("later") as again:
        assert [one.stamp.size for one in again.known_assets(b"/")] == [-1]
        save(again, "/b.jpg", "b")
    assert roll_back(home.catalog, at_once=False).is_live


def test_rolling_back_waits_for_nobody(home: Home) -> None:
    home.save("/a.jpg", "a")
    new = switched(home)
    with (
        SqlIndexingCatalog(home.catalog, new, "default").writer_lease(),
        pytest.raises(LeaseHeld, match="is indexing"),
    ):
        roll_back(home.catalog, at_once=False)
    assert home.catalog.live_pipeline() == new


def test_pruning_leaves_nothing_of_a_pipeline_and_all_of_the_others(home: Home) -> None:
    for name in "abc":
        home.save(f"/{name}.jpg", name)
    former = home.indexes()
    former.catch_up()
    former.snapshot()
    new = switched(home)
    kept = home.folder / home.pipeline.fingerprint[:16]
    assert kept.is_dir()
    live = ChannelIndexes(home.catalog, new, home.engine())
    live.catch_up()
    live.snapshot()
    with pytest.raises(PipelineConflict, match="is the live one"):
        prune(home.catalog, home.engine(), [new.fingerprint])
    with pytest.raises(NotFound):
        prune(home.catalog, home.engine(), ["0000"])
    long_ago(home)
    # Halfway: what it made of contents is gone, and its log is not.
    stopped = iter([False, False, False, True])
    assert prune(home.catalog, home.engine(), should_stop=lambda: next(stopped, True)) == []
    assert states(home)[1][1] is PipelineState.DELETING
    assert findings(home, new) == []
    with pytest.raises(Conflict):
        roll_back(home.catalog, at_once=True)
    with pytest.raises(PipelineConflict, match="being deleted"):
        home.catalog.ensure_pipeline(SPEC)
    assert prune(home.catalog, home.engine()) == [home.pipeline.fingerprint]
    assert prune(home.catalog, home.engine()) == []
    assert not kept.exists()
    assert states(home) == [("new", PipelineState.LIVE, 3, 0)]
    of_old = [stored.id for stored in home.pipeline.channels.values()]
    for table in (schema.analysis, schema.region, schema.caption, schema.embedding):
        assert {row.pipeline_id for row in home.rows(table)} == {new.id}, table
    assert not [row for row in home.rows(schema.change) if row.channel_id in of_old]
    assert findings(home, new) == []
    assert ChannelIndexes(home.catalog, new, home.engine()).verify() == []


def test_pruning_spares_what_a_server_answers_from_and_what_is_built(home: Home) -> None:
    home.save("/a.jpg", "a")
    unfinished = home.catalog.ensure_pipeline(NEW)
    with building(home) as builder:
        builder.save([builder.waiting(0, 1)[0]], [newly("a")])
        with pytest.raises(LeaseHeld, match="is reindexing"):
            prune(home.catalog, home.engine(), unfinished=True)
    assert prune(home.catalog, home.engine()) == []
    with (
        hold_writer_lease(home.catalog.database, f"{serving_mark(unfinished.id)}x"),
        pytest.raises(Conflict, match="still uses"),
    ):
        prune(home.catalog, home.engine(), unfinished=True)
    assert prune(home.catalog, home.engine(), unfinished=True) == [NEW.fingerprint]
    assert findings(home, home.pipeline) == []


def test_a_region_is_of_the_pipeline_that_found_it(home: Home) -> None:
    home.save("/a.jpg", "a")
    old = home.rows(schema.region)[0].id
    new = switched(home)
    assert home.searching().region_vectors(old).vectors
    with pytest.raises(NotFound):
        SqlSearchCatalog(home.catalog, new).region_vectors(old)
    with pytest.raises(NotFound):
        SqlAssetReading(home.catalog, new).region(old)


@contextmanager
def building(home: Home, *, retry_failed: bool = True) -> Iterator[SqlReindexing]:
    builder = SqlReindexing(home.catalog, NEW)
    with builder.builder_lease(retry_failed=retry_failed):
        yield builder


def finish(builder: SqlReindexing) -> None:
    for waiting in builder.waiting(0, 100):
        assert builder.save([waiting], [newly(waiting.sha256)])


def switched(home: Home) -> StoredPipeline:
    with building(home) as builder:
        finish(builder)
        assert builder.go_live()
    return builder.pipeline


def newly(name: str) -> Analysis:
    """What the new pipeline says of a content."""
    said = analysis(name, 3)
    return replace(said, embeddings=tuple(replace(one, space="joint-9") for one in said.embeddings))


def long_ago(home: Home) -> None:
    """Have the last switch lie so far back that every server has noticed it."""
    home.execute(
        update(schema.pipeline)
        .where(schema.pipeline.c.replaced_at.is_not(None))
        .values(replaced_at=datetime.datetime(2020, 1, 1))
    )


def states(home: Home) -> list[tuple[str, PipelineState, int, int]]:
    return [
        (one.profile, one.state, one.analysed, one.missing) for one in read_pipelines(home.catalog)
    ]


def findings(home: Home, live: StoredPipeline) -> list[str]:
    return [finding.message for finding in verify_catalog(home.catalog, live)]


def first_content(home: Home) -> WaitingContent:
    row = home.rows(schema.content)[0]
    return WaitingContent(row.id, row.sha256, row.width, row.height, ())
