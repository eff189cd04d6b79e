"""Jobs from claim to end: progress, turns, cancelling, waiting, failing, and their scope."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_library import write_photo

from regard.api.library.home import Home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.catalog import Failure
from regard.core.errors import (
    ClusterUnavailable,
    EngineUnavailable,
    LeaseHeld,
    ModelError,
    RegardError,
    StoreUnavailable,
)
from regard.core.jobs import Job, JobKind, JobState
from regard.indexer import job_work as job_work_module
from regard.indexer import jobs as jobs_module
from regard.indexer.job_work import JobWork
from regard.indexer.jobs import JobRunner, Outcome, Work
from regard.indexer.report import IndexReport, Progress
from regard.storage.database.lease import hold_writer_lease
from regard.storage.service.jobs import SqlJobQueue


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Home]:
    with open_or_make_home(Settings(tmp_path / "home"), "fake") as opened:
        yield opened


@pytest.fixture
def queue(library: Home) -> Iterator[SqlJobQueue]:
    held = SqlJobQueue(library.catalog)
    with held.worker_role():
        yield held


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "PROGRESS_SECONDS", 0.02)
    monkeypatch.setattr(jobs_module, "LEASE_RETRY_SECONDS", 0.05)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _run(queue: SqlJobQueue, work: Work, stop: threading.Event | None = None) -> Outcome:
    return JobRunner(queue, work).run_one(stop or threading.Event())


@contextlib.contextmanager
def _running(queue: SqlJobQueue, work: Work) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Run a runner in a thread; yields its `stop` and `wake`."""
    stop, wake = threading.Event(), threading.Event()
    thread = threading.Thread(target=JobRunner(queue, work).run_until, args=(stop, wake))
    thread.start()
    try:
        yield stop, wake
    finally:
        stop.set()
        wake.set()
        thread.join(120)
        assert not thread.is_alive()


def _import(queue: SqlJobQueue, path: str = "", **options: bool) -> Job:
    return queue.add(JobKind.IMPORT, "holiday", root="photos", path=path, **options)


# The runner, with scripted work


def test_a_job_records_progress_and_its_report(queue: SqlJobQueue) -> None:
    job = _import(queue)
    seen: list[tuple[int, int | None]] = []

    def work(given: Job, progress: Progress) -> IndexReport:
        assert (given.id, given.state) == (job.id, JobState.RUNNING)
        progress.expect(3)
        progress.advance()
        _until(lambda: queue.get(job.id).done)
        seen.append((queue.get(job.id).done, queue.get(job.id).total))
        progress.advance()
        progress.advance()
        assert not progress.should_stop()
        return IndexReport(indexed=2, regions=5, failures=[Failure("/a.jpg", "it is empty")])

    assert _run(queue, work) is Outcome.ENDED
    assert seen == [(1, 3)]
    ended = queue.get(job.id)
    assert (ended.state, ended.done, ended.total) == (JobState.DONE, 3, 3)
    assert ended.report == {
        "indexed": 2, "unchanged": 0, "moved": 0, "removed": 0, "failed": 1, "regions": 5,
        "captions": 0, "damaged_sidecars": 0, "left_out": 0, "read": 0, "lines": 0, "seconds": 0.0,
        "skipped_videos": 0,
    }  # fmt: skip
    assert ended.message is None
    assert _run(queue, work) is Outcome.IDLE


