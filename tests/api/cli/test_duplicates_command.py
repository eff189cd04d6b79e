"""`regard duplicates` and its measurement, from the outside."""

from __future__ import annotations

import datetime
import os
import shutil
import sqlite3
from pathlib import Path

import piexif
import pytest
from made_library import Library, regard
from made_local_server import LocalServer
from made_pictures import cropped, encoded, scene, with_thing, write
from PIL import Image, ImageEnhance

from regard.api.client import Client
from regard.api.library.duplicates import HomeDuplicates
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.indexer.report import Stoppable

pytestmark = pytest.mark.slow


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def taken(at: datetime.datetime, camera: str = "Old One") -> bytes:
    return piexif.dump(
        {
            "0th": {piexif.ImageIFD.Model: camera},
            "Exif": {piexif.ExifIFD.DateTimeOriginal: f"{at:%Y:%m:%d %H:%M:%S}"},
        }
    )


def groups(library: Library, *arguments: str, code: int = 0) -> list[tuple[str, list[str]]]:
    """Kinds and names; the one to keep is the first."""
    outcome = library.run("duplicates", "--json", *arguments)
    assert outcome.code == code, outcome
    found = []
    for group in outcome.document["groups"]:
        assert group["reasons"]
        members = group["members"]
        assert len(members) > 1
        assert sum(member["asset"]["id"] == group["keeper"] for member in members) == 1
        members = sorted(members, key=lambda item: item["asset"]["id"] != group["keeper"])
        names = [os.path.relpath(item["asset"]["uri"], library.photos) for item in members]
        found.append((group["kind"], [names[0], *sorted(names[1:])]))
    return found


def some_scenes(library: Library, count: int = 6) -> None:
    for seed in range(count):
        write(library.photos / f"other{seed}.jpg", scene(100 + seed), quality=92)


def test_each_kind_apart_with_the_one_to_keep(library: Library) -> None:
    some_scenes(library)
    whole = scene(1)
    noon = datetime.datetime(2024, 5, 1, 12)
    write(library.photos / "whole.jpg", whole, quality=95, exif=taken(noon))
    write(library.photos / "half.jpg", whole.resize((160, 120)), quality=80)
    write(library.photos / "cut.webp", cropped(whole, 0.1, 0.1, 0, 0), "WEBP", quality=80)
    write(library.photos / "bright.png", ImageEnhance.Brightness(whole).enhance(1.2), "PNG")
    write(library.photos / "thing.jpg", with_thing(whole, 1), quality=95)
    shutil.copyfile(library.photos / "other0.jpg", library.photos / "other0 (1).jpg")
    for second in range(3):
        moved = scene(9, (400, 300)).crop((6 * second, 0, 380 + 6 * second, 290))
        moved = with_thing(moved, second)
        at = noon + datetime.timedelta(hours=1, seconds=second)
        write(library.photos / f"burst{second}.jpg", moved, quality=90, exif=taken(at))
    library.index()
    # What is indexed is signed: nothing has to be read again.
    assert (
        library.sql("SELECT id FROM content WHERE id NOT IN (SELECT content_id FROM signature)")
        == []
    )
    expected = {
        "exact": [["other0.jpg", "other0 (1).jpg"]],
        "edited": [["whole.jpg", "bright.png", "cut.webp", "half.jpg"]],
    }
    found = groups(library)
    assert [names for kind, names in found if kind == "exact"] == expected["exact"]
    assert [names for kind, names in found if kind == "edited"] == expected["edited"]
    [burst] = [names for kind, names in found if kind == "burst"]
    assert sorted(burst) == ["burst0.jpg", "burst1.jpg", "burst2.jpg"]
    assert groups(library, "--kind", "exact") == [("exact", *expected["exact"])]
    assert groups(library, "--kind", "edited", "--kind", "burst") == found[1:]
    # A second call gives the same answer and compares nothing again.
    assert groups(library) == found


