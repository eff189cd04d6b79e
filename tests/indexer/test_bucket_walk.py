"""The walk over a bucket: which objects it yields, in which order, by which requests."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_bucket import Bucket
from made_library import write_photo
from test_exclusions import KEPT, LEFT_OUT, touch

from regard.core.catalog import Exclusion
from regard.core.errors import RootUnavailable, StoreUnavailable
from regard.indexer import bucket_walk
from regard.indexer.bucket_walk import BucketWalk
from regard.indexer.discover import compare, distinct_roots, is_gone, lies_below
from regard.indexer.exclusions import Exclusions
from regard.indexer.folder_walk import FolderWalk
from regard.indexer.walk import Likeness, WalkEntry
from regard.photos import buckets
from regard.photos.files import Confinement, folders_above, path_below

pytestmark = pytest.mark.slow

ROOT = b"s3://photos/all"


def put_folder(bucket: Bucket, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(f"all/{path.relative_to(folder)}", path.read_bytes())


def walked(walk: BucketWalk | FolderWalk) -> dict[bytes, bytes | None]:
    """The sidecars of what may be a photograph, by paths below the root."""
    start = len(walk.root) + 1
    return {
        entry.stamp.path[start:]: entry.sidecar and entry.sidecar[start:]
        for entry in walk
        if entry.likeness in {Likeness.PHOTO, Likeness.UNKNOWN}
    }


def entries(root: bytes = ROOT) -> list[WalkEntry]:
    return list(BucketWalk(root))


@pytest.mark.parametrize("ahead", [1, 5, 10_000])
def test_objects_are_left_out_and_have_sidecars_as_files(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    touch(tmp_path, *LEFT_OUT, *KEPT, "2024/a.jpg", "2024/sub/a.png", "2024/only.jpg", "z.JPG")
    touch(tmp_path, "Z.xmp", "z.jpg.XMP", "2024/a.xmp", "2024/sub/other.xmp", "out/.nomedia/a.jpg")
    (tmp_path / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55")
    (tmp_path / ".regardignore").write_text("*.png\n/only.jpg\n")
    (tmp_path / "2024" / ".regardignore").write_text("!a.png\nonly.jpg\n")
    put_folder(bucket, tmp_path)
    given = [Exclusion(ROOT, b"Cache/", is_left_out=True)]
    in_folder = [Exclusion(os.fsencode(tmp_path), b"Cache/", is_left_out=True)]
    monkeypatch.setattr(bucket_walk, "_AHEAD", ahead)
    monkeypatch.setattr(bucket_walk, "_AT_ONCE", min(ahead, 1000))
    walk = BucketWalk(ROOT, exclusions=Exclusions(given))
    same = FolderWalk(os.fsencode(tmp_path), exclusions=Exclusions(in_folder))
    assert walked(walk) == walked(same)
    assert walk.left_out == same.left_out
    for folder in ("2024", "private", "#recycle"):
        again = FolderWalk(os.fsencode(tmp_path / folder))
        assert walked(BucketWalk(ROOT + b"/" + folder.encode())) == walked(again), folder


@pytest.mark.parametrize("seed", range(4))
def test_any_tree_is_walked_as_in_a_folder(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    names = ["a", "b-", "a.b", "é", "0", "Z", " x"]
    files = ["1.jpg", "-.png", "1.xmp", "é.jpg", ".nomedia", ".regardignore", "1.JPG.xmp", "~.jpg"]
    for _ in range(60):
        folder = tmp_path.joinpath(*(chance.choice(names) for _ in range(chance.randrange(4))))
        weights = [9, 9, 3, 9, 1, 1, 3, 9]
        touch(folder, *chance.choices(files, weights, k=3))
    for ignored in tmp_path.rglob(".regardignore"):
        ignored.write_text(chance.choice(["a/\n", "1.jpg\n!0/1.jpg\n", "*\n!*/\n!é.jpg\n"]))
    put_folder(bucket, tmp_path)
    monkeypatch.setattr(bucket_walk, "_AHEAD", chance.choice([1, 7, 20]))
    monkeypatch.setattr(bucket_walk, "_AT_ONCE", 3)
    walk, same = BucketWalk(ROOT), FolderWalk(os.fsencode(tmp_path))
    found = walked(walk)
    assert found == walked(same)
    assert list(found) == sorted(found)
    assert walk.left_out == same.left_out


def test_odd_keys(bucket: Bucket) -> None:
    keys = [
        *("a b.jpg", "é\u0301\u4e2d.jpg", "a//b.jpg", "a///c.jpg", "//d.jpg", "%41.jpg", "+&=.jpg"),
        *("\U0001f600.png", "\uffee.png", "a\\b.jpg", "'\"<>.jpg", "tab\there.jpg", "no-suffix"),
    ]
    for key in keys:
        bucket.put(f"all/{key}", b"x")
    for key in (
        "",
        "folder/",
        "folder/below/",
        "../up.jpg",
        "./here.jpg",
        ".hidden.jpg",
        "a/.x/y.jpg",
    ):
        bucket.put(f"all/{key}", b"")
    bucket.put("all-else.jpg", b"x")
    found = [entry.stamp.path for entry in entries() if entry.likeness is not Likeness.LEFT_OUT]
    assert found == sorted(ROOT + b"/" + key.encode() for key in keys)
    for path in found:
        (alone,) = entries(path)
        assert (alone.stamp.path, alone.likeness) == (path, Likeness.PHOTO)
        assert not is_gone(path)
        assert lies_below(path, [ROOT])
    assert folders_above(ROOT + b"/a//b.jpg") == [ROOT + b"/a/", ROOT + b"/a", ROOT, b"s3://photos"]
    assert distinct_roots(["s3://photos/all/", "s3://photos/all/a", "s3://photos/al"]) == [
        b"s3://photos/al",
        ROOT,
    ]


def test_nothing_outside_a_root_is_reached(bucket: Bucket) -> None:
    confinement = Confinement.to(ROOT)
    assert confinement.holds(ROOT + b"/a.jpg")
    for path in (b"s3://photos/all-else.jpg", b"/all/a.jpg", ROOT + b"/../x.jpg"):
        assert not confinement.holds(path)
    assert path_below(ROOT, "2024/a b") == ROOT + b"/2024/a b"
    assert path_below(ROOT, "") == ROOT
    assert [path_below(ROOT, path) for path in ("../x", "a/../..", "./x")] == [None] * 3


def test_2001_objects_are_listed_in_three_pages(bucket: Bucket) -> None:
    bucket.failing, bucket.listings = 0.05, 0
    bucket.reads.clear()
    for number in range(2001):
        bucket.put(f"all/{number % 13:02}/{number:04}.jpg", b"")
    bucket.put("all/12/1.xmp", b"<x/>")
    found = [entry.stamp.path for entry in entries() if entry.likeness is Likeness.PHOTO]
    assert len(set(found)) == 2001
    assert found == sorted(found)
    # Requests that fail are repeated, also where a machine has so much to do that they time out.
    assert bucket.listings < 3 * 4
    assert bucket.reads == []


def test_a_listing_that_is_not_in_order_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        bucket.put(f"all/{name}.jpg", b"")
    pages = buckets._pages

    def turned(*given: object, **options: object) -> Iterator[dict[str, list[object]]]:
        for page in pages(*given, **options):  # type: ignore[arg-type]
            page["Contents"].reverse()
            yield page

    monkeypatch.setattr(buckets, "_pages", turned)
    with pytest.raises(StoreUnavailable, match="order of their keys"):
        entries()


def test_a_root_that_holds_nothing_is_an_error(bucket: Bucket) -> None:
    for root in (ROOT, b"s3://photos"):
        with pytest.raises(RootUnavailable, match="no object at or below"):
            entries(root)
    bucket.put("all/", b"")
    assert entries() == []
    assert BucketWalk(ROOT).is_empty()
    for root in (b"s3://no-such-bucket/all", b"s3://Not a bucket/all", b"s3:///all"):
        with pytest.raises(StoreUnavailable, match="bucket"):
            entries(root)
    bucket.denied[""] = "AccessDenied"
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        entries()
    bucket.is_away = True
    with pytest.raises(StoreUnavailable, match="can't be used"):
        entries()


def test_an_object_and_objects_below_it_are_both_found(bucket: Bucket) -> None:
    bucket.put("all", b"x")
    bucket.put("all/a.jpg", b"x")
    bucket.put("all.xmp", b"<x/>")
    itself, below = entries()
    assert (itself.stamp.path, below.stamp.path) == (ROOT, ROOT + b"/a.jpg")
    assert itself.sidecar == b"s3://photos/all.xmp"


def test_own_folders_are_left_out(bucket: Bucket, tmp_path: Path) -> None:
    picture = write_photo(tmp_path / "a.jpg", 1).read_bytes()
    for key in (
        "lib/originals/ab/cd/abcd-1",
        "lib/thumbnails/ab/x/256",
        "lib/a.jpg",
        "lib/originals.jpg",
    ):
        bucket.put(f"all/{key}", picture)
    own = Exclusions(own=[ROOT + b"/lib/originals", ROOT + b"/lib/thumbnails"])
    assert list(walked(BucketWalk(ROOT, exclusions=own))) == [b"lib/a.jpg", b"lib/originals.jpg"]
    # An upload is found by one request.
    bucket.requests.clear()
    upload = ROOT + b"/lib/originals/ab/cd/abcd-1"
    assert list(walked(BucketWalk(upload, exclusions=own))) == [b""]
    assert bucket.requests == {"HEAD": 1}


def test_memory_does_not_grow_with_the_bucket(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = buckets.ObjectStatus(1, 1, "etag")
    monkeypatch.setattr(bucket_walk, "_AHEAD", 1000)
    monkeypatch.setattr(bucket_walk, "find_object", lambda path: None)
    # What lies directly in a large folder is asked for, and is not kept unless it matters.
    monkeypatch.setattr(
        bucket_walk, "list_folder", lambda path: ((b"%d" % n, None) for n in range(1000))
    )

    def peak(folders: int) -> int:
        keys = (
            (b"%s/%03d/%04d.jpg" % (ROOT, folder, photo), status)
            for folder in range(folders)
            for photo in range(200)
        )
        monkeypatch.setattr(bucket_walk, "list_objects", lambda root: keys)
        tracemalloc.start()
        try:
            walk = BucketWalk(ROOT)
            monkeypatch.setattr(Exclusions, "root_rules", lambda *_: bucket_walk.Rules())
            count = sum(1 for _ in compare(walk, lambda _: iter(()), retry_failed=False))
            assert count == 200 * folders
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(10)
    assert peak(100) < few + 100_000
