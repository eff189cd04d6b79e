"""A server that ends during work: its jobs continue after the restart, once."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from made_library import regard
from made_server import Server
from made_service import Served, Shelf, png

from regard.core.catalog import FileStamp
from regard.photos.photo_file import PhotoFile
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.uploads import SqlUploads, Upload
from regard.storage.database.catalog import open_catalog
from regard.storage.files.originals import Originals

pytestmark = pytest.mark.slow

PHOTOS = 80


@pytest.fixture
def frail(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server that a test may end, on a database of its own."""
    url = None if backend == "sqlite" else request.getfixturevalue("postgres_url")()
    with contextlib.ExitStack() as opened:
        yield opened.enter_context(Served(tmp_path, url))


def expect_whole(served: Served, counts: dict[Shelf, int]) -> None:
    """Each photograph is there once, indexed, found, and all that is stored of it is sound."""
    for shelf, count in counts.items():
        assets = list(served.client.assets.iterate(shelf.within))
        assert len(assets) == count
        assert {asset.state for asset in assets} == {"indexed"}
        assert len({asset.file_name for asset in assets}) == count
        assert sorted(shelf.found()) == sorted(asset.id for asset in assets)
    total, held = sum(counts.values()), served.client.info().counts
    assert (held.assets, held.contents, held.regions) == (total, total, 4 * total)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served.environ.items():
            patch.setenv(name, value)
        outcome = regard("verify", "--home", served.home)
    assert outcome.code == 0, outcome


def store_without_job(served: Served, collection: str, data: bytes) -> None:
    """What a kill between the two commits of an upload leaves."""
    catalog = open_catalog(
        served.environ.get("REGARD_DATABASE_URL") or served.home / "catalog.sqlite3"
    )
    with Originals(served.home / "originals").incoming() as incoming:
        incoming.write(data)
        kept = incoming.keep()
        photo = PhotoFile(data)
        stamp = FileStamp(kept.path, kept.size, kept.mtime_ns)
        upload = Upload(stamp, photo.content(), photo.facts(), file_name="alone.png")
        SqlUploads(catalog).upload(collection, upload)
    catalog.close()


def test_jobs_continue_after_stops_and_kills(frail: Served) -> None:
    """An import in its midst, uploads that were answered and not begun, and one that lost its
    job."""
    shelf, lost = frail.shelf(), frail.shelf()
    folder = shelf.folder(**{f"p{number}": png(size=(8, 8)) for number in range(PHOTOS)})
    frail.gate.let(2)
    imported = shelf.bring(folder, wait=False)
    sent = [png(size=(8, 8)) for _ in range(20)]
    uploaded = shelf.client.assets.upload(
        *((f"sent {number}.png", data) for number, data in enumerate(sent)), collection=shelf.name
    )
    frail.until_done(imported, 16)
    frail.close_clients()
    # A worker ends after the batch that it is at.
    frail.gate.open(pause=0.5)
    frail.server.stop()
    alone = png(size=(8, 8))
    store_without_job(frail, lost.name, alone)
    # What came later may go first: three batches of what was sent, and the one that lost its job.
    frail.gate.let(6)
    frail.server.start()
    frail.client = frail.with_key(None)
    frail.until_done(imported, frail.client.jobs.get(imported.id).done + 16)
    frail.restart(kill=True)
    frail.gate.open()
    ended = frail.wait(imported)
    assert (ended.done, ended.failed) == (PHOTOS, 0)
    assert frail.wait(uploaded.job).done == 20
    jobs = list(frail.client.jobs.iterate())
    assert [job.collection.name for job in jobs] == [lost.name, shelf.name, shelf.name]
    frail.wait(jobs[0])
    assert sorted(frail.originals().values()) == sorted([*sent, alone])
    expect_whole(frail, {shelf: PHOTOS + len(sent), lost: 1})


def purge_without_files(served: Served, asset: str) -> None:
    """What a kill between the commit of a purge and its files leaves."""
    catalog = open_catalog(served.home / "catalog.sqlite3")
    editing = SqlAssetEditing(catalog)
    editing.trash([int(asset.removeprefix("a"))])
    assert editing.purge_some().assets == 1
    catalog.close()


def keep_without_row(served: Served, data: bytes) -> None:
    """What a kill between keeping an upload's file and the commit of its row leaves."""
    with Originals(served.home / "originals").incoming() as incoming:
        incoming.write(data)
        incoming.keep()
        [name] = (served.home / "originals" / "incoming").iterdir()
        # For this one goes with the block.
        os.link(name, name.with_name("0" * 32 + name.name[32:]))


def test_copied_homes_keep_their_uploads(tmp_path: Path) -> None:
    """And what kills left of a purge and an upload goes, but nothing else that no row names."""
    data = png()
    with Served(tmp_path, None) as served:
        [asset] = served.shelf("mine").add(data)
        [purged] = served.shelf("mine").add(png())
        for id in (asset.id, purged.id):
            served.client.assets.thumbnail(id)
        # As a catalog that is older than the folder would find it.
        unknown = served.home / "originals" / "ab" / "cd" / ("abcd" + 60 * "0")
        unknown.parent.mkdir(parents=True)
        unknown.write_bytes(b"of a later upload")
    purge_without_files(served, purged.id)
    keep_without_row(served, png())
    # That one has its passing name, too.
    assert len(served.originals()) == 5
    there = tmp_path / "elsewhere"
    there.mkdir()
    # As `cp -r` does: the files are as new.
    shutil.copytree(served.home, there / "home", copy_function=shutil.copyfile)
    shutil.rmtree(served.home)
    with Served(there, None) as served:
        assert sorted(served.originals().values()) == sorted([data, b"of a later upload"])
        assert [path.parent.name for path in (served.home / "thumbnails").glob("*/*/*")] == [
            asset.sha256
        ]
        shelf = served.shelf("mine")
        out = io.BytesIO()
        served.client.assets.original(asset.id, out)
        assert out.getvalue() == data
        assert served.client.assets.thumbnail(asset.id, 512)
        assert shelf.found() == [asset.id]
        assert shelf.send(data).items[0].status == "existing"
        job = served.wait(served.client.jobs.reindex("mine"))
        assert job.failed == 0
        served.client.assets.delete(asset.id)
        served.client.trash.empty()
        assert served.originals().keys() == {unknown.name}


def test_a_signal_ends_a_server_whose_request_cannot_be_interrupted(tmp_path: Path) -> None:
    """A write waits for another program's transaction, longer than the server is let live."""
    with Server(tmp_path) as server:
        file = sqlite3.connect(tmp_path / "catalog.sqlite3", isolation_level=None)
        file.execute("BEGIN IMMEDIATE")
        is_asked = threading.Event()

        def ask() -> None:
            with contextlib.suppress(httpx.TransportError):
                is_asked.set()
                httpx.post(f"{server.url}/v1/collections", json={"name": "x"}, timeout=100)
            is_ended.set()

        is_ended = threading.Event()
        asking = threading.Thread(target=ask)
        asking.start()
        assert is_asked.wait(60)
        assert not is_ended.wait(2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
        asking.join()
        # It ended before it could have written.
        file.execute("COMMIT")
        assert file.execute("SELECT count(*) FROM collection").fetchall() == [(0,)]
        file.close()