def test_a_stopped_job_continues_and_its_reports_add_up(queue: SqlJobQueue) -> None:
    job = _import(queue)
    stop = threading.Event()

    def first(_: Job, progress: Progress) -> IndexReport:
        progress.expect(5)
        progress.advance()
        progress.advance()
        assert not progress.should_stop()
        stop.set()
        assert progress.should_stop()
        return IndexReport(indexed=2, unchanged=1, captions=2, seconds=1.5, interrupted=True)

    _run(queue, first, stop)
    waiting = queue.get(job.id)
    assert (waiting.state, waiting.done, waiting.total) == (JobState.QUEUED, 2, 5)

    def second(_: Job, progress: Progress) -> IndexReport:
        progress.expect(3)
        for _count in range(3):
            progress.advance()
        return IndexReport(indexed=3, unchanged=3, captions=3, seconds=2.0)

    _run(queue, second)
    ended = queue.get(job.id)
    assert (ended.state, ended.done, ended.total) == (JobState.DONE, 5, 5)
    assert ended.report is not None
    assert {name: ended.report[name] for name in ("indexed", "unchanged", "captions")} == {
        "indexed": 5, "unchanged": 1, "captions": 5,
    }  # fmt: skip
    assert ended.report["seconds"] == 3.5


def test_a_stop_after_the_work_leaves_the_job_done(queue: SqlJobQueue) -> None:
    job = _import(queue)
    stop = threading.Event()

    def work(*_: object) -> IndexReport:
        stop.set()
        return IndexReport(indexed=1)

    _run(queue, work, stop)
    assert queue.get(job.id).state is JobState.DONE


def test_a_cancelled_job_stops_and_keeps_its_report(queue: SqlJobQueue) -> None:
    job = _import(queue)

    def work(_: Job, progress: Progress) -> IndexReport:
        progress.advance()
        queue.cancel(job.id)
        # Even without progress, as while a slow model works.
        _until(progress.should_stop)
        return IndexReport(indexed=1, interrupted=True)

    _run(queue, work)
    ended = queue.get(job.id)
    assert (ended.state, ended.done) == (JobState.CANCELLED, 1)
    assert ended.report is not None
    assert ended.report["indexed"] == 1


def test_a_job_cancelled_before_a_crash_does_not_start_again(queue: SqlJobQueue) -> None:
    job = _import(queue)
    queue.claim()
    queue.cancel(job.id)

    def work(*_: object) -> IndexReport:
        raise AssertionError("it started")

    assert _run(queue, work) is Outcome.ENDED
    assert queue.get(job.id).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModelError("no weights", remedy="fetch them"), "no weights; fetch them"),
        (KeyError("x"), "this should not happen: KeyError: 'x'"),
    ],
)
def test_a_failed_job_records_the_reason_and_the_next_one_runs(
    queue: SqlJobQueue, error: Exception, message: str
) -> None:
    broken, sound = _import(queue), _import(queue)

    def work(job: Job, progress: Progress) -> IndexReport:
        progress.advance()
        if job.id == broken.id:
            raise error
        return IndexReport()

    with _running(queue, work):
        _until(lambda: queue.get(sound.id).state is JobState.DONE)
    ended = queue.get(broken.id)
    assert (ended.state, ended.message, ended.done) == (JobState.FAILED, message, 1)


def test_failures_without_an_asset_are_named_in_the_message(queue: SqlJobQueue) -> None:
    job = _import(queue)
    unseen = [Failure(f"photos/{name}", "locked") for name in "abcde"]
    _run(queue, lambda *_: IndexReport(failures=list(unseen), unseen=unseen))
    ended = queue.get(job.id)
    assert ended.state is JobState.DONE
    assert ended.message == (
        "skipped: photos/a: locked; photos/b: locked; photos/c: locked; and 2 more"
    )


def test_a_job_waits_while_another_process_writes(queue: SqlJobQueue, library: Home) -> None:
    job = _import(queue)

    def work(*_: object) -> IndexReport:
        with hold_writer_lease(library.catalog.database):
            return IndexReport(indexed=1)

    # Take the lease before the runner starts.
    writer = contextlib.ExitStack()
    writer.enter_context(hold_writer_lease(library.catalog.database))
    with writer, _running(queue, work):
        _until(lambda: "indexing into this home" in (queue.get(job.id).message or ""))
        assert not queue.get(job.id).state.is_final
        writer.close()
        _until(lambda: queue.get(job.id).state is JobState.DONE)
    assert queue.get(job.id).message is None


