"""Photographs that are indexed where they lie in a bucket, by the command line."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from made_bucket import BUCKET, Bucket
from made_library import Library, command, painted
from made_processes import Forked
from made_videos import write_video

import regard
from regard.core.errors import StoreUnavailable
from regard.indexer.indexing import _Run

pytestmark = pytest.mark.slow

ROOT = f"s3://{BUCKET}/all"
_numbers = itertools.count(1)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def png(*colours: str, size: tuple[int, int] = (24, 16)) -> bytes:
    """A photograph that no other call gives."""
    with io.BytesIO() as file:
        painted(colours or ("red", "blue"), next(_numbers), size).save(file, "PNG")
        return file.getvalue()


def fill(bucket: Bucket, count: int, folder: str = "all") -> dict[str, bytes]:
    pictures = {f"{folder}/{number % 3}/{number:03}.png": png() for number in range(count)}
    for key, data in pictures.items():
        bucket.put(key, data)
    return pictures


def counts(library: Library, *arguments: str, code: int = 0) -> dict[str, Any]:
    report = library.index(*(arguments or (ROOT,)), code=code)
    names = ("indexed", "unchanged", "moved", "removed", "failed")
    return {name: report[name] for name in names if report[name]}


def shown(library: Library) -> set[str]:
    hits = library.search("red", "--limit", "100000")
    return {hit["asset"]["uri"].removeprefix(f"s3://{BUCKET}/") for hit in hits}


def ids(library: Library) -> dict[str, int]:
    rows = library.sql("SELECT id, path FROM asset")
    return {path.decode().removeprefix(f"s3://{BUCKET}/"): number for number, path in rows}


def test_a_bucket_is_followed_by_its_listing_alone(bucket: Bucket, library: Library) -> None:
    pictures = fill(bucket, 12)
    assert counts(library) == {"indexed": 12}
    assert sorted(bucket.reads) == sorted(pictures)
    assert shown(library) == set(pictures)
    before = ids(library)

    bucket.reads.clear()
    # Copying the same bytes gives an object a later time and the same ETag.
    bucket.put("all/0/000.png", pictures["all/0/000.png"])
    assert counts(library) == {"unchanged": 12}
    assert bucket.reads == []

    bucket.put("all/0/000.png", png("yellow", "yellow"))
    bucket.delete("all/1/001.png")
    bucket.put("all/moved/2.png", pictures["all/2/002.png"])
    bucket.delete("all/2/002.png")
    bucket.put("all/copy.png", pictures["all/0/003.png"])
    assert counts(library) == {"indexed": 2, "unchanged": 9, "moved": 1, "removed": 1}
    assert sorted(bucket.reads) == ["all/0/000.png", "all/copy.png", "all/moved/2.png"]
    after = ids(library)
    assert after["all/0/000.png"] == before["all/0/000.png"]
    assert after["all/moved/2.png"] == before["all/2/002.png"]
    assert shown(library) == set(after) == set(bucket.object_keys())
    assert library.sql("SELECT count(*) FROM content") == [(11,)]
    library.verify()


def test_videos_are_indexed_where_they_lie(bucket: Bucket, library: Library) -> None:
    scenes = [(painted((name,), 1, (96, 64)), 3.0) for name in ("red", "blue")]
    data = write_video(library.home.parent / "clip.mp4", scenes).read_bytes()
    bucket.put("all/clip.mp4", data)
    bucket.put("all/clip.png", png())
    assert counts(library) == {"indexed": 2}
    hit = library.search("blue", "--target", "region", "--limit", "1")[0]
    assert hit["asset"]["uri"] == f"{ROOT}/clip.mp4"
    assert 3000 <= hit["region"]["time_ms"] <= 4000
    assert counts(library) == {"unchanged": 2}
    bucket.delete("all/clip.mp4")
    assert counts(library) == {"unchanged": 1, "removed": 1}
    library.verify()


def test_a_bucket_that_can_not_be_seen_loses_nothing(bucket: Bucket, library: Library) -> None:
    pictures = fill(bucket, 4)
    library.index(ROOT)
    bucket.is_away = True
    library.run("index", ROOT).expect_sentence(3, "the bucket photos can't be used")
    bucket.is_away = False
    bucket.denied[""] = "AccessDenied"
    library.run("index", ROOT).expect_sentence(3, "AccessDenied")
    bucket.denied.clear()
    library.run("index", "s3://another/all").expect_sentence(3, "bucket another")
    library.run("index", f"s3://{BUCKET}/al").expect_sentence(3, "no object at or below")
    bucket.delete(*pictures)
    library.run("index", ROOT).expect_sentence(3, "no object at or below", f"regard remove {ROOT}")
    bucket.put("all/", b"")
    bucket.put("all/0/", b"")
    library.run("index", ROOT).expect_sentence(3, "no photograph is left")
    bucket.put("all/README", b"not a photograph")
    bucket.put("all/notes.txt", b"not a photograph")
    library.run("index", ROOT).expect_sentence(3, "no photograph is left")
    assert set(ids(library)) == set(pictures)
    for key, data in pictures.items():
        bucket.put(key, data)
    assert counts(library) == {"unchanged": 4}


def test_a_bucket_that_goes_away_in_the_midst_ends_the_run_and_the_next_carries_on(
    bucket: Bucket, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = fill(bucket, 10)
    library.index(ROOT)
    gone = set(list(pictures)[:5])
    bucket.delete(*gone)
    fill(bucket, 30, "all/new")
    advance = _Run._advance

    def cut(run: _Run) -> None:
        advance(run)
        bucket.is_away = True

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_advance", cut)
        library.run("index", ROOT).expect_sentence(3, "the bucket photos can't be used")
    assert set(pictures) <= set(ids(library))
    bucket.is_away = False
    done = len(ids(library)) - len(pictures)
    assert done > 0
    assert counts(library) == {"indexed": 30 - done, "unchanged": 5 + done, "removed": 5}
    assert set(ids(library)) == set(bucket.object_keys())


def test_an_object_that_changes_after_it_was_listed_is_indexed_as_it_was_read(
    bucket: Bucket, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, 3)
    read = _Run._read

    def changed(run: _Run, entry: Any, limits: Any) -> Any:
        if entry.stamp.path.endswith(b"000.png"):
            bucket.put("all/0/000.png", png("yellow", "yellow"))
        if entry.stamp.path.endswith(b"001.png"):
            bucket.delete("all/1/001.png")
        return read(run, entry, limits)

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_read", changed)
        assert counts(library, code=1) == {"indexed": 2, "failed": 1}
    bucket.reads.clear()
    assert counts(library) == {"unchanged": 2, "removed": 1}
    assert bucket.reads == []
    assert library.search("yellow")[0]["asset"]["uri"] == f"{ROOT}/0/000.png"
    assert library.sql("SELECT count(*) FROM content") == [(2,)]
    library.verify()


def test_objects_that_can_not_be_used_are_listed_and_retried(
    bucket: Bucket, library: Library
) -> None:
    fill(bucket, 2)
    whole, archived = png(), png()
    bucket.put("all/broken.jpg", whole[:60])
    bucket.put("all/archived.png", archived)
    bucket.put("all/empty.jpg", b"")
    bucket.denied["all/archived.png"] = "InvalidObjectState"
    report = library.index(ROOT, code=1)
    reasons = {os.path.basename(one["uri"]): one["reason"] for one in report["failures"]}
    assert reasons["archived.png"] == "it can't be read: it is archived"
    assert reasons["empty.jpg"] == "it is empty"
    assert set(reasons) == {"archived.png", "broken.jpg", "empty.jpg"}
    bucket.denied.clear()
    bucket.reads.clear()
    assert counts(library, code=1) == {"unchanged": 2, "failed": 3}
    assert bucket.reads == []
    assert counts(library, ROOT, "--retry-failed", code=1) == {
        "indexed": 1,
        "unchanged": 2,
        "failed": 2,
    }
    bucket.put("all/broken.jpg", whole)
    bucket.delete("all/empty.jpg")
    assert counts(library) == {"indexed": 1, "unchanged": 3, "removed": 1}


def test_objects_without_a_suffix_are_known_by_their_bytes(
    bucket: Bucket, library: Library
) -> None:
    bucket.put("all/ab12", png())
    bucket.put("all/cd34", b"some text")
    bucket.put("all/song.mp3", b"ID3\x04")
    bucket.put("all/odd.bin", png())
    bucket.put("all/huge.png", b"\x89PNG\r\n\x1a\n" + bytes(1000))
    assert counts(library, code=1) == {"indexed": 1, "failed": 1}
    assert set(bucket.reads) == {"all/ab12", "all/cd34", "all/huge.png"}
    # An object that is named is read whatever its name, and stays.
    assert counts(library, f"{ROOT}/odd.bin") == {"indexed": 1}
    bucket.reads.clear()
    assert counts(library, code=1) == {"unchanged": 2, "failed": 1}
    assert set(bucket.reads) == {"all/cd34"}


def test_sidecars_in_a_bucket_are_read(bucket: Bucket, library: Library) -> None:
    fill(bucket, 1)
    packet = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
     xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
     xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title><rdf:Alt><rdf:li
     xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"""
    for title in ("first", "other"):
        bucket.put("all/0/000.xmp", packet.format(title).encode())
        library.index(ROOT)
        assert library.sql("SELECT title FROM asset") == [(title,)]
    assert counts(library) == {"unchanged": 1}


