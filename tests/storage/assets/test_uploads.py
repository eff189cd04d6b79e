"""Uploads on both databases: twins, external ids, races, and what waits for analysis."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from catalog_samples import analysis, header, on_sqlite
from made_assets import STORE, Assets, edited, place
from sqlalchemy import update

from regard.core.assets import AssetOrder, AssetState
from regard.core.catalog import AnalysedFile, FileStamp
from regard.core.errors import NameTaken
from regard.core.facts import PhotoFacts
from regard.core.filters import AssetFilter
from regard.core.jobs import JobKind
from regard.storage.database import schema
from regard.storage.service.jobs import SqlJobQueue

# Uploads


@on_sqlite
def test_the_same_bytes_are_one_asset_of_a_collection(assets: Assets) -> None:
    first = assets.upload("p", external_id="x")
    again = assets.upload("p", external_id="x", title="other")
    elsewhere = assets.upload("p", "two", external_id="x")
    assert (first.status, again.status, elsewhere.status) == ("created", "existing", "created")
    assert first.asset == again.asset != elsewhere.asset
    assert assets.record(first.asset).title is None
    assert assets.record(first.asset).content_id == assets.record(elsewhere.asset).content_id


def test_an_external_id_names_one_asset_of_a_collection(assets: Assets) -> None:
    first = assets.upload("p", external_id="x").asset
    for taken in (
        lambda: assets.upload("q", external_id="x"),
        lambda: assets.editing.edit(assets.upload("r").asset, edited(external_id="x")),
        lambda: assets.upload("r", external_id="x"),
    ):
        with pytest.raises(NameTaken):
            taken()
    second = assets.upload("s", external_id="y").asset
    with pytest.raises(NameTaken):
        assets.upload("p", external_id="y")
    assert [asset.external_id for asset in assets.reading.page(order=AssetOrder.FIRST_ADDED)] == [
        "x", None, "y",
    ]  # fmt: skip
    assert assets.record(second).external_id == "y"
    # Of the asset in the trash it is too: it may come back.
    assets.editing.trash([first])
    with pytest.raises(NameTaken):
        assets.upload("q", external_id="x")
    assets.editing.purge_some()
    assert assets.upload("q", external_id="x").status == "created"


@on_sqlite
def test_an_upload_brings_its_twin_back_from_the_trash(assets: Assets) -> None:
    asset = assets.upload("p").asset
    assets.analyse()
    assets.editing.trash([asset])
    position = assets.position()
    again = assets.upload("p")
    assert (again.asset, again.status) == (asset, "restored")
    assert assets.events(position) == [("added", asset)]
    assert assets.record(asset).state is AssetState.INDEXED
    assert assets.uploads.waiting_originals("one") == []


@on_sqlite
@pytest.mark.parametrize("trashed", [False, True])
def test_an_upload_that_failed_keeps_what_people_said_of_it(assets: Assets, trashed: bool) -> None:
    asset = assets.upload("p", external_id="x", tags=["t"], custom={"a": 1}).asset
    assets.analyse(but=["p"])
    assert assets.record(asset).state is AssetState.FAILED
    if trashed:
        assets.editing.trash([asset])
    position = assets.position()
    again = assets.upload("p", external_id="x")
    assert (again.asset, again.status) == (asset, "restored" if trashed else "existing")
    assert assets.events(position) == [("added" if trashed else "changed", asset)]
    record = assets.record(asset)
    assert (record.state, record.tags, record.custom, record.external_id) == (
        AssetState.PENDING, ("t",), {"a": 1}, "x",
    )  # fmt: skip
    assets.analyse()
    assert assets.record(asset).state is AssetState.INDEXED


@on_sqlite
def test_a_managed_file_that_was_lost_is_there_again_after_an_upload(assets: Assets) -> None:
    asset = assets.upload("p", mtime_ns=1_000).asset
    assert assets.upload("p", mtime_ns=2_000).status == "existing"
    assert assets.record(asset).mtime_ns == 2_000


@on_sqlite
@pytest.mark.parametrize("sound", [True, False])
def test_an_imported_twin_counts_while_its_file_is_there(assets: Assets, sound: bool) -> None:
    """Else the bytes that were sent would be kept by nobody."""
    assets.home.save("/photos/p", "p", "one")
    imported = assets.reading.page()[0]
    asked: list[FileStamp] = []

    def is_sound(stamp: FileStamp) -> bool:
        asked.append(stamp)
        return sound

    upload = assets.uploads.upload
    made = upload("one", upload_of("p"), is_sound=is_sound)
    assert asked == [FileStamp(imported.path, imported.size, imported.mtime_ns)]
    assert (made.status, made.asset == imported.id) == ("existing" if sound else "created", sound)
    assert assets.uploads.needs(place("p")) is not sound


def upload_of(name: str) -> object:
    from regard.storage.assets.uploads import Upload

    return Upload(FileStamp(place(name), 100, 1), header(name), PhotoFacts(), file_name="p.jpg")


def test_uploads_at_once_make_one_asset(assets: Assets) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: assets.upload(f"p{number % 2}", "new"), range(16)))
    assert len({upload.asset for upload in made}) == 2
    assert Counter(upload.status for upload in made) == {"created": 2, "existing": 14}
    assert [asset.collection for asset in assets.reading.page()] == ["new", "new"]


def test_an_external_id_that_many_want_at_once_goes_to_one(assets: Assets) -> None:
    ids = [assets.upload(f"p{number}").asset for number in range(6)]

    def take(asset: int) -> bool:
        try:
            assets.editing.edit(asset, edited(external_id="x"))
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, ids)) == 1


def test_an_upload_waits_for_the_indexer_that_writes_the_same_content(assets: Assets) -> None:
    """On PostgreSQL it would find nothing, write the content too, and fail."""
    name, done = "p", threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with assets.home.catalog.database.writing() as connection:
            connection.execute(
                schema.content.insert().values(
                    sha256=header(name).sha256, format="jpeg", width=40, height=30
                )
            )
            connection.execute(schema.collection.insert().values(name="one"))
            future = pool.submit(lambda: (assets.upload(name), done.set())[0])
            assert not done.wait(0.3)
        assert future.result().status == "created"


def test_what_is_restored_in_time_is_not_purged(assets: Assets) -> None:
    asset = assets.upload("p").asset
    assets.analyse()
    assets.editing.trash([asset])
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with assets.home.catalog.database.writing() as connection:
            connection.execute(update(schema.asset).values(deleted_at=None))
            future = pool.submit(lambda: (assets.editing.purge_some(), done.set())[0])
            assert not done.wait(0.3)
        assert future.result().assets == 0
    assert assets.record(asset).state is AssetState.INDEXED


def test_what_is_trashed_while_it_is_analysed_is_told_as_removed_last(assets: Assets) -> None:
    """On PostgreSQL the indexer saw it alive, and would tell of a change after that."""
    ids = [assets.upload("p").asset, assets.upload("p", "two").asset]
    position = assets.position()
    writer, stamp = assets.writer("one"), FileStamp(place("p"), 100, 1_000)
    with ThreadPoolExecutor(2) as pool, writer.writer_lease():
        with assets.home.catalog.database.writing() as connection:
            # Somebody else is at the log: all but that is done of the one, when the other begins.
            connection.execute(update(schema.counter).values(value=schema.counter.c.value))
            trashed = pool.submit(assets.editing.trash, ids)
            # Time to come to the lock; a statement that waits for one has no event.
            time.sleep(0.2)
            file = AnalysedFile(stamp, header("p"), PhotoFacts(), analysis("p"))
            saved = pool.submit(writer.save, [file])
            time.sleep(0.2)
        saved.result()
        trashed.result()
    told = assets.events(position)
    assert [event for event in told if event[0] == "removed"] == told[-2:]


def test_an_upload_purged_while_it_is_analysed_does_not_come_back(assets: Assets) -> None:
    asset = assets.upload("p").asset
    other = assets.upload("q").asset
    assets.editing.trash([asset])
    assets.editing.purge_some()
    writer = assets.writer("one")
    with writer.writer_lease():
        stamp = FileStamp(place("p"), 100, 1_000)
        purged = AnalysedFile(stamp, header("p"), PhotoFacts(), analysis("p"))
        writer.save([purged])
        writer.fail(stamp, "it is gone")
        # Those that share a transaction with it are written all the same.
        stamp = FileStamp(place("q"), 100, 1_000)
        writer.save([purged, AnalysedFile(stamp, header("q"), PhotoFacts(), analysis("q"))])
    assert [record.id for record in assets.reading.page()] == [other]
    assert assets.home.counts()["analysis"] == 1
    assert assets.contents() == {header("q").sha256}
    assert assets.home.findings() == []


@on_sqlite
def test_what_waits_is_not_analysed_and_not_in_the_trash(assets: Assets) -> None:
    for name in ("a", "b", "c"):
        assets.upload(name)
    assets.upload("a", "two")
    trashed = assets.upload("d").asset
    assets.editing.trash([trashed])
    assert assets.uploads.waiting_originals("one") == [place(name) for name in "abc"]
    assets.analyse(but=["b"])
    assert assets.uploads.waiting_originals("one") == []
    assert assets.uploads.waiting_originals("one", failed=True) == [place("b")]
    assert assets.uploads.waiting_originals("one", analysed=True) == [place("a"), place("c")]
    # Another collection's job has seen it.
    assert assets.uploads.waiting_originals("two") == []
    assert assets.uploads.waiting_originals("nowhere") == []


@on_sqlite
def test_an_upload_that_failed_does_not_wait_where_nothing_is_analysed(assets: Assets) -> None:
    assets.upload("a")
    assets.analyse(but=["a"])
    assert assets.uploads.waiting_originals("one") == []
    assert assets.uploads.waiting_originals("one", failed=True) == [place("a")]


@on_sqlite
def test_uploads_that_no_job_saw_are_told(assets: Assets) -> None:
    """A server was killed between an upload and its job; one whose job was cancelled is not
    wanted."""
    jobs = SqlJobQueue(assets.home.catalog)
    assets.home.save("/photos/p", "imported", "one")
    assert assets.uploads.collections_without_job() == []
    trashed = assets.upload("t", "two").asset
    assets.editing.trash([trashed])
    assert assets.uploads.collections_without_job() == []
    assets.upload("a")
    assets.upload("b", "two")
    jobs.add(JobKind.IMPORT, "one", root="photos", path="")
    assert sorted(assets.uploads.collections_without_job()) == ["one", "two"]
    job = jobs.add(JobKind.UPLOAD, "one")
    assert assets.uploads.collections_without_job() == ["two"]
    jobs.cancel(job.id)
    assert assets.uploads.collections_without_job() == ["two"]
    assets.upload("c")
    assert sorted(assets.uploads.collections_without_job()) == ["one", "two"]
    assets.analyse("one")
    assets.analyse("two", but=["b"])
    assert assets.uploads.collections_without_job() == []


def test_a_store_that_was_moved_is_followed(assets: Assets) -> None:
    ids = [assets.upload(f"p{number}").asset for number in range(3)]
    assets.home.save("/photos/p", "p", "one")
    there = STORE.with_name("elsewhere")

    def path_of(sha256: str) -> bytes:
        return str(there / sha256).encode()

    later = {path_of(header("p1").sha256): 7_000}
    assert assets.uploads.relocate_originals(path_of, later.get) == 3
    assert assets.uploads.relocate_originals(path_of, later.get) == 0
    assert [assets.record(asset).mtime_ns for asset in ids] == [1_000, 7_000, 1_000]
    for number, asset in enumerate(ids):
        record = assets.record(asset)
        assert record.path == path_of(header(f"p{number}").sha256)
        assert record.uri == record.path.decode()
    assert len(assets.reading.page(AssetFilter(path_prefixes=(b"/photos",)))) == 1
    assert len(assets.reading.page(AssetFilter(path_prefixes=(str(there).encode(),)))) == 3