@pytest.mark.parametrize("error", [StoreUnavailable, EngineUnavailable, ClusterUnavailable])
def test_a_job_waits_for_what_is_away_and_lets_others_pass(
    queue: SqlJobQueue, error: type[RegardError]
) -> None:
    job, other = _import(queue), _import(queue)
    is_away = threading.Event()
    is_away.set()

    def work(job_now: Job, _: Progress) -> IndexReport:
        if job_now.id == job.id and is_away.is_set():
            raise error("the other side is away", remedy="start it")
        return IndexReport(indexed=1)

    with _running(queue, work):
        _until(lambda: queue.get(other.id).state is JobState.DONE)
        waiting = queue.get(job.id)
        assert not waiting.state.is_final
        assert waiting.message in {None, "the other side is away; start it"}
        is_away.clear()
        _until(lambda: queue.get(job.id).state is JobState.DONE)
    assert queue.get(job.id).message is None


@pytest.mark.parametrize("is_woken", [True, False])
def test_a_new_job_is_found_by_waking_and_by_polling(
    queue: SqlJobQueue, monkeypatch: pytest.MonkeyPatch, is_woken: bool
) -> None:
    monkeypatch.setattr(jobs_module, "POLL_SECONDS", 60 if is_woken else 0.02)
    with _running(queue, lambda *_: IndexReport()) as (_, wake):
        for _count in range(3):
            job = _import(queue)
            if is_woken:
                wake.set()
            _until(lambda number=job.id: queue.get(number).state is JobState.DONE)


def test_a_runner_that_lost_its_role_stops_and_writes_nothing(
    queue: SqlJobQueue, library: Home
) -> None:
    job = _import(queue)

    def work(_: Job, progress: Progress) -> IndexReport:
        from sqlalchemy import update

        from regard.storage.database import schema

        with library.catalog.database.writing() as connection:
            connection.execute(update(schema.lease).values(token="another's"))
        progress.advance()
        _until(progress.should_stop)
        return IndexReport(interrupted=True)

    with pytest.raises(LeaseHeld):
        _run(queue, work)
    assert (queue.get(job.id).state, queue.get(job.id).done) == (JobState.RUNNING, 0)


# Turns


class _Clock:
    """Stands in for `time` in the runner."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_job_gives_way_after_its_turn_if_another_waits(
    queue: SqlJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    monkeypatch.setattr(jobs_module, "time", clock)
    looks = threading.Semaphore(0)
    is_awaited = SqlJobQueue.is_awaited

    def watched(self: SqlJobQueue, job: int) -> bool:
        looks.release()
        return is_awaited(self, job)

    monkeypatch.setattr(SqlJobQueue, "is_awaited", watched)
    first, second = _import(queue), _import(queue)
    turns: list[int] = []

    def work(job: Job, progress: Progress) -> IndexReport:
        turns.append(job.id)
        # Loading the models takes longer than a turn, which then lasts as long.
        clock.now += 2 * jobs_module.TURN_SECONDS
        progress.expect(1)
        progress.advance()
        clock.now += 1.9 * jobs_module.TURN_SECONDS
        time.sleep(4 * jobs_module.PROGRESS_SECONDS)
        assert not progress.should_stop()
        while looks.acquire(blocking=False):
            pass
        clock.now += 0.2 * jobs_module.TURN_SECONDS
        assert looks.acquire(timeout=60)
        assert looks.acquire(timeout=60)
        return IndexReport(indexed=1, interrupted=progress.should_stop())

    for _ in range(3):
        _run(queue, work)
    queue.cancel(second.id)
    _run(queue, work)
    # The last turn ends the job, since no other one waits.
    assert turns == [first.id, second.id, first.id, first.id]
    ended = queue.get(first.id)
    assert (ended.state, ended.done) == (JobState.DONE, 3)


def test_a_change_of_models_finishes_although_uploads_never_end(
    queue: SqlJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models are ten times slower than those for uploads, and more of these always wait."""
    monkeypatch.setattr(jobs_module, "TURN_SECONDS", 0.05)
    change = queue.add_for_all(JobKind.PIPELINE, profile="slow")
    uploads = queue.add(JobKind.UPLOAD, "holiday")
    analysed, built = 100, 0
    # What the change still had to do after each turn.
    left: list[int] = []

    def work(job: Job, progress: Progress) -> IndexReport:
        nonlocal analysed, built
        if job.id == uploads.id:
            added = 0
            while not progress.should_stop():
                time.sleep(0.0002)
                # At most as many as arrive in a turn, even if it was delayed.
                if added < 200:
                    added += 1
                    analysed += 1
                    progress.advance()
            return IndexReport(interrupted=True)
        progress.expect(analysed - built)
        while built < analysed and not progress.should_stop():
            time.sleep(0.002)
            built += 1
            progress.advance()
        left.append(analysed - built)
        return IndexReport(interrupted=built < analysed)

    deadline = time.monotonic() + 120
    while not queue.get(change.id).state.is_final:
        assert time.monotonic() < deadline, left
        _run(queue, work)
    assert queue.get(change.id).state is JobState.DONE
    assert left == sorted(left, reverse=True)
    assert queue.get(uploads.id).done > 0


