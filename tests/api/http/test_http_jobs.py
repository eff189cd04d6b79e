"""Jobs over HTTP: imports below a root and nowhere else, lists, failures, cancelling, events."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from made_service import WAIT, Served, Shelf, cut_off, events_of, noisy, png, refused

from regard.api.client import Filters
from regard.api.schemas import JobDocument


def files(shelf: Shelf) -> set[str]:
    return {asset.file_name for asset in shelf.client.assets.iterate(shelf.within)}


def test_an_import_indexes_a_folder(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png(), b=png())
    (folder / "deep").mkdir()
    (folder / "deep" / "c.png").write_bytes(png())
    (folder / "notes.txt").write_text("no photograph")
    job = shelf.bring(folder, wait=False)
    assert (job.kind, job.root, job.path) == ("import", "photos", folder.name)
    ended = served.wait(job)
    assert (ended.done, ended.total, ended.failed) == (3, 3, 0)
    assert ended.report is not None
    assert ended.report["indexed"] == 3
    assert "failures" not in ended.report
    assert ended.created_at <= ended.started_at <= ended.finished_at  # type: ignore[operator]
    assert files(shelf) == {"a.png", "b.png", "c.png"}
    again = shelf.bring(folder)
    assert again.report is not None
    assert (again.report["indexed"], again.report["unchanged"]) == (0, 3)
    (folder / "a.png").rename(folder / "z.png")
    (folder / "b.png").unlink()
    third = shelf.bring(folder)
    assert third.report is not None
    assert (third.report["moved"], third.report["removed"]) == (1, 1)
    assert files(shelf) == {"z.png", "c.png"}


# Nothing outside of the roots


@pytest.mark.parametrize("path", ["..", "../outside", "a/../../outside", "/etc", "x/../..", "./.."])
def test_an_import_stays_below_its_root(served: Served, shelf: Shelf, path: str) -> None:
    """The guard is `Service.import_folder`."""
    (served.outside / "secret.png").write_bytes(png())
    with refused("outside-roots"):
        served.client.jobs.start_import("photos", path, collection=shelf.name)
    with refused("outside-roots"):
        served.client.jobs.start_import("photos", str(served.outside), collection=shelf.name)


def test_imports_through_links_out_of_the_root_are_refused(served: Served, shelf: Shelf) -> None:
    """The guard is that `Service.import_folder` looks at real paths."""
    (served.outside / "secret.png").write_bytes(png())
    link = served.photos / f"link {shelf.name}"
    link.symlink_to(served.outside)
    for path in (link.name, f"{link.name}/.", f"{link.name}/secret.png"):
        with refused("outside-roots"):
            served.client.jobs.start_import("photos", path, collection=shelf.name)


def test_links_out_of_the_root_are_skipped(served: Served, shelf: Shelf) -> None:
    """The guard is `Confinement`: a link put there later, or by another, would show any file."""
    inside = served.shelf().folder(i=png())
    (served.outside / "secret.png").write_bytes(png())
    folder = shelf.folder(a=png())
    (folder / "file.png").symlink_to(served.outside / "secret.png")
    (folder / "folder").symlink_to(served.outside)
    (folder / "up").symlink_to("../../outside")
    (folder / "fine").symlink_to(inside)
    (folder / "fine.png").symlink_to(inside / "i.png")
    job = shelf.bring(folder)
    indexed = {
        asset.file_name for asset in shelf.client.assets.iterate(shelf.within, state="indexed")
    }
    assert {"a.png"} <= indexed <= {"a.png", "i.png", "fine.png"}
    assert "secret.png" not in files(shelf)
    shown = job.model_dump_json()
    assert job.message is not None
    assert job.message.startswith("skipped: ")
    assert f"photos/{folder.name}/folder" in job.message
    assert str(served.folder) not in shown
    for asset in shelf.client.assets.iterate(shelf.within, state="failed"):
        assert "root" in (shelf.client.assets.get(asset.id).failure or "")


def test_links_created_while_a_job_waits_are_not_followed(served: Served, shelf: Shelf) -> None:
    """The guard is that the worker looks again: what was allowed may be another folder by now."""
    (served.outside / "secret.png").write_bytes(png())
    blocker = served.shelf()
    served.gate.let(0)
    first = blocker.bring(blocker.folder(p=png()), wait=False)
    folder = shelf.folder(a=png())
    job = shelf.bring(folder, wait=False)
    (folder / "a.png").unlink()
    folder.rmdir()
    folder.symlink_to(served.outside)
    served.gate.open()
    ended = served.client.jobs.wait(job.id, WAIT)
    assert served.client.jobs.wait(first.id, WAIT).state == "done"
    if ended.started_at is not None and ended.state == "failed":
        assert str(served.folder) not in (ended.message or "")
    assert "secret.png" not in files(shelf)


def test_unknown_roots_and_folders_are_not_found(served: Served, shelf: Shelf) -> None:
    start = served.client.jobs.start_import
    for root, path in (("nowhere", ""), ("photos", "nowhere"), ("photos", "x" * 300), ("", "")):
        with refused("not-found"):
            start(root, path, collection=shelf.name)
    with refused("validation"):
        start("photos", "a\0b", collection=shelf.name)
    with refused("not-found"):
        served.client.jobs.reindex("nowhere")
    for body in (
        {"kind": "upload", "collection": "x"},
        {"kind": "import"},
        {},
        {"kind": "reindex"},
    ):
        assert served.raw().post("/v1/jobs", json=body).status_code == 422


def test_a_root_itself_can_be_imported_and_a_single_file(own: Any, shelf: Shelf) -> None:
    folder = shelf.folder(a=png(), b=png())
    job = shelf.client.jobs.start_import("photos", f"{folder.name}/a.png", collection=shelf.name)
    shelf.served.wait(job)
    assert files(shelf) == {"a.png"}
    everything = shelf.served.shelf()
    shelf.served.wait(shelf.client.jobs.start_import("photos", collection=everything.name))
    assert {"a.png", "b.png"} <= files(everything)


# Failures


def test_failures_are_listed_in_pages_and_retried(served: Served, shelf: Shelf) -> None:
    bad = {f"bad{number}": cut_off(noisy()) for number in range(3)}
    folder = shelf.folder(good=png(), **bad)
    job = shelf.bring(folder)
    assert job.failed == 3
    listed = shelf.client.jobs.list_failures(job.id, limit=2)
    rest = shelf.client.jobs.list_failures(job.id, limit=2, cursor=listed.next)
    assert [item.file_name for item in (*listed.items, *rest.items)] == [
        "bad0.png", "bad1.png", "bad2.png",
    ]  # fmt: skip
    assert rest.next is None
    assert all(item.reason for item in listed.items)
    # A retry looks at them again, though nothing about them has changed.
    status = (folder / "bad1.png").stat()
    (folder / "bad1.png").write_bytes(png())
    os.truncate(folder / "bad1.png", 0)
    (folder / "bad1.png").write_bytes(png())
    os.utime(folder / "bad1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    again = served.wait(shelf.client.jobs.retry(job.id))
    assert (again.failed, again.kind, again.path) == (2, "import", folder.name)
    assert len(shelf.ids(state="indexed")) == 2
    # The failures of another folder are not this job's.
    other = served.shelf(shelf.name).folder()
    (other / "deep").mkdir()
    (other / "deep" / "worse.png").write_bytes(cut_off(noisy()))
    deep = shelf.bring(other / "deep")
    assert [item.file_name for item in shelf.client.jobs.failures(deep.id)] == ["worse.png"]


def test_reindexing_covers_imports_and_uploads(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png(), b=cut_off(noisy()))
    shelf.bring(folder)
    shelf.add(png(), cut_off(noisy()))
    (folder / "c.png").write_bytes(png())
    job = served.wait(shelf.client.jobs.reindex(shelf.name))
    assert job.report is not None
    assert (job.report["indexed"], job.failed) == (1, 2)
    assert "c.png" in files(shelf)


def test_facts_are_read_again_on_request(served: Served, shelf: Shelf) -> None:
    """A sidecar that changes without a trace stands for a version that reads more of it."""
    folder = shelf.folder(a=png())
    (upload,) = shelf.add(png())
    sidecar = folder / "a.xmp"

    def write(stars: str) -> None:
        sidecar.write_text(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
            'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
            f'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="{stars}"/></rdf:RDF></x:xmpmeta>'
        )
        os.utime(sidecar, (1e9, 1e9))

    def rating() -> int | None:
        (asset,) = set(shelf.ids()) - {upload.id}
        return shelf.client.assets.get(asset).facts.rating

    def again(job: JobDocument) -> int:
        report = served.wait(job).report
        assert report is not None
        assert report["indexed"] == 0
        return int(report["unchanged"])

    start = served.client.jobs
    write("3")
    shelf.bring(folder)
    write("4")
    assert again(start.reindex(shelf.name)) == 1
    assert rating() == 3
    # The upload is read again too.
    assert again(start.reindex(shelf.name, reread=True)) == 2
    assert rating() == 4
    write("5")
    job = start.start_import("photos", folder.name, collection=shelf.name, reread=True)
    assert again(job) == 1
    assert rating() == 5


def test_exclusions_hold_for_later_jobs(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png(), b=png(), c=png())
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir" / "thumb.png").write_bytes(png())

    def brought(path: str = folder.name, **said: Any) -> set[str]:
        job = served.client.jobs.start_import("photos", path, collection=shelf.name, **said)
        served.wait(job)
        return files(shelf)

    assert brought(exclude=["/b.*"]) == {"a.png", "c.png"}
    [job] = served.client.jobs.iterate(collection=[shelf.name])
    assert job.report is not None
    assert job.report["left_out"] == 2
    assert brought() == {"a.png", "c.png"}
    served.wait(served.client.jobs.retry(job.id))
    served.wait(served.client.jobs.reindex(shelf.name))
    assert files(shelf) == {"a.png", "c.png"}
    # What left the trash for good stays away.
    gone = {asset.file_name: asset.id for asset in shelf.client.assets.iterate(shelf.within)}
    shelf.client.assets.delete(gone["c.png"])
    served.client.trash.empty(shelf.name)
    assert brought() == {"a.png"}
    served.wait(served.client.jobs.reindex(shelf.name))
    assert files(shelf) == {"a.png"}
    assert brought(f"{folder.name}/c.png") == {"a.png", "c.png"}
    assert brought(include=["b.png"]) == {"a.png", "b.png", "c.png"}
    assert brought(exclude=["*"]) == set()
    assert brought(clear_exclusions=True) == {"a.png", "b.png", "c.png"}
    with refused("validation"):
        served.client.jobs.start_import("photos", folder.name, exclude=["!"])


def test_missing_folders_fail_and_no_asset_is_removed(served: Served, shelf: Shelf) -> None:
    """An empty or missing folder is a disk that is not mounted, not a thousand deletions."""
    folder = shelf.folder(a=png())
    shelf.bring(folder)
    (folder / "a.png").unlink()
    job = shelf.client.jobs.wait(shelf.bring(folder, wait=False).id, WAIT)
    assert job.state == "failed"
    assert job.message is not None
    assert f"photos/{folder.name}" in job.message
    assert str(served.folder) not in job.model_dump_json()
    assert len(shelf.ids()) == 1


# Lists, cancelling, events


def test_jobs_are_listed_newest_first_in_pages(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png())
    ids = [shelf.bring(folder).id for _ in range(5)]
    jobs = shelf.client.jobs
    assert [job.id for job in jobs.iterate(collection=[shelf.name])] == ids[::-1]
    page = jobs.list(collection=[shelf.name], limit=2)
    assert [job.id for job in page.items] == [ids[4], ids[3]]
    after = jobs.list(collection=[shelf.name], limit=2, cursor=page.next)
    assert [job.id for job in after.items] == [ids[2], ids[1]]
    assert len(jobs.list(collection=[shelf.name], state=["done"]).items) == 5
    assert jobs.list(collection=[shelf.name], state=["failed", "running"]).items == []
    assert jobs.list(collection=["nowhere"]).items == []
    assert served.raw().get("/v1/jobs?collection=%00").json()["items"] == []
    assert served.raw().get("/v1/jobs?state=odd").status_code == 422
    for call in (jobs.get, jobs.cancel, jobs.retry, jobs.list_failures):
        with refused("not-found"):
            call("j999999999")
    assert served.raw().get("/v1/jobs/j999999999/events").status_code == 404


def test_running_and_queued_jobs_are_cancelled(served: Served, shelf: Shelf) -> None:
    served.gate.let(2)
    running = shelf.bring(shelf.folder(**{f"p{number}": png() for number in range(80)}), wait=False)
    served.until_done(running, 16)
    other = served.shelf()
    waiting = other.bring(other.folder(a=png()), wait=False)
    with refused("job-running"):
        other.client.jobs.retry(waiting.id)
    assert other.client.jobs.cancel(waiting.id).state == "cancelled"
    shelf.client.jobs.cancel(running.id)
    # It asks every half a second.
    served.gate.open(pause=0.3)
    ended = shelf.client.jobs.wait(running.id, WAIT)
    served.gate.open()
    assert ended.state == "cancelled"
    assert 16 <= ended.done < 80
    for job in (running, waiting):
        with refused("job-not-running"):
            shelf.client.jobs.cancel(job.id)
    # What it has done stays, and a retry does the rest.
    done = len(shelf.ids())
    assert done == ended.done
    again = served.wait(shelf.client.jobs.retry(running.id))
    assert again.report is not None
    assert again.report["indexed"] == 80 - done
    assert len(shelf.ids(state="indexed")) == 80


def test_events_follow_a_job_until_it_ends(served: Served, shelf: Shelf) -> None:
    job = shelf.bring(shelf.folder(**{f"p{number}": png() for number in range(120)}), wait=False)
    seen = list(shelf.client.jobs.events(job.id))
    assert seen[-1].state == "done"
    assert seen[-1] == shelf.client.jobs.get(job.id)
    done = [event.done for event in seen]
    assert done == sorted(done)
    states = [event.state for event in seen]
    assert states == sorted(states, key=["queued", "running", "done"].index)
    assert all(one != other for one, other in itertools.pairwise(seen))
    # Of one that has ended, its end.
    raw = served.raw()
    [document] = events_of(raw, job.id)
    assert document["state"] == "done"


def test_event_streams_resume_after_the_last_event(served: Served, shelf: Shelf) -> None:
    job = shelf.bring(shelf.folder(**{f"p{number}": png() for number in range(60)}), wait=False)
    raw, path = served.raw(), f"/v1/jobs/{job.id}/events"
    with raw.stream("GET", path) as answer:
        lines = answer.iter_lines()
        last = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
        first = next(line for line in lines if line.startswith("data: "))
    headers = {"Last-Event-ID": last}
    rest = raw.get(path, headers=headers).text
    assert first not in rest
    ids = [line.removeprefix("id: ") for line in rest.splitlines() if line.startswith("id: ")]
    assert len(set(ids)) == len(ids) == rest.count("event: job") > 0
    assert last not in ids
    # A browser connects again when a stream ends; this tells it not to.
    ended = raw.get(path, headers={"Last-Event-ID": ids[-1]})
    assert (ended.status_code, ended.content) == (204, b"")
    assert raw.get(path, headers=headers).status_code == 200


def test_imports_with_one_idempotency_key_are_one_job(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png())
    start = shelf.client.jobs.start_import
    first = start("photos", folder.name, collection=shelf.name, idempotency_key=shelf.name)
    again = start("photos", folder.name, collection=shelf.name, idempotency_key=shelf.name)
    assert first == again
    with refused("idempotency-key-reused"):
        start("photos", "", collection=shelf.name, idempotency_key=shelf.name)
    served.wait(first)
    assert len(list(shelf.client.jobs.iterate(collection=[shelf.name]))) == 1


def test_searches_show_what_a_job_has_done(shelf: Shelf) -> None:
    """Another process wrote it, and the next search here looks for what has changed."""
    for _ in range(3):
        [asset] = shelf.add(png())
        assert asset.id in shelf.found()
    assert len(shelf.found(filters=Filters(collection=[shelf.name]))) == 3