def test_paths_for_other_programs(library: Library) -> None:
    whole = scene(1)
    write(library.photos / "a.jpg", whole, quality=95)
    write(library.photos / "b.jpg", whole, quality=60)
    shutil.copyfile(library.photos / "b.jpg", library.photos / "c.jpg")
    library.index()
    a, b, c = (os.fsencode(library.photos / name) for name in ("a.jpg", "b.jpg", "c.jpg"))
    outcome = library.run("duplicates", "--paths")
    assert outcome.out == b"\n".join([b, c, b"", a, b, b"", b""])
    outcome = library.run("duplicates", "--paths0", "--kind", "edited")
    assert outcome.out == b"\0".join([a, b, b"", b""])
    # What is kept in one group is not among the others.
    outcome = library.run("duplicates", "--paths", "--omit-keepers")
    assert outcome.out == c + b"\n"
    shown = library.run("duplicates")
    assert b"keep" in shown.out
    assert b"groups: 1 exact, 1 edited" in shown.out


def test_nothing_to_find(library: Library) -> None:
    library.run("duplicates", "--json").expect_sentence(3, "nothing is indexed")
    library.photos.joinpath("empty").mkdir()
    library.index(library.photos / "empty")
    assert groups(library) == []
    write(library.photos / "one.jpg", scene(1))
    library.index()
    assert groups(library) == []
    assert b"no duplicates" in library.run("duplicates").out


def test_wrong_use(library: Library) -> None:
    write(library.photos / "one.jpg", scene(1))
    library.index()
    library.run("duplicates", "--json", "--paths").expect_sentence(2, "exclude")
    library.run("duplicates", "--omit-keepers").expect_sentence(2, "--paths")
    library.run("duplicates", "--kind", "similar").expect_sentence(2, "similar")
    library.run("duplicates", "--collection", "nowhere").expect_sentence(3, "nowhere")


def test_collections_and_files_that_go(library: Library) -> None:
    whole = scene(1)
    first = write(library.photos / "one" / "a.jpg", whole, quality=95)
    write(library.photos / "one" / "b.jpg", whole, quality=60)
    write(library.photos / "two" / "c.jpg", whole, quality=70)
    write(library.photos / "two" / "other.jpg", scene(2))
    library.index(library.photos / "one", "--collection", "one")
    library.index(library.photos / "two", "--collection", "two")
    assert groups(library) == [("edited", ["one/a.jpg", "one/b.jpg", "two/c.jpg"])]
    assert groups(library, "--collection", "one") == [("edited", ["one/a.jpg", "one/b.jpg"])]
    assert groups(library, "--collection", "two") == []
    # Without its file it is in the list until the folder is indexed again.
    first.unlink()
    assert groups(library, "--collection", "one") == [("edited", ["one/a.jpg", "one/b.jpg"])]
    library.index(library.photos / "one", "--collection", "one")
    assert groups(library, "--collection", "one") == []
    assert groups(library) == [("edited", ["two/c.jpg", "one/b.jpg"])]


def without_signatures(library: Library) -> None:
    """Make it a home of a version that knew none."""
    with sqlite3.connect(library.home / "catalog.sqlite3") as connection:
        connection.execute("DELETE FROM signature")
    connection.close()


def test_an_older_home_is_looked_at_when_it_is_asked(library: Library) -> None:
    whole = scene(1)
    write(library.photos / "a.jpg", whole, quality=95)
    write(library.photos / "b.jpg", whole, quality=60)
    gone = write(library.photos / "gone.jpg", scene(2))
    changed = write(library.photos / "changed.jpg", scene(3))
    library.index()
    without_signatures(library)
    gone.unlink()
    changed.write_bytes(encoded(scene(4)))
    outcome = library.run("duplicates", "--json")
    assert outcome.code == 1
    unusable = {
        os.path.basename(item["uri"]): item["reason"] for item in outcome.document["unusable"]
    }
    assert sorted(unusable) == ["changed.jpg", "gone.jpg"]
    assert all(unusable.values())
    assert outcome.err.count("can't be compared") == 2
    assert groups(library, code=1) == [("edited", ["a.jpg", "b.jpg"])]
    signed = "SELECT content_id FROM signature WHERE length(grey) > 0"
    assert len(library.sql(signed)) == 2