def test_exclusions_and_removals_are_remembered(bucket: Bucket, library: Library) -> None:
    fill(bucket, 6)
    fill(bucket, 2, "all/drafts")
    assert counts(library, ROOT, "--exclude", "drafts/") == {"indexed": 6}
    assert library.run("remove", f"{ROOT}/0/").code == 0
    assert counts(library, ROOT, "--exclude", "/1/") == {"unchanged": 2, "removed": 2}
    # A place that is named is reached from now on.
    assert counts(library, f"{ROOT}/0") == {"indexed": 2}
    bucket.put("all/0/.nomedia", b"")
    bucket.put("all/2/.regardignore", b"*5.png\n")
    assert counts(library) == {"unchanged": 1, "removed": 3}
    bucket.put("all/2/.regardignore", bytes(2 << 20))
    report = library.index(ROOT, code=1)
    assert report["failures"][0]["uri"] == f"{ROOT}/2"
    assert set(ids(library)) == {"all/2/002.png"}
    # No request is needed to forget.
    bucket.is_away = True
    assert library.run("remove", ROOT).code == 0
    assert ids(library) == {}


def test_two_prefixes_are_two_roots_between_which_photographs_move(
    bucket: Bucket, library: Library
) -> None:
    pictures = fill(bucket, 4) | fill(bucket, 2, "other") | fill(bucket, 1, "all-else")
    roots = (ROOT, f"s3://{BUCKET}/other/")
    assert counts(library, *roots) == {"indexed": 6}
    before = ids(library)
    bucket.put("other/here.png", pictures["all/0/000.png"])
    bucket.delete("all/0/000.png")
    assert counts(library, *roots) == {"unchanged": 5, "moved": 1}
    assert ids(library)["other/here.png"] == before["all/0/000.png"]
    # A root that has lost all its photographs does not pass them on to another.
    bucket.delete(*(key for key in pictures if key.startswith("all/")))
    bucket.put("all/", b"")
    bucket.put("other/copy.png", pictures["all/1/001.png"])
    library.run("index", *roots).expect_sentence(3, "no photograph is left")
    assert ids(library)["all/1/001.png"] == before["all/1/001.png"]


