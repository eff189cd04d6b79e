"""The walk: which files it yields, in which order, and how it treats what it can't see."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_library import write_photo

from regard.core.catalog import FileStamp, KnownAsset
from regard.core.errors import RootUnavailable
from regard.indexer.discover import compare, distinct_roots, is_gone, lies_below
from regard.indexer.folder_walk import FolderWalk
from regard.indexer.walk import Candidate, Status


def _walk(root: Path) -> list[str]:
    return [os.fsdecode(os.path.relpath(f.stamp.path, os.fsencode(root))) for f in _found(root)]


def _found(root: Path) -> list[object]:
    return list(FolderWalk(os.fsencode(root)))


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def _known(path: Path, number: int = 1, failure: str | None = None) -> KnownAsset:
    return KnownAsset(number, FileStamp(os.fsencode(path), 0, 0), failure)


def _compared(root: Path, *known: KnownAsset) -> tuple[FolderWalk, list[Candidate]]:
    def known_assets(_root: bytes) -> Iterator[KnownAsset]:
        return iter(sorted(known, key=lambda asset: asset.stamp.path))

    walk = FolderWalk(os.fsencode(root))
    return walk, list(compare(walk, known_assets, retry_failed=False))


_NAMES = st.text(alphabet="ab-.0/é", min_size=1, max_size=8).filter(
    lambda name: not any(part in {"", ".", ".."} or part[0] == "." for part in name.split("/"))
)


@given(names=st.sets(_NAMES, max_size=12))
def test_paths_come_in_the_order_of_their_bytes(
    names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("order")
    for name in names:
        # A name may be a folder in one path and a file in another.
        path = root / f"{name.replace('/', '_/')}.jpg"
        _touch(path)
    paths = [found.stamp.path for found in FolderWalk(os.fsencode(root))]
    assert paths == sorted(paths)
    assert len(paths) == len(names)


@given(
    names=st.sets(_NAMES, min_size=1, max_size=12),
    parts=st.sets(st.tuples(_NAMES, st.sampled_from(["", ".jpg", "_"])), max_size=4),
)
def test_a_walk_over_parts_finds_what_the_whole_walk_finds_there(
    names: set[str], parts: set[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("parts")
    for name in names:
        _touch(root / f"{name.replace('/', '_/')}.jpg").with_suffix(".xmp").touch()
    (root / "a_").mkdir(exist_ok=True)
    (root / "a_" / ".regardignore").write_text("b*\n")
    chosen = distinct_roots(
        root / f"{name.replace('/', '_/').strip('/')}{end}" for name, end in parts
    ) or [os.fsencode(root / "nothing")]
    known = [
        KnownAsset(number, entry.stamp, None)
        for number, entry in enumerate(FolderWalk(os.fsencode(root)))
        if number % 2
    ]
    known.append(_known(root / "a_" / "b.jpg", 100))
    known.append(_known(root / "gone_" / "a.jpg", 101))

    def known_assets(below: bytes) -> Iterator[KnownAsset]:
        found = (k for k in known if k.stamp.path == below or lies_below(k.stamp.path, [below]))
        return iter(sorted(found, key=lambda asset: asset.stamp.path))

    def is_chosen(candidate: Candidate) -> bool:
        source = candidate.entry or candidate.known
        assert source is not None
        return source.stamp.path in chosen or lies_below(source.stamp.path, chosen)

    whole = list(compare(FolderWalk(os.fsencode(root)), known_assets, retry_failed=False))
    walk = FolderWalk(os.fsencode(root), parts=chosen)
    found = list(compare(walk, known_assets, retry_failed=False))
    assert found == [candidate for candidate in whole if is_chosen(candidate)]


def test_a_file_or_sidecar_that_has_just_changed_is_unsettled(tmp_path: Path) -> None:
    _touch(tmp_path / "a.jpg")
    _touch(tmp_path / "a.xmp")
    os.utime(tmp_path / "a.jpg", (0, 0))

    def statuses(quiet_seconds: float) -> list[Status]:
        walk = FolderWalk(os.fsencode(tmp_path), quiet_seconds=quiet_seconds)
        known = [_known(tmp_path / "a.jpg")]
        return [c.status for c in compare(walk, lambda _: iter(known), retry_failed=False)]

    # Its own time is that of the original, as copying programs set it.
    assert statuses(3600) == [Status.UNSETTLED]
    assert statuses(0) == [Status.CHANGED]


def test_hidden_files_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", 1)
    write_photo(tmp_path / "without-suffix", 2)
    write_photo(tmp_path / "wrong.txt", 3)
    write_photo(tmp_path / ".hidden.jpg", 4)
    write_photo(tmp_path / ".cache" / "b.jpg", 5)
    (tmp_path / "notes.txt").write_text("BM is not a bitmap, nor GIF an animation")
    (tmp_path / "sound.m4a").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
    (tmp_path / "a.xmp").write_text("<x/>")
    assert _walk(tmp_path) == ["a.jpg", "without-suffix", "wrong.txt"]
    # Files and folders named explicitly are always included.
    assert _walk(tmp_path / ".hidden.jpg") == ["."]
    assert _walk(tmp_path / ".cache") == ["b.jpg"]
    assert _walk(tmp_path / "notes.txt") == ["."]


def test_links_to_folders_are_followed_and_cycles_cut(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_photo(outside / "far.jpg", 1)
    root = tmp_path / "root"
    write_photo(root / "a" / "near.jpg", 2)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(".")
    (root / "link").symlink_to(outside)
    assert _walk(root) == ["a/near.jpg", "link/far.jpg"]


def test_folders_may_nest_deeper_than_python_calls(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("x.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    try:
        assert len(_found(tmp_path)) == 1
    finally:
        # pytest's cleanup is recursive.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_sidecar_belongs_to_the_photographs_of_its_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.dng", "b.JPG", "c.jpg", "d.jpg"):
        _touch(tmp_path / name)
    for name in ("a.xmp", "b.jpg.XMP", "b.xmp", "d.xml"):
        (tmp_path / name).write_text("<x/>")
    sidecars = {f.stamp.path: f.sidecar for f in FolderWalk(os.fsencode(tmp_path))}
    named = {
        os.path.basename(path).decode(): side and os.path.basename(side).decode()
        for path, side in sidecars.items()
    }
    assert named == {
        "a.dng": "a.xmp",
        "a.jpg": "a.xmp",
        "b.JPG": "b.jpg.XMP",
        "c.jpg": None,
        "d.jpg": None,
    }
    for path, sidecar in sidecars.items():
        # A file named as the root has the same sidecar.
        (alone,) = FolderWalk(path)
        assert alone.sidecar == sidecar


def test_roots_below_others_are_left_out() -> None:
    roots = distinct_roots(["/a/b", "/a", "/a-b", "/a/", "//a/c", "/b/../d"])
    assert roots == [b"/a", b"/a-b", b"/d"]
    assert distinct_roots(["/", "/a"]) == [b"/"]
    assert lies_below(b"/a/b", [b"/a"])
    assert not lies_below(b"/ab", [b"/a"])
    assert not lies_below(b"/a", [b"/a"])


def test_assets_behind_a_link_that_leads_nowhere_are_not_missing(tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to(tmp_path / "not-mounted")
    write_photo(tmp_path / "here.jpg", 1)
    walk, candidates = _compared(
        tmp_path, _known(tmp_path / "disk" / "a.jpg", 1), _known(tmp_path / "gone.jpg", 2)
    )
    statuses = [
        (candidate.status, candidate.known and candidate.known.id) for candidate in candidates
    ]
    assert statuses == [(Status.MISSING, 2), (Status.NEW, None)]
    assert walk.unreadable == [(os.fsencode(tmp_path / "disk"), "No such file or directory")]
    assert not is_gone(os.fsencode(tmp_path / "disk" / "a.jpg"))
    assert is_gone(os.fsencode(tmp_path / "deleted" / "folder" / "a.jpg"))


def test_a_known_photograph_behind_a_broken_link_is_unreachable_not_failed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "not-mounted.jpg")
    _, (candidate,) = _compared(tmp_path, _known(tmp_path / "a.jpg"))
    assert candidate.status is Status.UNREACHABLE
    _, (candidate,) = _compared(tmp_path, _known(tmp_path / "a.jpg", failure="as before"))
    assert candidate.status is Status.STILL_FAILED
    _, (candidate,) = _compared(tmp_path)
    assert candidate.status is Status.NEW
    assert candidate.entry is not None
    assert candidate.entry.failure_reason == "it can't be read: No such file or directory"


def test_a_file_deleted_during_the_walk_is_left_out(tmp_path: Path) -> None:
    for name in "abc":
        _touch(tmp_path / f"{name}.jpg")
    walk = iter(FolderWalk(os.fsencode(tmp_path)))
    next(walk)
    os.unlink(tmp_path / "b.jpg")
    assert [os.path.basename(found.stamp.path) for found in walk] == [b"c.jpg"]


def test_a_root_unmounted_during_the_walk_raises(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    for name in "abc":
        _touch(root / f"{name}.jpg")
    walk = iter(FolderWalk(os.fsencode(root)))
    next(walk)
    root.rename(tmp_path / "away")
    root.mkdir()
    with pytest.raises(RootUnavailable, match="was replaced by another folder"):
        list(walk)
    root.rmdir()
    with pytest.raises(RootUnavailable, match="no file or folder"):
        list(FolderWalk(os.fsencode(root)))


def test_memory_grows_with_the_largest_folder_only(tmp_path: Path) -> None:
    def peak(folders: int) -> int:
        root = tmp_path / str(folders)
        for number in range(folders):
            (root / f"{number:03}").mkdir(parents=True)
            for photo in range(100):
                os.close(os.open(root / f"{number:03}" / f"{photo}.jpg", os.O_CREAT))
        # Not Path objects: they intern their parts, which would count.
        gone = os.fsencode(root / "000" / "gone-")
        known = (
            KnownAsset(1, FileStamp(b"%s%07d.jpg" % (gone, number), 0, 0), None)
            for number in range(100 * folders)
        )
        tracemalloc.start()
        try:
            for _ in compare(FolderWalk(os.fsencode(root)), lambda _: known, retry_failed=False):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(5)
    assert peak(50) < few + 100_000


def test_a_stopped_walk_ends(tmp_path: Path) -> None:
    for name in "abc":
        _touch(tmp_path / f"{name}.jpg")
    stops = iter([False, False, True, True, True])
    walk = FolderWalk(os.fsencode(tmp_path), lambda: next(stops))
    assert len(list(walk)) == 2
