"""Jobs in the catalog: who claims which, what survives a crash, and what callers are told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from catalog_samples import Home
from sqlalchemy import delete, update

from regard.core.errors import Conflict, LeaseHeld, NotFound
from regard.core.jobs import Job, JobKind, JobState
from regard.storage.database import schema
from regard.storage.database.clock import utc_now
from regard.storage.service.jobs import KEPT, SqlJobQueue


@pytest.fixture
def queue(home: Home) -> SqlJobQueue:
    return SqlJobQueue(home.catalog)


@pytest.fixture
def worker(home: Home) -> Iterator[SqlJobQueue]:
    """The queue as the one worker has it."""
    held = SqlJobQueue(home.catalog)
    with held.worker_role():
        yield held


def _import(queue: SqlJobQueue, path: str = "", collection: str = "holiday") -> Job:
    return queue.add(JobKind.IMPORT, collection, root="photos", path=path)


def _claim(worker: SqlJobQueue) -> Job:
    job = worker.claim()
    assert job is not None
    return job


def test_a_job_is_kept_as_it_was_added(queue: SqlJobQueue, home: Home) -> None:
    job = queue.add(JobKind.IMPORT, "holiday", root="photos", path="2024/é", retry_failed=True)
    assert queue.get(job.id) == job
    assert (job.kind, job.state, job.collection) == (JobKind.IMPORT, JobState.QUEUED, "holiday")
    assert (job.root, job.path, job.retry_failed) == ("photos", "2024/é", True)
    assert (job.total, job.done, job.report, job.message) == (None, 0, None, None)
    assert not job.cancel_requested
    assert job.created_at.tzinfo is None
    assert job.started_at is job.finished_at is None
    again = queue.add(JobKind.REINDEX, "holiday")
    assert (again.collection_id, again.root, again.path) == (job.collection_id, None, None)
    assert len(home.rows(schema.collection)) == 1
    with pytest.raises(NotFound, match="no job 99"):
        queue.get(99)


def test_changes_join_a_job_that_waits(queue: SqlJobQueue, worker: SqlJobQueue) -> None:
    def add(*changed: str, root: str = "photos") -> Job:
        return queue.add_changes("holiday", root, changed)

    first = add("b.jpg")
    assert (first.kind, first.root, first.path) == (JobKind.IMPORT, "photos", "")
    assert add("a.jpg", "b.jpg").id == first.id
    assert queue.get(first.id).changed == ("a.jpg", "b.jpg")
    assert add("a.jpg", root="other").id != first.id
    assert queue.add_changes("others", "photos", ["a.jpg"]).id != first.id
    assert _claim(worker).id == first.id
    # It may have passed this one already.
    second = add("b.jpg")
    assert (second.id != first.id, second.changed) == (True, ("b.jpg",))
    # More than can be listed are all.
    assert add(*map(str, range(2000))).changed == ("",)
    assert _import(queue).changed == ()


def test_all_of_a_root_joins_an_import_of_it(queue: SqlJobQueue) -> None:
    below = _import(queue, "2024")
    assert not queue.is_importing("holiday", "photos")
    whole = _import(queue)
    assert queue.is_importing("holiday", "photos")
    assert queue.add_changes("holiday", "photos", [""]).id == whole.id
    assert queue.add_changes("holiday", "photos", ["a.jpg"]).id not in {whole.id, below.id}


def test_lists_are_newest_first_filtered_and_in_pages(queue: SqlJobQueue) -> None:
    ids = [_import(queue, collection=name).id for name in ("a", "b", "a", "c", "a")]
    queue.cancel(ids[2])

    def listed(**options: object) -> list[int]:
        found = queue.list(**{"limit": 10, **options})  # type: ignore[arg-type]
        return [job.id for job in found]

    assert listed() == ids[::-1]
    assert listed(limit=2) == [ids[4], ids[3]]
    assert listed(limit=2, before=ids[3]) == [ids[2], ids[1]]
    assert listed(collections=["a"]) == [ids[4], ids[2], ids[0]]
    assert listed(collections=["a"], states=[JobState.QUEUED]) == [ids[4], ids[0]]
    assert listed(states=[JobState.CANCELLED]) == [ids[2]]
    assert listed(collections=[]) == []
    assert queue.counts() == dict.fromkeys(JobState, 0) | {
        JobState.QUEUED: 4,
        JobState.CANCELLED: 1,
    }


def test_uploads_join_a_job_that_still_waits(queue: SqlJobQueue, worker: SqlJobQueue) -> None:
    first = queue.add(JobKind.UPLOAD, "a")
    assert queue.add(JobKind.UPLOAD, "a") == first
    assert queue.add(JobKind.UPLOAD, "b").id != first.id
    retry = queue.add(JobKind.UPLOAD, "a", retry_failed=True)
    assert retry.id != first.id
    assert queue.add(JobKind.UPLOAD, "a", retry_failed=True) == retry
    assert _import(queue, collection="a").id != _import(queue, collection="a").id
    assert _claim(worker).id == first.id
    # One that runs may have looked for the last time already.
    second = queue.add(JobKind.UPLOAD, "a")
    assert second.id not in {first.id, retry.id}
    queue.cancel(second.id)
    assert queue.add(JobKind.UPLOAD, "a").id > second.id


def test_uploads_at_once_make_one_job(queue: SqlJobQueue, home: Home) -> None:
    home.save("/p/a.jpg", "a", collection="a")
    at_once = threading.Barrier(4)

    def add(_: int) -> int:
        at_once.wait()
        return queue.add(JobKind.UPLOAD, "a").id

    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            ids = set(threads.map(add, range(4)))
            assert len(ids) == 1
            queue.cancel(ids.pop())


def test_the_oldest_is_claimed_first(queue: SqlJobQueue, worker: SqlJobQueue) -> None:
    assert worker.claim() is None
    first, second = _import(queue), _import(queue)
    claimed = _claim(worker)
    assert (claimed.id, claimed.state) == (first.id, JobState.RUNNING)
    assert claimed.started_at is not None
    worker.finish(first.id, JobState.DONE, report={"indexed": 3}, message=None)
    ended = queue.get(first.id)
    assert (ended.state, ended.report) == (JobState.DONE, {"indexed": 3})
    assert ended.finished_at is not None
    assert _claim(worker).id == second.id
    worker.finish(second.id, JobState.FAILED, report=None, message="no disk")
    assert queue.get(second.id).message == "no disk"
    assert worker.claim() is None


def test_a_job_goes_on_where_a_dead_worker_left_it(queue: SqlJobQueue, home: Home) -> None:
    waiting = _import(queue)
    left = _import(queue)
    queue.cancel(waiting.id)
    with queue.worker_role():
        started = _claim(queue).started_at
        assert queue.progress(left.id, done=5, total=9)
    earlier = queue.add(JobKind.UPLOAD, "a")
    successor = SqlJobQueue(home.catalog)
    with successor.worker_role():
        job = _claim(successor)
        assert (job.id, job.state, job.done, job.total) == (left.id, JobState.RUNNING, 5, 9)
        assert job.started_at == started
        successor.finish(left.id, JobState.QUEUED, report={"indexed": 5}, message=None)
        stopped = queue.get(left.id)
        assert (stopped.state, stopped.done, stopped.finished_at) == (JobState.QUEUED, 5, None)
        assert stopped.report == {"indexed": 5}
        assert _claim(successor).id == earlier.id


def test_what_kills_its_worker_time_and_again_lets_others_pass(
    queue: SqlJobQueue, worker: SqlJobQueue
) -> None:
    deadly, behind = _import(queue), _import(queue)
    for _ in range(4):
        assert _claim(worker).id == deadly.id
    # It gets further, so its worker died of something else.
    worker.progress(deadly.id, done=1, total=9)
    for _ in range(4):
        assert _claim(worker).id == deadly.id
    assert _claim(worker).id == behind.id
    ended = queue.get(deadly.id)
    assert ended.state is JobState.FAILED
    assert ended.finished_at is not None
    assert "died 5 times" in (ended.message or "")


def test_progress_says_whether_to_go_on(queue: SqlJobQueue, worker: SqlJobQueue) -> None:
    job = _import(queue)
    assert not worker.progress(job.id, done=1, total=None)
    assert queue.get(job.id).done == 0
    _claim(worker)
    worker.waits(job.id, "somebody else is indexing")
    assert queue.get(job.id).state is JobState.QUEUED
    assert _claim(worker).message == "somebody else is indexing"
    assert worker.progress(job.id, done=1, total=None)
    assert worker.progress(job.id, done=2, total=7)
    told = queue.get(job.id)
    assert (told.done, told.total, told.message) == (2, 7, None)
    assert queue.cancel(job.id).state is JobState.RUNNING
    assert not worker.progress(job.id, done=3, total=7)
    assert queue.get(job.id).done == 3
    assert not worker.progress(99, done=0, total=None)


def test_progress_that_changes_nothing_waits_for_nobody(
    queue: SqlJobQueue, worker: SqlJobQueue, home: Home
) -> None:
    job = _import(queue)
    _claim(worker)
    worker.progress(job.id, done=1, total=2)
    with home.catalog.database.writing() as connection, ThreadPoolExecutor(1) as thread:
        connection.execute(update(schema.job).values(message="locked"))
        assert thread.submit(worker.progress, job.id, done=1, total=2).result(20)
        # Nor does looking for a job while all have ended.
        connection.execute(update(schema.job).values(message=None, state=JobState.DONE))
    with home.catalog.database.writing() as connection, ThreadPoolExecutor(1) as thread:
        connection.execute(update(schema.job).values(message="locked"))
        assert thread.submit(worker.claim).result(20) is None


def test_cancelling(queue: SqlJobQueue, worker: SqlJobQueue) -> None:
    running, waiting = _import(queue), _import(queue)
    _claim(worker)
    cancelled = queue.cancel(waiting.id)
    assert (cancelled.state, cancelled.finished_at is None) == (JobState.CANCELLED, False)
    asked = queue.cancel(running.id)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    assert queue.cancel(running.id) == asked
    worker.finish(running.id, JobState.CANCELLED, report={"indexed": 1}, message=None)
    for job in (running, waiting):
        with pytest.raises(Conflict, match="ended"):
            queue.cancel(job.id)
    with pytest.raises(NotFound):
        queue.cancel(99)
    assert worker.claim() is None


@pytest.mark.parametrize("way", ["stop", "wait"])
def test_what_was_cancelled_does_not_come_back(
    queue: SqlJobQueue, worker: SqlJobQueue, way: str
) -> None:
    job = _import(queue)
    _claim(worker)
    queue.cancel(job.id)
    if way == "stop":
        worker.finish(job.id, JobState.QUEUED, report=None, message=None)
    else:
        worker.waits(job.id, "somebody else is indexing")
    ended = queue.get(job.id)
    assert (ended.state, ended.message) == (JobState.CANCELLED, None)
    assert ended.finished_at is not None


def test_folders_that_were_ever_imported(queue: SqlJobQueue, worker: SqlJobQueue) -> None:
    for path in ("b", "a", "b"):
        _import(queue, path)
        worker.finish(_claim(worker).id, JobState.DONE, report=None, message=None)
    _import(queue, "a", collection="other")
    _claim(worker)
    # What never began is not in the collection.
    _import(queue, "c")
    assert queue.imported_folders("holiday") == [("photos", "a"), ("photos", "b")]
    assert queue.imported_folders("other") == [("photos", "a")]
    assert queue.imported_folders("none") == []


def test_jobs_that_ended_long_ago_go_except_for_the_last_of_each_folder(
    queue: SqlJobQueue, worker: SqlJobQueue, home: Home
) -> None:
    def end(job: Job, state: JobState = JobState.DONE) -> int:
        assert _claim(worker).id == job.id
        worker.finish(job.id, state, report=None, message=None)
        return job.id

    imports = [end(_import(queue, path)) for path in ("", "2024", "", "2024")]
    changes = [end(queue.add_changes("holiday", "photos", [name])) for name in ("a", "b")]
    uploads = [queue.add(JobKind.UPLOAD, "holiday").id]
    queue.cancel(uploads[0])
    uploads.append(end(queue.add(JobKind.UPLOAD, "holiday"), JobState.FAILED))
    copies = [end(queue.add_for_all(JobKind.COPIES)) for _ in range(3)]
    waiting = _import(queue, "later")
    never_began = _import(queue, "2024")
    queue.cancel(never_began.id)
    folders = queue.imported_folders("holiday")
    day = timedelta(days=1)
    for number in range(1, copies[2]):
        age = KEPT + day if number < copies[1] else KEPT - day
        job = schema.job
        home.execute(update(job).where(job.c.id == number).values(finished_at=utc_now() - age))
    end(waiting)
    kept = {job.id for job in queue.list(limit=100)}
    assert kept == {
        *(imports[-1], changes[-1], *uploads, *copies[1:], waiting.id, never_began.id),
    }
    assert queue.imported_folders("holiday") == sorted([*folders, ("photos", "later")])
    latest = queue.latest(JobKind.COPIES)
    assert latest is not None
    assert latest.id == copies[2]
    with pytest.raises(NotFound):
        queue.get(imports[0])
    # Numbers are not used again.
    assert _import(queue).id > max(kept)


def test_there_is_one_worker(home: Home, worker: SqlJobQueue) -> None:
    other = SqlJobQueue(home.catalog)
    with pytest.raises(LeaseHeld), other.worker_role():
        pass
    _import(other)
    with pytest.raises(RuntimeError):
        other.claim()
    # The writer's lease is another one.
    home.save("/p/a.jpg", "a")
    assert _claim(worker)


def test_a_worker_that_lost_its_role_writes_nothing(queue: SqlJobQueue, home: Home) -> None:
    job = _import(queue)
    with queue.worker_role():
        _claim(queue)
        home.execute(update(schema.lease).values(token="another's"))
        before = queue.get(job.id)
        for attempt in (
            queue.claim,
            lambda: queue.progress(job.id, done=1, total=1),
            lambda: queue.finish(job.id, JobState.DONE, report=None, message=None),
            lambda: queue.waits(job.id, "?"),
        ):
            with pytest.raises(LeaseHeld):
                attempt()
        assert queue.get(job.id) == before
    assert len(home.rows(schema.lease)) == 1


def test_a_job_goes_with_its_collection(
    queue: SqlJobQueue, worker: SqlJobQueue, home: Home
) -> None:
    job = _import(queue)
    _claim(worker)
    home.execute(delete(schema.collection))
    assert not worker.progress(job.id, done=1, total=1)
    worker.finish(job.id, JobState.DONE, report=None, message=None)
    with pytest.raises(NotFound):
        queue.get(job.id)


def test_a_change_of_models_is_of_no_collection_and_there_is_one_at_a_time(
    queue: SqlJobQueue, home: Home
) -> None:
    job = queue.add_for_all(JobKind.PIPELINE, profile="other", pipelines=["ab12"])
    assert queue.get(job.id) == job
    assert (job.collection_id, job.collection) == (None, None)
    assert (job.profile, job.pipelines, job.unfinished) == ("other", ("ab12",), False)
    assert home.rows(schema.collection) == []
    assert queue.add_for_all(JobKind.PIPELINE, profile="other", pipelines=["ab12"]) == job
    with pytest.raises(Conflict, match=f"job j{job.id} "):
        queue.add_for_all(JobKind.PIPELINE, profile="another")
    assert queue.add_for_all(JobKind.PRUNE, unfinished=True).unfinished
    assert job.id not in {one.id for one in queue.list(collections=["holiday"], limit=10)}
    assert job.id in {one.id for one in queue.list(limit=10)}
    queue.cancel(job.id)
    assert queue.add_for_all(JobKind.PIPELINE, profile="another").id != job.id


def test_who_stops_before_its_end_goes_behind_all_that_wait(
    queue: SqlJobQueue, worker: SqlJobQueue, home: Home
) -> None:
    def turn(expected: Job, state: JobState = JobState.QUEUED) -> None:
        assert _claim(worker).id == expected.id
        worker.finish(expected.id, state, report=None, message=None)

    change = queue.add_for_all(JobKind.PIPELINE, profile="other")
    assert not queue.is_awaited(change.id)
    first, second = _import(queue), _import(queue, "later")
    assert queue.is_awaited(change.id)
    for job in (change, first, second, change, first):
        turn(job)
    # A new job waits behind them once, and they wait no longer than that.
    third = _import(queue, "last")
    turn(second)
    turn(change)
    turn(first)
    turn(third)
    fourth = _import(queue, "never last")
    for job in (second, change, first, third, fourth):
        turn(job, JobState.DONE)
    assert worker.claim() is None
    # One that a dead worker left goes on first, and another worker begins with the oldest.
    one, other = _import(queue), _import(queue)
    turn(one)
    assert _claim(worker).id == other.id
    assert _claim(worker).id == other.id
    worker.waits(other.id, "somebody else is indexing")
    home.execute(delete(schema.lease))
    successor = SqlJobQueue(home.catalog)
    with successor.worker_role():
        assert _claim(successor).id == one.id