def test_an_exported_and_imported_bucket_is_unchanged(
    bucket: Bucket, library: Library, tmp_path: Path
) -> None:
    pictures = fill(bucket, 3)
    library.index(ROOT)
    assert library.run("export", tmp_path / "export").code == 0
    other = Library(tmp_path / "other")
    assert other.run("import", tmp_path / "export").code == 0
    bucket.put("all/0/000.png", pictures["all/0/000.png"])
    bucket.reads.clear()
    assert counts(other) == {"unchanged": 3}
    assert bucket.reads == []


def test_collections_and_the_python_library(bucket: Bucket, tmp_path: Path) -> None:
    pictures = fill(bucket, 3)
    with regard.open(tmp_path / "home") as library:
        library._profile = "fake"  # type: ignore[attr-defined]
        assert library.index(ROOT, collection="one").indexed == 3
        assert library.index(f"{ROOT}/0", collection="two").indexed == 1
        found = library.search("red path:s3://photos/all/0", collection="two")
        [hit] = found.hits
        assert hit.asset.uri == f"{ROOT}/0/000.png"
        assert library.picture(hit).size == (24, 16)
        assert library.remove(ROOT, collection="one") == 3
        bucket.is_away = True
        with pytest.raises(StoreUnavailable):
            library.index(ROOT)
    assert len(pictures) == 3


