"""`regard write-metadata`: what people said of photographs, in sidecars beside them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import piexif
import pytest
from made_library import Library, regard_process, without_root_rights
from made_server import Server

import regard as api
from regard.api.client import Client
from regard.api.library.home import open_home_catalog
from regard.api.library.settings import Settings
from regard.core.assets import Asset, AssetDetail, AssetEdit
from regard.core.errors import LeaseHeld, UsageError
from regard.photos.metadata.xmp import read_xmp
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.review import SqlDuplicateReview
from regard.storage.database.catalog import Catalog
from regard.storage.database.lease import hold_writer_lease

SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmp:Rating="%s" crs:Exposure="+1.0" exif:GPSLatitude="48,51.504N" exif:GPSLongitude="2,21.0E">
<dc:subject><rdf:Bag>%s</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


def sidecar(*keywords: str, rating: int = 2) -> str:
    return SIDECAR % (rating, "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@contextlib.contextmanager
def catalog_of(library: Library) -> Iterator[Catalog]:
    with open_home_catalog(Settings.resolve(library.home), make=False) as catalog:
        yield catalog


def edit(library: Library, name: str, title: str | None = None, *tags: str) -> None:
    """Give a photograph these tags, and a title unless it is None."""
    fields = frozenset({"tags"} if title is None else {"tags", "title"})
    with catalog_of(library) as catalog:
        number = library.asset_ids()[name]
        SqlAssetEditing(catalog).edit(number, AssetEdit(fields, title=title, tags=tags))


def rate(library: Library, name: str, stars: int) -> None:
    with catalog_of(library) as catalog:
        SqlAssetEditing(catalog).rate([library.asset_ids()[name]], stars)


def detail(library: Library, name: str) -> AssetDetail:
    with catalog_of(library) as catalog:
        return SqlAssetReading(catalog).detail(library.asset_ids()[name])


def asset(library: Library, name: str) -> Asset:
    return detail(library, name).asset


def write(library: Library, *arguments: str, code: int = 0) -> dict[str, Any]:
    outcome = library.run("write-metadata", *arguments, "--json")
    assert outcome.code == code, outcome
    report: dict[str, Any] = outcome.document
    report["sidecars"] = [os.path.relpath(path, library.photos) for path in report["sidecars"]]
    return report


def properties(path: Path) -> dict[str, list[str]]:
    return read_xmp(path.read_bytes()).properties


def test_edits_are_written_once_and_analysed_never(library: Library) -> None:
    for seed, name in enumerate(("a.png", "below/b.png", "plain.png")):
        library.photo(name, seed)
    (library.photos / "below" / "b.xmp").write_text(sidecar("sea", "old"))
    library.index()
    edit(library, "a.png", "Tür", "lake", "日本")
    edit(library, "below/b.png", None, "sea", "new")
    before = {path: path.read_bytes() for path in library.photos.rglob("*.png")}
    report = write(library, "--dry-run")
    assert (report["written"], report["sidecars"]) == (2, ["a.png.xmp", "below/b.xmp"])
    assert not (library.photos / "a.png.xmp").exists()
    report = write(library)
    assert (report["written"], report["unchanged"], report["failures"]) == (2, 0, [])
    assert {path.name for path in library.photos.rglob("*") if path.is_file()} == {
        "a.png", "a.png.xmp", "b.png", "b.xmp", "plain.png",
    }  # fmt: skip
    assert {path: path.read_bytes() for path in before} == before
    written = properties(library.photos / "a.png.xmp")
    assert (written["dc:title"], set(written["dc:subject"])) == (["Tür"], {"lake", "日本"})
    written = properties(library.photos / "below" / "b.xmp")
    assert (set(written["dc:subject"]), written["xmp:Rating"]) == (
        {"sea", "new"}, ["2"],
    )  # fmt: skip
    assert "+1.0" in (library.photos / "below" / "b.xmp").read_text()
    assert write(library)["sidecars"] == []
    assert (asset(library, "a.png").title, asset(library, "a.png").tags) == (
        "Tür", ("lake", "日本"),
    )  # fmt: skip
    report = library.index()
    assert (report["indexed"], report["unchanged"], report["damaged_sidecars"]) == (0, 3, 0)
    library.verify()
    assert asset(library, "below/b.png").tags == ("new", "sea")
    assert detail(library, "below/b.png").facts.rating == 2
    assert [hit["asset"]["uri"] for hit in library.search("tag:lake")] == [
        str(library.photos / "a.png")
    ]


def test_what_was_written_follows_the_sidecar_from_then_on(library: Library) -> None:
    library.photo("a.png", 1)
    library.index()
    edit(library, "a.png", "Mine", "lake", "sea")
    write(library)
    beside = library.photos / "a.png.xmp"
    # Another program removes a keyword, adds one, and changes the title.
    text = beside.read_text().replace("<rdf:li>sea</rdf:li>", "<rdf:li>boat</rdf:li>")
    beside.write_text(text.replace("Mine", "Theirs"))
    assert library.index()["unchanged"] == 1
    now = asset(library, "a.png")
    assert (now.title, now.tags) == ("Theirs", ("boat", "lake"))
    assert write(library)["sidecars"] == []


def test_a_sidecar_changed_since_indexing_keeps_the_change(library: Library) -> None:
    library.photo("a.png", 1)
    beside = library.photos / "a.png.xmp"
    beside.write_text(sidecar("sea", "old"))
    library.index()
    edit(library, "a.png", None, "sea", "lake")
    beside.write_text(sidecar("sea", "old", "boat", rating=5))
    assert write(library)["written"] == 1
    assert set(properties(beside)["dc:subject"]) == {"sea", "boat", "lake"}
    assert properties(beside)["xmp:Rating"] == ["5"]
    library.index()
    assert asset(library, "a.png").tags == ("boat", "lake", "sea")
    assert (detail(library, "a.png").facts.rating, write(library)["sidecars"]) == (5, [])


def test_all_tags_may_be_removed(library: Library) -> None:
    library.photo("a.png", 1)
    beside = library.photos / "a.png.xmp"
    beside.write_text(sidecar("sea"))
    library.index()
    edit(library, "a.png")
    assert write(library)["written"] == 1
    assert properties(beside)["dc:subject"] == []
    beside.touch()
    library.index()
    assert asset(library, "a.png").tags == ()


def test_raw_and_jpeg_of_one_name_get_sidecars_of_their_own(library: Library) -> None:
    library.photo("pair.jpg", 1, kind="JPEG")
    library.photo("pair.png", 2)
    (library.photos / "pair.xmp").write_text(sidecar("sea"))
    library.index()
    edit(library, "pair.jpg", None, "sea", "lake")
    report = write(library)
    assert report["sidecars"] == ["pair.jpg.xmp"]
    assert (library.photos / "pair.xmp").read_text() == sidecar("sea")
    written = properties(library.photos / "pair.jpg.xmp")
    assert (written["dc:subject"], written["xmp:Rating"]) == (["sea", "lake"], ["2"])
    assert library.index()["unchanged"] == 2
    assert (asset(library, "pair.jpg").tags, asset(library, "pair.png").tags) == (
        ("lake", "sea"), ("sea",),
    )  # fmt: skip


def test_a_merged_rating_and_the_place_are_written(library: Library) -> None:
    library.photo("keep.png", 1)
    library.photo("copy.png", 1)
    (library.photos / "copy.png.xmp").write_text(sidecar(rating=4))
    library.photo("placed.png", 2)
    (library.photos / "placed.xmp").write_text(sidecar(rating=1))
    library.photo("placed.jpg", 3, kind="JPEG")
    library.index()
    with catalog_of(library) as catalog:
        ids = library.asset_ids()
        SqlDuplicateReview(catalog).merge(ids["keep.png"], [ids["copy.png"]])
    edit(library, "placed.png", "Placed")
    assert sorted(write(library)["sidecars"]) == ["keep.png.xmp", "placed.png.xmp"]
    assert properties(library.photos / "keep.png.xmp")["xmp:Rating"] == ["4"]
    library.index()
    assert detail(library, "keep.png").facts.rating == 4
    facts = detail(library, "placed.png").facts
    assert (facts.latitude, facts.longitude) == pytest.approx((48.8584, 2.35))
    assert write(library)["sidecars"] == []


def test_a_rating_outranks_the_file_until_it_is_written(library: Library) -> None:
    for seed, (name, stars) in enumerate((("new", None), ("less", 5), ("gone", 3), ("none", None))):
        library.photo(f"{name}.png", seed)
        if stars is not None:
            (library.photos / f"{name}.png.xmp").write_text(sidecar("sea", rating=stars))
    library.index()
    for name, stars in (("new", 4), ("less", 2), ("gone", 0), ("none", 1), ("none", 0)):
        rate(library, f"{name}.png", stars)
    # The file is rated again elsewhere, and read.
    (library.photos / "less.png.xmp").write_text(sidecar("sea", "late", rating=3))
    library.index()
    wanted = {"new": 4, "less": 2, "gone": 0}
    assert {name: detail(library, f"{name}.png").facts.rating for name in wanted} == wanted
    report = write(library)
    assert (sorted(report["sidecars"]), report["unchanged"]) == (
        ["gone.png.xmp", "less.png.xmp", "new.png.xmp"], 1,
    )  # fmt: skip
    written = {name: properties(library.photos / f"{name}.png.xmp") for name in wanted}
    assert {name: of["xmp:Rating"] for name, of in written.items()} == {
        name: [str(stars)] for name, stars in wanted.items()
    }
    assert set(written["less"]["dc:subject"]) == {"sea", "late"}
    assert library.index()["unchanged"] == 4
    assert write(library)["sidecars"] == []
    # From now on it is the file's own.
    (library.photos / "new.png.xmp").write_text(sidecar(rating=1))
    library.index()
    assert detail(library, "new.png").facts.rating == 1
    assert detail(library, "none.png").facts.rating is None


def test_filters_and_collections_choose(library: Library) -> None:
    for seed, name in enumerate(("a.png", "b.png")):
        library.photo(name, seed)
    library.index()
    edit(library, "a.png", None, "lake")
    edit(library, "b.png", None, "sea")
    assert write(library, "tag:lake", "--dry-run")["sidecars"] == ["a.png.xmp"]
    assert write(library, "--collection", "default", "--dry-run")["written"] == 2
    for query in ("lake", "", "tag:lake boat"):
        library.run("write-metadata", query).expect_sentence(2, "only filters")
    library.run("write-metadata", "--collection", "none").expect_sentence(3, "none")
    assert not list(library.photos.glob("*.xmp"))
    outcome = library.run("write-metadata", "tag:lake")
    assert outcome.out == b"1 written, 0 unchanged, 0 failed\n"


def test_what_cannot_be_written_is_listed_and_the_rest_is(library: Library, tmp_path: Path) -> None:
    names = ("damaged.png", "empty.png", "gone.png", "linked.png", "ro/readonly.png", "well.png")
    for seed, name in enumerate(names):
        library.photo(name, seed)
    library.photo("n" * 248 + ".png", 9)
    outside = tmp_path / "outside.xmp"
    outside.write_text(sidecar("x"))
    (library.photos / "damaged.png.xmp").write_text(sidecar("x")[:-20])
    (library.photos / "empty.png.xmp").touch()
    (library.photos / "linked.png.xmp").symlink_to(outside)
    library.index()
    for name in (*names, "n" * 248 + ".png"):
        edit(library, name, "Title", "tag")
    (library.photos / "gone.png").unlink()
    (library.photos / "ro").chmod(0o555)
    outcome = regard_process(
        *("write-metadata", "--json", "--home", library.home),
        environ=without_root_rights(tmp_path / "site"),
    )
    assert outcome.code == 1, outcome
    reasons = {
        Path(failure["uri"]).name[:8]: failure["reason"] for failure in outcome.document["failures"]
    }
    assert reasons == {
        "damaged.": "its sidecar is damaged, so that nothing is written into it",
        "empty.pn": "its sidecar empty.png.xmp can't be used: it is empty",
        "gone.png": "it can't be read: No such file or directory",
        "linked.p": "its sidecar linked.png.xmp is a link or not a regular file",
        "readonly": "its sidecar can't be written: Permission denied",
        "nnnnnnnn": "its sidecar can't be written: File name too long",
    }
    assert [Path(path).name for path in outcome.document["sidecars"]] == ["well.png.xmp"]
    assert outside.read_text() == sidecar("x")
    left = {path.name for path in library.photos.rglob("*") if "aside" in path.name}
    assert left == set()


def test_an_existing_sidecar_keeps_its_permissions_and_a_left_file_is_replaced(
    library: Library,
) -> None:
    library.photo("a.png", 1)
    beside = library.photos / "a.png.xmp"
    beside.write_text(sidecar())
    beside.chmod(0o640)
    if os.getuid() == 0:
        os.chown(beside, 12_345, 12_345)
    (library.photos / ".regard.aside").write_text("of a killed process")
    library.index()
    edit(library, "a.png", "Title")
    assert write(library)["written"] == 1
    status = beside.stat()
    assert status.st_mode & 0o777 == 0o640
    assert status.st_uid == (os.getuid() or 12_345)
    assert not (library.photos / ".regard.aside").exists()


def test_a_killed_call_is_made_good(library: Library) -> None:
    library.photo("a.png", 1)
    library.index()
    edit(library, "a.png", "Title", "tag")
    with pytest.MonkeyPatch.context() as patch:
        # Killed after the sidecar was written, before that was recorded.
        patch.setattr("regard.storage.assets.edited.SqlEditedAssets.settle", lambda *_: None)
        assert write(library)["written"] == 1
    report = write(library)
    assert (report["written"], report["unchanged"]) == (0, 1)
    library.index()
    assert (asset(library, "a.png").title, asset(library, "a.png").tags) == ("Title", ("tag",))
    assert write(library)["unchanged"] == 1
    assert write(library)["unchanged"] == 0


def test_another_writer_is_an_error(library: Library) -> None:
    library.photo("a.png", 1)
    library.index()
    edit(library, "a.png", "Title")
    with (
        catalog_of(library) as catalog,
        hold_writer_lease(catalog.database),
        api.open(library.home) as opened,
    ):
        with pytest.raises(LeaseHeld):
            opened.write_metadata()
        assert len(opened.write_metadata(dry_run=True).sidecars) == 1
        with pytest.raises(UsageError, match="only filters"):
            opened.write_metadata("red")


def test_uploads_get_no_sidecar(library: Library) -> None:
    library.photo("a.png", 1)
    library.index()
    edit(library, "a.png", "Title")
    library.photo("sent.png", 2)
    with Server(library.home) as server, Client(server.url) as client:
        answer = client.assets.upload(library.photos / "sent.png", title="Sent", tags=["lake"])
        assert answer.job is not None
        client.jobs.wait(answer.job.id, timeout=120)
    report = write(library)
    assert (report["sidecars"], report["without_folder"]) == (["a.png.xmp"], 1)
    assert not list(library.home.rglob("*.xmp"))
    outcome = library.run("write-metadata")
    assert (outcome.code, outcome.out) == (0, b"0 written, 0 unchanged, 0 failed\n")
    assert "without a sidecar: 1, which are uploads" in outcome.err


@pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="run: apt-get install libimage-exiftool-perl"
)
def test_exiftool_reads_a_sidecar(library: Library) -> None:
    path = library.photo("a.jpg", 1, kind="JPEG")
    gps = {1: "S", 2: ((33, 1), (51, 1), (3123, 100)), 3: "E", 4: ((151, 1), (12, 1), (5496, 100))}
    piexif.insert(piexif.dump({"GPS": gps}), str(path))
    library.index()
    edit(library, "a.jpg", "Am See", "lake", "Zoë")
    rate(library, "a.jpg", 4)
    write(library)
    run = subprocess.run(
        ["exiftool", "-j", "-n", str(path) + ".xmp"], capture_output=True, check=True
    )
    (tags,) = json.loads(run.stdout)
    assert (tags["Title"], tags["Subject"], tags["Rating"]) == ("Am See", ["Zoë", "lake"], 4)
    assert (tags["GPSLatitude"], tags["GPSLongitude"]) == pytest.approx(
        (-(33 + 51 / 60 + 31.23 / 3600), 151 + 12 / 60 + 54.96 / 3600), abs=1e-7
    )
