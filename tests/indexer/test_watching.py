"""`regard index --watch`: the catalog follows the folder while it changes."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_library import Library, painted, write_photo
from made_videos import write_video
from made_watch import Watching, watching

from regard.indexer import watching as watching_module
from regard.indexer.changes import QUIET_SECONDS
from regard.indexer.folder_events import EventsUnavailable, FolderEvents, lacks_events
from regard.indexer.report import IndexReport, Progress

pytestmark = pytest.mark.slow

_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title><rdf:Alt>
<rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title></rdf:Description></rdf:RDF>
</x:xmpmeta>"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path, count=6)
    return made


def _titles(library: Library) -> set[str]:
    return {row[0] for row in library.sql("SELECT title FROM asset WHERE title IS NOT NULL")}


def test_new_changed_moved_and_deleted_files_and_sidecars_show(library: Library) -> None:
    with watching(library) as watch:
        ids = library.asset_ids()
        library.photo("new/deep/one.png", 50)
        watch.until_equal()
        (library.photos / "new").rename(library.photos / "moved")
        (library.photos / "0.png").rename(library.photos / "moved" / "0.png")
        watch.until_equal()
        assert library.asset_ids()["moved/0.png"] == ids["0.png"]
        library.photo("1.png", 77)
        (library.photos / "2.png").unlink()
        watch.until_equal()
        (library.photos / "3.XMP").write_text(_XMP.format(title="harbour"))
        watch.until(lambda: _titles(library) == {"harbour"})
        (library.photos / "3.XMP").unlink()
        watch.until(lambda: not _titles(library))
        (library.photos / "4.png").write_bytes(b"no photograph")
        watch.until(lambda: library.sql("SELECT 1 FROM asset WHERE failure IS NOT NULL") != [])
        assert watch.reports[-1]["failed"] == 1
    # A move costs no model time, and each change was one run.
    assert sum(report["moved"] for report in watch.reports) == 2
    assert sum(report["indexed"] for report in watch.reports) == 6 + 2
    assert len(watch.reports) <= 1 + 6 + 2
    library.verify()


def test_videos_show_and_go_and_one_that_is_being_copied_is_taken_once(library: Library) -> None:
    scenes = [(painted((name,), 1, (96, 64)), 3.0) for name in ("red", "blue")]
    data = write_video(library.home.parent / "clip.mp4", scenes).read_bytes()
    clip = library.photos / "films" / "clip.mp4"

    def moments() -> int:
        query = "SELECT count(*) FROM region WHERE time_ms IS NOT NULL"
        return int(library.sql(query)[0][0])

    with watching(library) as watch:
        clip.parent.mkdir()
        with clip.open("wb") as file:
            for start in range(0, len(data), len(data) // 4):
                file.write(data[start : start + len(data) // 4])
                file.flush()
                time.sleep(0.3)
        watch.until(lambda: moments() == 2)
        assert sum(report["failed"] for report in watch.reports) == 0
        hit = library.search("blue", "--target", "region", "--limit", "1")[0]
        assert 3000 <= hit["region"]["time_ms"] <= 4000
        clip.rename(library.photos / "moved.mp4")
        watch.until(lambda: "moved.mp4" in library.asset_ids())
        assert moments() == 2
        (library.photos / "moved.mp4").unlink()
        watch.until(lambda: moments() == 0)
    assert sum(report["moved"] for report in watch.reports) == 1


def test_changes_show_within_five_seconds(library: Library) -> None:
    def seconds(change: Callable[[], object], watch: Watching) -> float:
        change()
        started = time.monotonic()
        watch.report()
        return time.monotonic() - started

    with watching(library) as watch:
        news = [partial(library.photo, f"new-{n}.png", 30 + n) for n in range(3)]
        assert min(seconds(change, watch) for change in news) < 5
        gone = [(library.photos / f"{n}.png").unlink for n in range(3)]
        assert min(seconds(change, watch) for change in gone) < 5


def test_a_file_that_is_being_copied_is_taken_once_when_it_is_whole(library: Library) -> None:
    source = library.photos.parent / "large.png"
    painted(["red", "blue"], 9, (400, 300)).save(source)
    data = source.read_bytes()
    with watching(library) as watch:
        with open(library.photos / "copied.png", "wb") as file:
            longest, last = 0.0, time.monotonic()
            for start in range(0, len(data), len(data) // 20 + 1):
                file.write(data[start : start + len(data) // 20 + 1])
                file.flush()
                time.sleep(0.15)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
        os.utime(library.photos / "copied.png", (1_000_000_000, 1_000_000_000))
        watch.until_equal()
    # On a machine so busy that the copying itself stood still, the file did look whole.
    if longest < QUIET_SECONDS / 2:
        assert [report["indexed"] for report in watch.reports] == [6, 1]
        assert all(report["failed"] == 0 for report in watch.reports)


def test_hundreds_of_files_at_once_are_few_runs(library: Library) -> None:
    prepared = library.photos.parent / "prepared"
    for number in range(300):
        write_photo(prepared / f"{number % 5}" / f"{number}.png", 100 + number)
    with watching(library) as watch:
        for folder in sorted(prepared.iterdir()):
            folder.rename(library.photos / folder.name)
        watch.until_equal()
    indexed = [report["indexed"] for report in watch.reports]
    # One run, unless a look fell between the renames or the system told of them one by one.
    assert sum(indexed) == 306
    assert len(indexed) <= 1 + 3


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_thousands_of_changes_at_once_are_few_runs(library: Library) -> None:
    prepared = library.photos.parent / "prepared"
    for number in range(3000):
        library.photo(f"{number % 9}/{number}.png", 100 + number)
    for number in range(1400):
        write_photo(prepared / f"{number}.png", 10_000 + number)
    library.index()
    with watching(library) as watch:
        for number in range(2000):
            if number < 700:  # rewritten
                os.replace(
                    prepared / f"{number}.png", library.photos / f"{number % 9}/{number}.png"
                )
            elif number < 1300:
                (library.photos / f"{number % 9}/{number}.png").unlink()
            else:
                os.replace(prepared / f"{number - 600}.png", library.photos / f"new-{number}.png")
        watch.until_equal()
    _, *reports = watch.reports
    assert sum(report["indexed"] for report in reports) == 1400
    assert sum(report["removed"] for report in reports) == 600
    print(f"2,000 changes of 3,006 files: runs {len(reports)}")
    assert len(reports) <= 3


def test_a_root_that_goes_away_loses_nothing_and_is_watched_when_it_is_back(
    library: Library,
) -> None:
    aside = library.photos.parent / "aside"
    with watching(library) as watch:
        library.photos.rename(aside)
        watch.until_note("watching goes on when it is back")
        library.photos.mkdir()
        write_photo(aside / "meanwhile.png", 40)
        library.photos.rmdir()
        aside.rename(library.photos)
        watch.until_note("is back")
        watch.until_equal()
        library.photo("later.png", 41)
        watch.until_equal()
    assert not any(report["removed"] for report in watch.reports)


def test_deleting_all_photographs_is_no_deletion(library: Library) -> None:
    with watching(library) as watch:
        for path in library.photos.iterdir():
            path.unlink()
        watch.until_note("no photograph is left")
        assert len(library.asset_ids()) == 6
        library.photo("again.png", 60)
        watch.until_equal()


def test_exclusions_hold_and_changes_to_them_show(library: Library) -> None:
    with watching(library, "--exclude", "drafts/") as watch:
        library.photo("drafts/a.png", 20)
        library.photo("@eaDir/a.png", 21)
        library.photo("kept/a.png", 22)
        library.photo("kept/private/b.png", 23)
        watch.until(lambda: "kept/private/b.png" in library.asset_ids())
        (library.photos / "kept" / ".regardignore").write_text("private/\n")
        watch.until(lambda: "kept/private/b.png" not in library.asset_ids())
        (library.photos / "kept" / ".nomedia").touch()
        watch.until(lambda: "kept/a.png" not in library.asset_ids())
        (library.photos / "kept" / ".nomedia").unlink()
        watch.until(lambda: "kept/a.png" in library.asset_ids())
    assert set(library.asset_ids()) == {*(f"{n}.png" for n in range(6)), "kept/a.png"}


def test_other_writers_get_in_and_what_they_remove_stays_removed(library: Library) -> None:
    with watching(library) as watch:
        assert library.run("remove", library.photos / "0.png").code == 0
        os.utime(library.photos / "0.png")
        library.photo("new.png", 20)
        watch.until(lambda: "new.png" in library.asset_ids())
    assert "0.png" not in library.asset_ids()


def test_the_home_may_lie_in_the_watched_folder(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.home = library.photos / "home"
    library.photo("a.png", 1)
    with watching(library) as watch:
        for number in range(3):
            library.photo(f"b{number}.png", 2 + number)
            watch.until(lambda name=f"b{number}.png": name in library.asset_ids())
    # What a run writes into the home does not cause another one.
    assert [report["indexed"] for report in watch.reports] == [1, 1, 1, 1]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_names_that_are_no_text_are_followed(library: Library) -> None:
    with watching(library) as watch:
        write_photo(os.fsencode(library.photos) + b"/caf\xe9.png", 30)
        watch.until_equal()
        library.photo("after.png", 31)
        watch.until_equal()


class _Stopper(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stopped = threading.Event()

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def should_stop(self) -> bool:
        return self.stopped.is_set()


def _moved(library: Library, runs: Iterator[IndexReport], old: str, new: str) -> int:
    """Rename a file, and wait for it: how many moves the runs told of."""
    (library.photos / old).rename(library.photos / new)
    count = 0
    while new not in library.asset_ids() or old in library.asset_ids():
        count += next(runs).moved
    return count


def test_without_events_the_folder_is_looked_through(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regard.api.library.local import LocalLibrary
    from regard.api.library.settings import Settings

    def refuse(*_: object) -> None:
        raise EventsUnavailable("OS file watch limit reached")

    monkeypatch.setattr(watching_module, "FolderEvents", refuse)
    monkeypatch.setattr(watching_module, "POLL_SECONDS", 0.1)
    # A slow machine must not give up waiting for the new place of a moved file.
    monkeypatch.setattr(watching_module, "_HELD_SECONDS", 60.0)
    library.index()
    stopper = _Stopper()
    with LocalLibrary(Settings(library.home)) as local:
        runs = local.watch(library.photos, progress=stopper)
        for number in range(2):
            library.photo(f"new-{number}.png", 60 + number)
            assert next(runs).indexed == 1
        # The next look after a move is at the moved file alone, or at all: either way it is moved.
        names = ["new-1.png", *(f"moved-{number}.png" for number in range(3))]
        assert [_moved(library, runs, *two) for two in itertools.pairwise(names)] == [1, 1, 1]
        stopper.stopped.set()
        assert list(runs) == []
    assert len(stopper.notes) == 1
    assert "OS file watch limit reached" in stopper.notes[0]


class _Mute(FolderEvents):
    """Follows the folders, and tells nothing."""

    def wait(self) -> set[bytes]:
        super().wait()
        return set()


def test_an_event_that_is_missed_is_made_good_by_the_next_look_at_all(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regard.api.library.local import LocalLibrary
    from regard.api.library.settings import Settings

    monkeypatch.setattr(watching_module, "FolderEvents", _Mute)
    monkeypatch.setattr(watching_module, "SAFETY_SECONDS", 0.1)
    library.index()
    stopper = _Stopper()
    with LocalLibrary(Settings(library.home)) as local:
        runs = local.watch(library.photos, progress=stopper)
        library.photo("missed.png", 60)
        assert next(runs).indexed == 1
        (library.photos / "0.png").unlink()
        assert next(runs).removed == 1
        library.photo("1.png", 61)
        assert next(runs).indexed == 1
        stopper.stopped.set()
        assert list(runs) == []
    assert {*library.asset_ids()} == {"missed.png", *(f"{number}.png" for number in range(1, 6))}
    assert stopper.notes == []


@pytest.mark.parametrize(
    ("mounts", "is_lacking"),
    [
        ({"/": "ext4", "/photos": "nfs4"}, True),
        ({"/": "ext4", "/photos/nas": "cifs"}, True),
        ({"/": "nfs4", "/photos": "ext4"}, False),
        ({"/": "ext4", "/photos-of-others": "nfs4", "/photos/usb": "fuseblk"}, False),
    ],
)
def test_file_systems_of_other_machines_lack_events(
    mounts: dict[str, str], is_lacking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: parts)
    assert lacks_events(b"/photos") == is_lacking


def test_only_folders_are_watched(library: Library) -> None:
    one = library.photos / "0.png"
    library.run("index", one, "--watch", "--profile", "fake").expect_sentence(3, "only folders")
    library.run("index", library.photos / "none", "--watch").expect_sentence(3, "no file or folder")
    library.run("index", library.photos, "--poll").expect_sentence(2, "--poll needs --watch")


def _change_at_random(library: Library, chance: random.Random, number: int) -> None:
    """Create, rewrite, rename or delete one file, or rename a folder."""
    files = sorted(library.photos.rglob("*.png"))
    match chance.choice(["create", "create", "rewrite", "rename", "rename", "delete", "folder"]):
        case "rewrite" if files:
            write_photo(chance.choice(files), number)
        case "rename" if files:
            target = library.photos / f"{chance.randrange(9)}" / f"{number}.png"
            target.parent.mkdir(exist_ok=True)
            chance.choice(files).rename(target)
        case "delete" if len(files) > 5:
            chance.choice(files).unlink()
        case "folder":
            folders = sorted(path for path in library.photos.iterdir() if path.is_dir())
            if folders:
                chance.choice(folders).rename(library.photos / f"folder-{number}")
        case _:
            library.photo(f"{chance.randrange(9)}/{number}.png", number)


def _campaign(folder: Path, *, changes: int, kills: int, seed: int, watched: int = 0) -> None:
    """At least `watched` runs were made between the first one of a process and its death."""
    chance = random.Random(seed)
    library = Library(folder / "watched")
    library.photo("keep.png", 10**6)
    watch = Watching(library)
    deaths = {round(changes * (n + 1) / (kills + 1)) for n in range(kills)}
    seen = 0
    for number in range(changes):
        _change_at_random(library, chance, number)
        time.sleep(chance.random() * 0.05)
        if number in deaths:
            time.sleep(chance.random() * 2)
            assert watch.stop(signal.SIGKILL) == -signal.SIGKILL
            seen += max(0, watch.unread() + len(watch.reports) - 1)
            watch = Watching(library)
            # Some die in their first run, or before it.
            if chance.random() < 0.8:
                watch.report()
    watch.until_equal()
    assert watch.stop() == 130
    assert seen >= watched
    library.verify()
    fresh = Library(folder / "fresh")
    fresh.photos = library.photos
    fresh.index()
    assert library.everything() == fresh.everything()


def test_a_watched_home_equals_a_fresh_index_after_changes_and_kills(tmp_path: Path) -> None:
    _campaign(tmp_path, changes=120, kills=2, seed=3)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_watched_home_equals_a_fresh_index_after_thousands_of_changes(tmp_path: Path) -> None:
    _campaign(tmp_path, changes=2000, kills=20, seed=4, watched=10)