# What each kind of job indexes


class _World:
    """Photographs below a root, uploads, and the work with the fake models."""

    def __init__(self, library: Home, queue: SqlJobQueue, folder: Path) -> None:
        self.library, self.queue = library, queue
        self.photos = folder / "photos"
        self.uploads = folder / "uploads"
        self.waiting: list[bytes] = []
        self.failed: list[bytes] = []
        self.photo("a/1.png", 1)
        self.photo("b/2.png", 2)
        self.uploads.mkdir()
        self.work = JobWork(
            library.indexer,
            {"photos": os.fsencode(self.photos)},
            self.originals,
            queue.imported_folders,
        )

    def photo(self, name: str, seed: int) -> Path:
        return write_photo(self.photos / name, seed)

    def upload(self, name: str, seed: int) -> None:
        self.waiting.append(os.fsencode(write_photo(self.uploads / name, seed)))

    def originals(self, collection: str, *, failed: bool, analysed: bool = False) -> list[bytes]:
        assert collection == "holiday"
        assert not analysed
        known = {
            asset.stamp.path
            for asset in self.library.indexer(collection).catalog.known_assets(b"/")
            if asset.failure_reason is None
        }
        found = self.waiting + (self.failed if failed else [])
        return [path for path in found if path not in known]

    def run(self, job: Job) -> Job:
        _run(self.queue, self.work)
        return self.queue.get(job.id)

    def names(self) -> set[str]:
        catalog = self.library.indexer("holiday").catalog
        with catalog.writer_lease():
            return {
                os.path.basename(os.fsdecode(asset.stamp.path))
                for asset in catalog.known_assets(b"/")
                if asset.failure_reason is None
            }


@pytest.fixture
def world(library: Home, queue: SqlJobQueue, tmp_path: Path) -> _World:
    return _World(library, queue, tmp_path)


def test_messages_never_reveal_the_path_of_a_root(world: _World) -> None:
    job = world.run(_import(world.queue, "none"))
    assert job.state is JobState.FAILED
    assert "there is no file or folder photos/none" in (job.message or "")
    (world.photos / "a" / "link").symlink_to("/etc")
    job = world.run(_import(world.queue, "a"))
    assert job.message == "skipped: photos/a/link: it leads out of the configured root"
    job = world.run(world.queue.add(JobKind.IMPORT, "holiday", root="gone", path=""))
    assert job.state is JobState.FAILED
    assert "no longer has a root 'gone'" in (job.message or "")


