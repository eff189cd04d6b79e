"""Indexing again: unchanged files cost nothing, and unreachable files are not removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_library import Library, write_photo
from made_library import regard as run_command

import regard
import regard.indexer.indexing
from regard.core.errors import UnstorableValue
from regard.core.facts import PhotoFacts
from regard.core.records import Analysis, Image
from regard.indexer import indexing
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.composition import ComposedAnalyzer
from regard.photos.photo_file import PhotoFile, decode_file
from regard.storage.assets.indexing import SqlIndexingCatalog


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each call of the models."""
    calls: list[int] = []
    analyze = ComposedAnalyzer.analyze

    def counted(self: ComposedAnalyzer, images: Sequence[Image]) -> list[Analysis]:
        calls.append(len(images))
        return analyze(self, images)

    monkeypatch.setattr(ComposedAnalyzer, "analyze", counted)
    return calls


def _counts(report: dict[str, object]) -> dict[str, object]:
    names = ("indexed", "unchanged", "moved", "removed", "failed")
    return {name: report[name] for name in names if report[name]}


def test_unchanged_and_touched_files_load_no_models(
    library: Library, analysed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        library.photo(f"{number}.png", number)
    report = library.index()
    assert (report["regions"], report["captions"]) == (80, 20)
    assert _counts(report) == {"indexed": 20}
    assert sum(analysed) == 20
    assert max(analysed) > 1
    ids = library.asset_ids()
    monkeypatch.setattr(ComposedProfile, "analyzer", lambda _: pytest.fail("loaded"))
    assert _counts(library.index()) == {"unchanged": 20}
    for path in library.photos.iterdir():
        os.utime(path, (1, 1))
    assert _counts(library.index()) == {"unchanged": 20}
    assert library.asset_ids() == ids


def test_a_changed_file_is_analysed_again_and_keeps_its_id(library: Library) -> None:
    library.photo("a.png", 1)
    library.photo("b.png", 2)
    library.index()
    ids = library.asset_ids()
    library.photo("a.png", 50, "yellow", "yellow", "yellow")
    assert _counts(library.index()) == {"indexed": 1, "unchanged": 1}
    assert library.asset_ids() == ids
    assert library.sql("SELECT count(*) FROM content") == [(2,)]
    assert library.search("yellow")[0]["asset"]["uri"].endswith("a.png")
    library.verify()


def test_a_moved_file_keeps_its_content_and_its_id(library: Library, analysed: list[int]) -> None:
    for number in range(6):
        library.photo(f"old/{number}.png", number)
    library.photo("stays.png", 9)
    library.index()
    ids = library.asset_ids()
    (library.photos / "old").rename(library.photos / "new")
    (library.photos / "new/0.png").rename(library.photos / "a.png")
    assert _counts(library.index()) == {"unchanged": 1, "moved": 6}
    moved = {name.replace("old/", "new/"): number for name, number in ids.items()}
    moved["a.png"] = moved.pop("new/0.png")
    assert library.asset_ids() == moved
    assert sum(analysed) == 7
    library.verify()


def test_the_same_bytes_at_two_paths_are_two_assets_of_one_content(
    library: Library, analysed: list[int]
) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        library.photo(name, 1, "red")
    assert _counts(library.index()) == {"indexed": 3}
    assert sum(analysed) == 1
    library.photo("d.png", 1, "red")
    assert _counts(library.index()) == {"indexed": 1, "unchanged": 3}
    assert sum(analysed) == 1
    assert library.sql("SELECT count(*) FROM content") == [(1,)]
    assert library.shown() == {"a.png", "b.png", "d.png", "sub/c.png"}
    os.unlink(library.photos / "a.png")
    library.index()
    assert library.shown() == {"b.png", "d.png", "sub/c.png"}
    library.verify()


def test_many_copies_share_one_content(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regard.indexer.indexing, "_BATCH_COPIES", 4)
    for number in range(30):
        library.photo(f"{number:02}.png", 1)
    assert _counts(library.index()) == {"indexed": 30}
    assert library.sql("SELECT count(*) FROM content") == [(1,)]


def test_giant_images_are_analysed_one_by_one(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        # JPEG could be read at a part of its size, which these are not.
        kind = "JPEG" if number % 2 else "PNG"
        write_photo(library.photos / f"{number}.png", number, kind=kind)
        write_photo(library.photos / f"{number}-twin.png", number, kind=kind)
        (library.photos / f"{number}.jpg").write_bytes(b"bad")
    library.index(code=1)
    giants = Library(library.home.parent / "giants")
    giants.photos = library.photos
    monkeypatch.setattr(regard.indexer.analysis, "AHEAD_PIXELS", 100)
    alive: list[int] = []
    analyze = ComposedAnalyzer.analyze

    def watched(self: ComposedAnalyzer, images: Sequence[Image]) -> list[Analysis]:
        alive.append(len(images))
        return analyze(self, images)

    monkeypatch.setattr(ComposedAnalyzer, "analyze", watched)
    monkeypatch.setattr(regard.indexer.analysis, "_BATCH_PIXELS", 100)
    giants.index(code=1)
    assert alive == [1] * 8
    assert giants.everything() == library.everything()
    assert _counts(giants.index(code=1)) == {"unchanged": 16, "failed": 8}


def test_failed_files_are_tried_again_only_if_changed_or_requested(library: Library) -> None:
    bad = library.photos / "bad.jpg"
    bad.write_bytes(b"no photograph")
    library.photo("good.png", 1)
    report = library.index(code=1)
    assert _counts(report) == {"indexed": 1, "failed": 1}
    standing = {"uri": str(bad), "reason": "it is not a photograph or video of a known format"}
    assert report["failures"] == [standing]
    # It was not tried again; the reason is that of the earlier run.
    again = library.index(code=1)
    assert _counts(again) == {"unchanged": 1, "failed": 1}
    assert again["failures"] == [standing]
    # Failures outside the roots are not reported.
    assert library.index(library.photos / "good.png")["failed"] == 0
    assert library.index("--retry-failed", library.photos, code=1)["failures"] == [standing]
    write_photo(bad, 2)
    assert _counts(library.index()) == {"indexed": 1, "unchanged": 1}
    bad.write_bytes(b"broken again")
    assert _counts(library.index(code=1)) == {"unchanged": 1, "failed": 1}
    assert library.shown() == {"good.png"}
    library.verify()
    os.unlink(bad)
    assert _counts(library.index()) == {"unchanged": 1, "removed": 1}


def test_a_changed_sidecar_changes_the_facts(library: Library, analysed: list[int]) -> None:
    library.photo("a.jpg", 1, kind="JPEG")
    library.index()

    def sidecar(title: str) -> None:
        (library.photos / "a.xmp").write_text(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
            'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title><rdf:Alt>'
            f'<rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>'
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
        )

    for title in ("The harbour", "The old harbour"):
        sidecar(title)
        library.index()
        assert library.sql("SELECT title FROM asset") == [(title,)]
    os.unlink(library.photos / "a.xmp")
    library.index()
    assert library.sql("SELECT title FROM asset") == [(None,)]
    assert sum(analysed) == 1


def test_facts_are_read_again_on_request(
    library: Library, analysed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a home that was indexed before regard read ratings, places and lenses."""
    facts = PhotoFacts(
        rating=4, lens="EF 50mm f/1.8", latitude=52.52, longitude=13.405, keywords=("lake",)
    )
    for number in range(3):
        library.photo(f"{number}.jpg", number, kind="JPEG")
    library.index()
    monkeypatch.setattr(PhotoFile, "facts", lambda *_: facts)
    ids = library.asset_ids()
    with regard.open(library.home) as opened:
        opened.rate(f"a{ids['2.jpg']}", 1)
        assert _counts(library.index()) == {"unchanged": 3}
        assert not opened.search("has:lens OR has:gps OR has:tag").hits
        assert _counts(library.index("--reread", library.photos)) == {"unchanged": 3}
        for query, names in [
            ('lens:"EF 50mm f/1.8" country:DE tag:lake', {"0.jpg", "1.jpg", "2.jpg"}),
            ("rating:4", {"0.jpg", "1.jpg"}),
            ("rating:1", {"2.jpg"}),
        ]:
            hits = opened.search(query).hits
            assert {Path(hit.asset.uri).name for hit in hits} == names
    assert sum(analysed) == 3
    assert library.asset_ids() == ids
    library.verify()


@pytest.mark.parametrize("how", ["missing", "empty", "without photographs", "a loop"])
def test_a_missing_or_emptied_root_removes_nothing(library: Library, how: str) -> None:
    for number in range(3):
        library.photo(f"{number}.png", number)
    library.index()
    shutil.rmtree(library.photos)
    if how == "a loop":
        library.photos.symlink_to(library.photos)
    elif how != "missing":
        library.photos.mkdir()
        if how == "without photographs":
            (library.photos / "notes.txt").write_text("all gone")
    library.run("index", library.photos).expect_sentence(3, str(library.photos))
    assert len(library.shown()) == 3
    library.verify()


def test_an_unmounted_root_does_not_make_copies_look_like_moves(library: Library) -> None:
    disk = library.photos / "z-disk"
    write_photo(disk / "1.png", 1)
    write_photo(library.photos / "other.png", 2)
    library.index(disk)
    disk.rename(library.photos.parent / "unplugged")
    copies = library.photos / "a-copies"
    write_photo(copies / "1.png", 1)
    # The disk is not a root of this run.
    assert _counts(library.index(copies)) == {"indexed": 1}
    assert set(library.asset_ids()) == {"a-copies/1.png", "z-disk/1.png"}
    write_photo(copies / "2.png", 1)
    disk.mkdir()
    library.run("index", copies, disk).expect_sentence(3, "z-disk", "nothing was removed")
    assert "z-disk/1.png" in library.asset_ids()


def test_an_unmounted_disk_behind_a_link_removes_nothing(library: Library) -> None:
    write_photo(library.photos.parent / "disk" / "far.png", 1)
    library.photo("near.png", 2)
    (library.photos / "link").symlink_to(library.photos.parent / "disk")
    assert _counts(library.index()) == {"indexed": 2}
    (library.photos.parent / "disk").rename(library.photos.parent / "unplugged")
    report = library.index(code=1)
    assert _counts(report) == {"unchanged": 1, "failed": 1}
    assert report["failures"][0]["uri"] == str(library.photos / "link")
    assert library.shown() == {"near.png", "link/far.png"}


def test_overlapping_roots_are_walked_once(library: Library) -> None:
    library.photo("a/1.png", 1)
    library.photo("b/2.png", 2)
    roots = (
        library.photos / "a",
        library.photos,
        library.photos / "a" / "1.png",
        library.photos / "b",
    )
    assert _counts(library.index(*roots)) == {"indexed": 2}
    # A root inside another covers only its own files.
    os.unlink(library.photos / "b" / "2.png")
    assert _counts(library.index(library.photos / "a")) == {"unchanged": 1}
    assert len(library.asset_ids()) == 2
    assert _counts(library.index()) == {"unchanged": 1, "removed": 1}


def test_a_folder_whose_name_starts_the_same_is_left_alone(library: Library) -> None:
    for name in ("a/1.png", "a-b/2.png", "ab/3.png", "a.png", "a0/4.png"):
        library.photo(name, len(name) * 7 + ord(name[1]))
    library.index()
    os.unlink(library.photos / "a/1.png")
    library.photo("a/5.png", 5)
    shutil.rmtree(library.photos / "a-b")
    shutil.rmtree(library.photos / "ab")
    assert _counts(library.index(library.photos / "a")) == {"indexed": 1, "removed": 1}
    assert len(library.asset_ids()) == 5


def test_a_single_file_can_be_a_root(library: Library) -> None:
    photo = library.photo("a.png", 1)
    library.photo("b.png", 2)
    assert _counts(library.index(photo)) == {"indexed": 1}
    assert _counts(library.index(photo)) == {"unchanged": 1}
    os.unlink(photo)
    library.run("index", photo).expect_sentence(3, "regard remove")
    assert library.shown() == {"a.png"}
    assert library.run("remove", photo).code == 0
    library.run("remove", photo).expect_sentence(3, "holds nothing")


def test_hundreds_of_single_files_can_be_roots(library: Library) -> None:
    for number in range(230):
        library.photo(f"{number}.png", 1)
    (library.photos / "bad.jpg").write_bytes(b"bad")
    report = library.index(*sorted(library.photos.iterdir()), code=1)
    assert _counts(report) == {"indexed": 230, "failed": 1}


def test_collections_share_contents_but_not_assets(library: Library, analysed: list[int]) -> None:
    for number in range(4):
        library.photo(f"{number}.png", number)
    library.index()
    library.index("--collection", "second", library.photos / "1.png", library.photos / "2.png")
    assert sum(analysed) == 4
    assert library.shown() == {f"{number}.png" for number in range(4)}
    assert library.shown("--collection", "second") == {"1.png", "2.png"}
    assert len(library.search("red", "--limit", "100")) == 6
    os.unlink(library.photos / "1.png")
    library.index()
    assert library.shown("--collection", "default") == {"0.png", "2.png", "3.png"}
    assert library.shown("--collection", "second") == {"1.png", "2.png"}
    library.verify()
    assert library.run("remove", library.photos, "--collection", "second", "--json").document == {
        "removed": 2
    }
    assert library.shown() == {"0.png", "2.png", "3.png"}
    assert library.sql("SELECT count(*) FROM content") == [(3,)]
    library.verify()


def test_an_image_that_the_models_reject_fails_alone(
    library: Library, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(10):
        library.photo(f"{number}.png", number)
    analyze = ComposedAnalyzer.analyze
    poison = library.photos / "5.png"
    pixels = decode_file(poison).pixels

    def brittle(self: ComposedAnalyzer, images: Sequence[Image]) -> list[Analysis]:
        for image in images:
            if image.pixels.shape == pixels.shape and (image.pixels == pixels).all():
                raise RuntimeError("CUDA out of memory")
        return analyze(self, images)

    monkeypatch.setattr(ComposedAnalyzer, "analyze", brittle)
    report = library.index(code=1)
    assert _counts(report) == {"indexed": 9, "failed": 1}
    assert report["failures"] == [
        {
            "uri": str(poison),
            "reason": "the models can't process it: RuntimeError: CUDA out of memory",
        }
    ]
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.setattr(ComposedAnalyzer, "analyze", analyze)
    assert _counts(library.index("--retry-failed", library.photos)) == {
        "indexed": 1,
        "unchanged": 9,
    }


def test_an_unexpected_exception_while_reading_fails_one_file(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.photo("a.png", 1)
    library.photo("b.png", 2)
    open_media = indexing.open_media

    def brittle(path: bytes, *arguments: object) -> object:
        if path.endswith(b"a.png"):
            raise RecursionError("too deep")
        return open_media(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(indexing, "open_media", brittle)
    report = library.index(code=1)
    assert _counts(report) == {"indexed": 1, "failed": 1}
    assert "RecursionError" in report["failures"][0]["reason"]


@pytest.mark.parametrize(
    ("seconds", "dated"),
    [
        (13_569_465_600, "2262-04-11"),  # 2400
        (253_402_300_800, "2262-04-11"),  # 10000
        (-11_676_096_000, "1677-09-21"),  # 1600
        (-1_577_923_200, "1920-01-01"),
        (-1, "1969-12-31"),
        (0, "1970-01-01"),
    ],
)
def test_files_with_odd_times_are_indexed_and_stay_unchanged(
    library: Library, seconds: int, dated: str
) -> None:
    library.photo("a.png", 1)
    odd = library.photo("b.png", 2)
    (library.photos / "b.xmp").write_text("<x/>")
    for path in (odd, library.photos / "b.xmp"):
        os.utime(path, ns=(0, seconds * 10**9))
    library.photo("c.png", 3)
    assert _counts(library.index()) == {"indexed": 3}
    assert _counts(library.index()) == {"unchanged": 3}
    [(stored,)] = library.sql("SELECT dated_at FROM asset WHERE uri LIKE '%b.png'")
    # Not every file system keeps each of these times.
    assert stored.startswith(dated) or odd.stat().st_mtime_ns != seconds * 10**9


@pytest.mark.parametrize("bad", ["b.png", "b copy.png"])
def test_a_file_that_the_catalog_refuses_fails_alone_and_once(
    library: Library, analysed: list[int], monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        library.photo(name, number)
    shutil.copy(library.photos / "b.png", library.photos / "b copy.png")

    def refusing(method: str) -> None:
        write = getattr(SqlIndexingCatalog, method)

        def brittle(self: SqlIndexingCatalog, what: Any, *rest: Any, **more: Any) -> None:
            files = what if method == "save" else [what]
            stamps = (one.stamp if method == "save" else one for one in files)
            if any(stamp.path == os.fsencode(library.photos / bad) for stamp in stamps):
                raise UnstorableValue("the database can't store a value: too large")
            write(self, what, *rest, **more)

        monkeypatch.setattr(SqlIndexingCatalog, method, brittle)

    refusing("save")
    refusing("attach")
    report = library.index(code=1)
    assert _counts(report) == {"indexed": 3, "failed": 1}
    assert report["failures"][0]["reason"] == "the database can't store a value: too large"
    assert sum(analysed) == 3
    assert _counts(library.index(code=1)) == {"unchanged": 3, "failed": 1}
    assert sum(analysed) == 3
    # Where not even a failure can be stored, the file is still listed.
    refusing("fail")
    os.utime(library.photos / bad, (1, 1))
    assert _counts(library.index(code=1))["failed"] >= 1


def test_moves_among_many_copies_keep_their_assets(library: Library) -> None:
    first = library.photo("a/00.png", 1)
    for number in range(1, 30):
        os.link(first, library.photos / "a" / f"{number:02}.png")
    assert _counts(library.index()) == {"indexed": 30}
    ids = set(library.asset_ids().values())
    (library.photos / "b").mkdir()
    for number in range(20):
        os.rename(library.photos / f"a/{number:02}.png", library.photos / f"b/{number:02}.png")
    for number in range(20, 25):
        os.link(library.photos / f"a/{number}.png", library.photos / f"b/{number}.png")
    assert _counts(library.index()) == {"indexed": 5, "unchanged": 10, "moved": 20}
    assert ids < set(library.asset_ids().values())
    assert len(library.asset_ids()) == 35
    library.verify()


def test_each_copy_of_a_content_is_looked_at_a_few_times(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each other copy."""
    first = library.photo("0.png", 1)
    for number in range(1, 300):
        os.link(first, library.photos / f"{number}.png")
    looked = []
    is_gone = regard.indexer.indexing.is_gone
    monkeypatch.setattr(
        regard.indexer.indexing, "is_gone", lambda path: looked.append(path) or is_gone(path)
    )
    assert _counts(library.index()) == {"indexed": 300}
    assert len(looked) < 3 * 300


def test_a_mistyped_path_creates_no_home(library: Library) -> None:
    outcome = run_command(
        "index", library.photos / "typo", "--home", library.home, "--profile", "fake"
    )
    outcome.expect_sentence(3, "typo")
    assert not library.home.exists()


def test_a_file_changed_while_it_was_read_is_read_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = library.photo("a.png", 1)
    open_media = indexing.open_media

    def changing(path: bytes, *arguments: object) -> object:
        write_photo(photo, 2, "purple")
        return open_media(path, *arguments)

    monkeypatch.setattr(indexing, "open_media", changing)
    library.index()
    monkeypatch.undo()
    write_photo(photo, 3, "yellow")
    library.index()
    fresh = Library(library.home.parent / "fresh")
    fresh.photos = library.photos
    fresh.index()
    assert library.everything() == fresh.everything()