def test_a_server_s_command_refuses_a_bucket(bucket: Bucket) -> None:
    from made_library import regard as run

    outcome = run("--server", "http://127.0.0.1:1", "index", ROOT)
    outcome.expect_sentence(2, "a bucket is not sent to a server")


def test_uploads_in_the_same_bucket_are_not_indexed_in_place(
    bucket: Bucket, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bucket, 1)
    bucket.put("all/lib/originals/ab/cd/abcd-1", png())
    bucket.put("all/lib/thumbnails/ab/abcd/256", png())
    monkeypatch.setenv("REGARD_STORE", f"{ROOT}/lib")
    assert counts(library) == {"indexed": 1}
    assert bucket.reads == ["all/0/000.png"]
    own = f"{ROOT}/lib/originals/ab"
    library.run("index", own).expect_sentence(3, "lies in the home or its store of uploads")


@pytest.mark.campaign
def test_a_killed_run_and_an_interrupted_one_are_continued(
    bucket: Bucket, library: Library
) -> None:
    pictures = fill(bucket, 60)
    arguments = command("index", ROOT, "--home", library.home, "--profile", "fake")
    for number, signal_sent in enumerate((signal.SIGKILL, signal.SIGINT)):
        wanted = 15 * (number + 1)
        slow = threading.Event()
        with Forked(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
        ) as process:
            deadline = time.monotonic() + 120
            while _committed(library) < wanted:
                assert process.poll() is None
                assert time.monotonic() < deadline
                slow.wait(0.002)
            process.send_signal(signal_sent)
            process.communicate(timeout=120)
        assert process.returncode in {-signal.SIGKILL, 130}
    done = _committed(library)
    assert counts(library) == {"indexed": 60 - done, "unchanged": done}
    assert shown(library) == set(pictures)
    library.verify()


def _committed(library: Library) -> int:
    if not (library.home / "catalog.sqlite3").exists():
        return 0
    if not library.sql("SELECT 1 FROM sqlite_master WHERE name = 'asset'"):
        return 0
    return int(library.sql("SELECT count(*) FROM asset")[0][0])


@pytest.mark.campaign
def test_thousands_of_objects_survive_failing_requests(bucket: Bucket, library: Library) -> None:
    pictures = fill(bucket, 2001)
    bucket.failing, bucket.failed = 0.05, 0
    assert counts(library) == {"indexed": 2001}
    gone = [key for number, key in enumerate(pictures) if number % 7 == 0]
    bucket.delete(*gone)
    bucket.reads.clear()
    assert counts(library) == {"unchanged": 2001 - len(gone), "removed": len(gone)}
    assert bucket.reads == []
    assert set(ids(library)) == set(bucket.object_keys())
    assert bucket.failed > 100