def test_a_server_signs_what_it_knows_by_itself_wherever_that_lies(
    library: Library, tmp_path: Path
) -> None:
    whole = scene(1)
    files = [library.photos / f"{number}.jpg" for number in range(5)]
    for number, file in enumerate(files):
        write(file, whole if number < 2 else scene(200 + number), quality=60 + number)
    library.index()
    without_signatures(library)
    files[2].unlink()
    # What lies there now is not what was indexed, wherever it leads.
    write(tmp_path / "secret.jpg", whole)
    files[3].unlink()
    files[3].symlink_to(tmp_path / "secret.jpg")
    with LocalServer(library.home, profile=None) as server, Client(server.url) as client:
        # A request signs and compares for a limited time.
        while client.duplicates.list().waiting:
            pass
        (group,) = client.duplicates.iterate()
        assert {member.asset.file_name for member in group.members} == {"0.jpg", "1.jpg"}
        page = client.duplicates.list()
        assert (page.waiting, page.left_out, page.complete) == (False, 2, False)
        told = regard("--server", server.url, "duplicates", "--json")
        assert len(told.document["groups"]) == 1
        assert "2 photographs can't be compared" in told.err
    signed = library.sql("SELECT count(*) FROM signature WHERE length(grey) > 0")
    assert signed == [(3,)]


def test_interrupted_comparison_continues(library: Library) -> None:
    whole = scene(1)
    for number in range(36):
        name = library.photos / f"{number:02}.jpg"
        write(name, whole if number in {3, 34} else scene(200 + number), quality=60 + number)
    library.index()
    without_signatures(library)
    with open_home(Settings.resolve(library.home, {})) as opened:
        parts = HomeDuplicates(opened)
        calls = iter(range(100))
        report = parts.sign(progress=Stoppable(lambda: next(calls) > 20))
        assert not report.finished
        assert 0 < report.signed < 36
        signed = library.sql("SELECT content_id FROM signature")
        assert len(signed) == report.signed
        assert parts.sign().signed == 36 - report.signed
        calls = iter(range(100))
        assert not parts.finder.compare(should_stop=lambda: next(calls) > 5)
        assert 0 < parts.finder.waiting() < 36
        done: list[int] = []
        assert parts.finder.compare(advance=done.append)
        assert 0 < sum(done) < 36
        assert parts.finder.waiting() == 0
    assert groups(library) == [("edited", ["34.jpg", "03.jpg"])]


def test_more_copies_than_neighbours_are_one_group(library: Library) -> None:
    whole = scene(1)
    for number in range(20):
        write(library.photos / f"copy{number:02}.jpg", whole, quality=40 + 2 * number)
    some_scenes(library)
    library.index()
    [(kind, names)] = groups(library)
    assert kind == "edited"
    assert names[0] == "copy19.jpg"
    assert len(names) == 20


def test_the_measurement(tmp_path: Path) -> None:
    whole = scene(0)
    write(tmp_path / "photos" / "0.jpg", whole, quality=92)
    write(tmp_path / "photos" / "before.jpg", with_thing(whole, 3), quality=92)
    outcome = regard(
        *("evaluate", "duplicates", "--images", tmp_path / "photos", "--profile", "fake", "--json")
    )
    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["photographs"], report["files"]) == (2, 22)
    assert report["pairs"]["expected"] == 2 * 55
    assert report["precision"] == 1.0
    assert report["recall"] > 0.9
    assert set(report["recall_by_edit"]) >= {"resized to 50 %", "PNG", "brightness + 20 %"}
    # A photograph twice among them is a wrong pair, and more than one.
    Image.open(tmp_path / "photos" / "0.jpg").save(tmp_path / "photos" / "0 again.png")
    outcome = regard(
        *("evaluate", "duplicates", "--images", tmp_path / "photos", "--profile", "fake", "--json"),
        *("--only", "0*"),
    )
    assert outcome.document["photographs"] == 2
    assert outcome.document["precision"] < 0.8
    assert len(outcome.document["wrong"]) > 20
    outcome = regard("evaluate", "duplicates", "--images", tmp_path / "none", "--profile", "fake")
    outcome.expect_sentence(3, "none")
