"""`regard serve --import DIR --watch`: changes become jobs, and jobs survive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_library import Library, write_photo
from made_server import Server

from regard.api.client import Client

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 200.0


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path, count=4)
    return made


@pytest.fixture
def server(library: Library) -> Iterator[Server]:
    with Server(library.home, "--import", library.photos, "--watch") as made:
        with Client(made.url) as client:
            _until(lambda: [job.state for job in client.jobs.list().items] == ["done"])
        yield made


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _names(library: Library) -> set[str]:
    return set(library.asset_ids())


def _are_equal(library: Library) -> bool:
    files = (path for path in library.photos.rglob("*.png"))
    return _names(library) == {os.path.relpath(path, library.photos) for path in files}


def test_changes_become_few_jobs_that_search_shows(library: Library, server: Server) -> None:
    ids = library.asset_ids()
    prepared = library.photos.parent / "prepared"
    for number in range(120):
        write_photo(prepared / f"{number}.png", 100 + number)
    prepared.rename(library.photos / "many")
    (library.photos / "0.png").rename(library.photos / "many" / "moved.png")
    (library.photos / "1.png").unlink()
    _until(lambda: _are_equal(library))
    assert library.asset_ids()["many/moved.png"] == ids["0.png"]
    with Client(server.url) as client:
        _until(lambda: all(job.state == "done" for job in client.jobs.list().items))
        jobs = [job for job in client.jobs.list().items if job.changed]
        assert {job.kind for job in jobs} == {"import"}
        assert {job.collection.name for job in jobs if job.collection} == {"default"}
        # Some may have found the folder while it was being filled.
        assert 1 <= len(jobs) <= 3
        assert sum(job.report["moved"] for job in jobs if job.report) == 1
        assert sum(job.report["removed"] for job in jobs if job.report) == 1


def test_a_killed_worker_or_server_misses_nothing(library: Library, server: Server) -> None:
    (worker,) = server.workers()
    library.photo("first.png", 50)
    worker.kill()
    (library.photos / "0.png").unlink()
    _until(lambda: _are_equal(library))
    library.photo("second.png", 51)
    _until(lambda: _are_equal(library))
    server.kill()
    (library.photos / "2.png").rename(library.photos / "while-away.png")
    server.start()
    _until(lambda: _are_equal(library))
    library.photo("third.png", 52)
    _until(lambda: _are_equal(library))
    library.verify()


def test_what_was_removed_by_a_person_stays_removed(library: Library, server: Server) -> None:
    assert library.run("remove", library.photos / "0.png").code == 0
    os.utime(library.photos / "0.png")
    library.photo("new.png", 60)
    _until(lambda: "new.png" in _names(library))
    assert "0.png" not in _names(library)


def test_watching_needs_a_folder(library: Library) -> None:
    library.run("serve", "--watch").expect_sentence(2, "--watch needs --import")
    folder = ("--import", library.photos)
    library.run("serve", *folder, "--poll").expect_sentence(2, "--poll needs --watch")
