"""Jobs of the whole home that are done in several turns: what they keep between them, and how they
end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_library import Library
from sqlalchemy import update

from regard.api.http.duplicate_lists import DuplicateLists
from regard.api.library import purging
from regard.api.library.home import open_home, open_home_catalog
from regard.api.library.reindexing import HomeJobs
from regard.api.library.settings import Settings
from regard.core.duplicates import DuplicateKind
from regard.core.errors import Conflict
from regard.core.filters import EVERYTHING
from regard.core.jobs import Job, JobKind, JobState
from regard.indexer.jobs import JobRunner
from regard.indexer.report import IndexReport, Progress
from regard.models.fake import FakeEncoder
from regard.storage.assets import editing
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.files.originals import Originals
from regard.storage.pipelines import pruning
from regard.storage.service.jobs import SqlJobQueue

PHOTOS = 6


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Some photographs by `fake`, one of which has gone since; `turned` takes them one by one."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "turned.toml").write_text(
        'description = "another"\nbatch_size = 1\n[encoder]\nkind = "fake"\n'
        "[encoder.parameters]\nturn = 5\n"
    )
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setattr(pruning, "_NOTICED_SECONDS", 0.0)
    made = Library(tmp_path, count=PHOTOS)
    made.index()
    (made.photos / "0.png").unlink()
    return made


@pytest.fixture
def catalog(library: Library) -> Iterator[Catalog]:
    with open_home_catalog(Settings.resolve(library.home, {}), make=False) as opened:
        yield opened


class InTurns:
    """Does a job by a function, in turns; each ends as soon as somebody asks so often."""

    def __init__(self, library: Library, catalog: Catalog, asked: int) -> None:
        self.queue = SqlJobQueue(catalog)
        self._asked = asked
        self._home = contextlib.ExitStack()
        settings = Settings.resolve(library.home, {})
        self._work = HomeJobs(
            settings, catalog, self.queue, lambda: self._home.enter_context(open_home(settings))
        )
        self.turns = 0

    def run(self, job: Job) -> Job:
        """The job when it has ended."""
        runner = JobRunner(self.queue, self._turn)
        with self._home, self.queue.worker_role():
            while not self.queue.get(job.id).state.is_final:
                assert self.turns < 50
                runner.run_one(threading.Event())
        return self.queue.get(job.id)

    def _turn(self, job: Job, progress: Progress) -> IndexReport:
        self.turns += 1
        calls = iter(range(self._asked))
        should_stop = progress.should_stop
        progress.should_stop = lambda: next(calls, None) is None or should_stop()  # type: ignore[method-assign]
        return self._work(job, progress)


def test_a_change_of_models_loads_them_once(
    library: Library, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    make = FakeEncoder.__init__

    def counted(self: FakeEncoder, *arguments: object, **named: object) -> None:
        loaded.append(1)
        make(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeEncoder, "__init__", counted)
    turns = InTurns(library, catalog, asked=12)
    job = turns.run(turns.queue.add_for_all(JobKind.PIPELINE, profile="turned"))
    assert turns.turns > 2
    assert len(loaded) == 1
    assert job.state is JobState.DONE
    assert job.report is not None
    # What failed in the first turn is told at the end, once.
    assert (job.report["indexed"], job.report["failed"]) == (PHOTOS - 1, 1)
    assert (job.message or "").count("0.png: it can't be read") == 1
    assert (job.done, job.total) == (PHOTOS, PHOTOS)
    library.verify()


def test_what_was_named_to_be_deleted_is_deleted_to_the_end(
    library: Library, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_CONTENTS_AT_ONCE", 1)
    live = catalog.live_pipeline()
    assert live is not None
    assert library.run("reindex", "--profile", "turned").code == 1
    turns = InTurns(library, catalog, asked=5)
    job = turns.run(turns.queue.add_for_all(JobKind.PRUNE, pipelines=[live.fingerprint]))
    assert turns.turns > 2
    assert job.state is JobState.DONE
    assert job.report is not None
    assert job.report["removed"] == 1
    kept = library.run("pipelines", "--json").document["pipelines"]
    assert [one["profile"] for one in kept] == ["turned"]
    library.verify()


@pytest.fixture
def trashed(
    library: Library, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], list[Path]]:
    """Five trashed assets of six, and the files of the first two, which are uploads."""
    monkeypatch.setattr(editing, "_PURGED_AT_ONCE", 2)
    monkeypatch.setattr(purging, "_PAUSE_SECONDS", 0.0)
    rows = library.sql("SELECT a.id, sha256 FROM asset a JOIN content c ON c.id = content_id")
    files = []
    for number, sha256 in rows[:2]:
        path = Originals(library.home / "originals").path_of(sha256)
        files.append(Path(os.fsdecode(path)))
        files[-1].parent.mkdir(parents=True)
        files[-1].write_bytes(b"")
        asset = schema.asset
        with catalog.database.writing() as connection:
            connection.execute(
                update(asset).where(asset.c.id == number).values(path=path, managed=True)
            )
    ids = [number for number, _ in rows]
    SqlAssetEditing(catalog).trash(ids[:-1])
    return ids, files


def test_a_purge_takes_turns_and_spares_what_was_restored_or_trashed_since(
    library: Library, catalog: Catalog, trashed: tuple[list[int], list[Path]]
) -> None:
    ids, files = trashed
    turns = InTurns(library, catalog, asked=1)
    job = turns.queue.add_purge(None)
    SqlAssetEditing(catalog).restore(ids[:1])
    SqlAssetEditing(catalog).trash(ids[-1:])
    job = turns.run(job)
    assert turns.turns > 2
    assert (job.state, job.done, job.total) == (JobState.DONE, 4, 4)
    assert job.report is not None
    assert job.report["removed"] == 4
    left = library.sql("SELECT id, deleted_at IS NULL FROM asset ORDER BY id")
    assert left == [(ids[0], 1), (ids[-1], 0)]
    assert [file.exists() for file in files] == [True, False]
    library.verify()


def test_a_killed_purge_continues_and_deletes_the_files_that_it_left(
    library: Library,
    catalog: Catalog,
    trashed: tuple[list[int], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, files = trashed
    turns = InTurns(library, catalog, asked=10)
    job = turns.queue.add_purge(None)
    with monkeypatch.context() as patched:
        patched.setattr(Originals, "discard", killed)
        with pytest.raises(KeyboardInterrupt):
            turns.run(job)
    assert all(file.exists() for file in files)
    assert len(library.sql("SELECT id FROM asset WHERE deleted_at IS NOT NULL")) == 3
    job = turns.run(job)
    assert (job.state, job.done, job.total) == (JobState.DONE, 3, 3)
    assert not any(file.exists() for file in files)
    assert len(library.sql("SELECT id FROM asset")) == 1
    library.verify()


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_objects_are_compared_in_turns_and_each_photograph_once(
    library: Library, catalog: Catalog
) -> None:
    turns = InTurns(library, catalog, asked=1)
    job = turns.run(turns.queue.add_for_all(JobKind.OBJECTS))
    assert turns.turns > 2
    assert (job.state, job.message) == (JobState.DONE, None)
    # Copies, things and their pairs of each photograph, and the groups.
    assert (job.done, job.total) == (3 * PHOTOS + 1, 3 * PHOTOS + 1)
    compared = library.sql("SELECT content_id FROM object_comparison WHERE among = ?", PHOTOS)
    assert len(compared) == PHOTOS
    again = turns.run(turns.queue.add_for_all(JobKind.OBJECTS))
    assert (again.state, again.done, again.total) == (JobState.DONE, 0, 0)


def test_a_list_says_that_its_comparison_was_cancelled_and_adds_no_other_at_once(
    library: Library, catalog: Catalog
) -> None:
    queue, woken = SqlJobQueue(catalog), threading.Event()
    lists = DuplicateLists(queue, woken.set)
    with open_home(Settings.resolve(library.home, {})) as home:
        assert lists.page(home, [DuplicateKind.EDITED], EVERYTHING, None, 20).waiting
        assert woken.is_set()
        job = queue.latest(JobKind.COPIES)
        assert job is not None
        queue.cancel(job.id)
        with pytest.raises(Conflict, match=f"j{job.id}, was cancelled"):
            lists.page(home, [DuplicateKind.EDITED], EVERYTHING, None, 20)
        assert queue.latest(JobKind.COPIES) == queue.get(job.id)