def test_failed_files_are_tried_again_with_retry_failed(world: _World) -> None:
    broken = world.photos / "a" / "1.png"
    sound = broken.read_bytes()
    stamp = broken.stat()
    broken.write_bytes(b"\x89PNG" + bytes(len(sound) - 4))
    os.utime(broken, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    job = world.run(_import(world.queue))
    assert job.report is not None
    assert (job.report["indexed"], job.report["failed"]) == (1, 1)
    broken.write_bytes(sound)
    os.utime(broken, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    world.run(_import(world.queue))
    assert world.names() == {"2.png"}
    job = world.run(_import(world.queue, retry_failed=True))
    assert world.names() == {"1.png", "2.png"}


def test_an_upload_job_leaves_later_uploads_to_their_own_job(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_work_module, "_UPLOADS_AT_ONCE", 2)
    for number in range(3):
        world.upload(f"u{number}.png", 10 + number)
    indexer = world.library.indexer("holiday")
    runs: list[int] = []
    run = type(indexer).run

    def watched(self: object, paths: list[bytes], **options: object) -> IndexReport:
        report: IndexReport = run(self, paths, **options)  # type: ignore[arg-type]
        runs.append(len(paths))
        assert len(runs) < 10
        world.upload(f"late{len(runs)}.png", 20 + len(runs))
        return report

    monkeypatch.setattr(type(indexer), "run", watched)
    job = world.queue.add(JobKind.UPLOAD, "holiday")
    job = world.run(job)
    assert runs == [2, 1]
    assert (job.state, job.done, job.total) == (JobState.DONE, 3, 3)
    assert job.report is not None
    assert job.report["indexed"] == 3
    job = world.run(world.queue.add(JobKind.UPLOAD, "holiday"))
    assert (job.state, job.done) == (JobState.DONE, 2)
    assert world.names() == {"u0.png", "u1.png", "u2.png", "late1.png", "late2.png"}


def test_an_upload_without_its_file_is_skipped(world: _World) -> None:
    world.upload("gone.png", 10)
    world.upload("there.png", 11)
    (world.uploads / "gone.png").unlink()
    job = world.run(world.queue.add(JobKind.UPLOAD, "holiday"))
    assert job.state is JobState.DONE
    assert job.message == "skipped: the upload gone.png: its file is gone"
    assert job.report is not None
    assert (job.report["indexed"], job.report["failed"]) == (1, 1)
    assert world.names() == {"there.png"}


def test_reindexing_covers_all_imports_and_uploads(world: _World) -> None:
    world.run(_import(world.queue, "a"))
    world.run(_import(world.queue, "b"))
    world.photo("a/new.png", 30)
    world.photo("c/elsewhere.png", 31)
    world.upload("u.png", 32)
    write_photo(world.uploads / "retried.png", 33)
    world.failed.append(os.fsencode(world.uploads / "retried.png"))
    job = world.run(world.queue.add(JobKind.REINDEX, "holiday"))
    assert job.state is JobState.DONE
    assert job.report is not None
    assert (job.report["indexed"], job.report["unchanged"]) == (3, 2)
    assert world.names() == {"1.png", "2.png", "new.png", "u.png", "retried.png"}


def test_reindexing_follows_moved_files_and_skips_missing_folders(world: _World) -> None:
    for folder in ("a", "b", "c"):
        world.photo(f"{folder}/keep-{folder}.png", 40 + ord(folder))
        world.run(_import(world.queue, folder))
    os.rename(world.photos / "a" / "1.png", world.photos / "b" / "1.png")
    os.rename(world.photos / "c", world.photos.parent / "away")
    job = world.run(world.queue.add(JobKind.REINDEX, "holiday"))
    assert job.state is JobState.DONE
    assert job.message == "skipped: photos/c: it is missing or can't be read"
    assert job.report is not None
    assert (job.report["moved"], job.report["removed"], job.report["failed"]) == (1, 0, 1)
    assert "keep-c.png" in world.names()


def test_a_stop_before_the_work_loads_no_models(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.library.profile, "analyzer", lambda: pytest.fail("loaded"))
    world.upload("u.png", 10)
    stop = threading.Event()
    stop.set()
    for job in (_import(world.queue), world.queue.add(JobKind.UPLOAD, "holiday")):
        _run(world.queue, world.work, stop)
        assert world.queue.get(job.id).state is JobState.QUEUED
        world.queue.cancel(job.id)
