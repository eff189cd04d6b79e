"""Files outside a configured root are never read, despite links, `..` and races."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_library import write_photo

from regard.api.library.home import Home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.catalog import FileStamp, KnownAsset
from regard.core.errors import DecodeError, OutsideRoots
from regard.indexer import indexing
from regard.indexer.folder_walk import FolderWalk
from regard.indexer.report import IndexReport
from regard.photos import files as files_module
from regard.photos.files import LEADS_OUT, Confinement, open_regular, read_file

_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title><rdf:Alt><rdf:li
 xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"""


class World:
    """A root with one photograph, and one photograph outside it."""

    def __init__(self, folder: Path, library: Home) -> None:
        self.root = folder / "root"
        self.outside = folder / "root-beside"
        self.library = library
        write_photo(self.root / "kept.png", 1)
        write_photo(self.outside / "secret.png", 2)

    def index(self, path: Path | None = None, *, confined: bool = True) -> IndexReport:
        return self.library.indexer("default").run(
            [path or self.root], confined_to=os.fsencode(self.root) if confined else None
        )

    def indexed(self) -> dict[str, str | None]:
        """Failure reasons by path below the root, None for photographs; nothing outside it."""
        catalog = self.library.indexer("default").catalog
        with catalog.writer_lease():
            known = list(catalog.known_assets(b"/"))
        for asset in known:
            assert b"secret" not in os.path.basename(asset.stamp.path)
        return {
            os.path.relpath(os.fsdecode(asset.stamp.path), self.root): asset.failure_reason
            for asset in known
        }

    def title(self) -> str | None:
        from sqlalchemy import select

        from regard.storage.database import schema

        with self.library.catalog.database.reading() as connection:
            return connection.execute(select(schema.asset.c.title)).scalar_one()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_or_make_home(Settings(tmp_path / "home"), "fake") as library:
        yield World(tmp_path, library)


def _reasons(report: IndexReport) -> dict[str, str]:
    return {os.path.basename(failure.uri): failure.reason for failure in report.failures}


def test_links_that_stay_inside_are_followed(world: World) -> None:
    write_photo(world.root / "a" / "1.png", 3)
    (world.root / "link.png").symlink_to("kept.png")
    (world.root / "folder").symlink_to(world.root / "a")
    report = world.index()
    assert report.failures == []
    assert set(world.indexed()) == {"kept.png", "link.png", "a/1.png", "folder/1.png"}


def test_a_root_may_be_a_link(world: World, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(world.root)
    report = world.library.indexer("default").run(
        [tmp_path / "alias"], confined_to=os.fsencode(tmp_path / "alias")
    )
    assert (report.indexed, report.failures) == (1, [])


@pytest.mark.parametrize("target", ["absolute", "relative", "through another", "dangling"])
def test_a_file_link_that_leads_out_fails(world: World, target: str) -> None:
    link = world.root / "link.png"
    if target == "absolute":
        link.symlink_to(world.outside / "secret.png")
    elif target == "relative":
        link.symlink_to("../root-beside/secret.png")
    elif target == "through another":
        (world.root / ".hop").symlink_to(world.outside)
        link.symlink_to(".hop/secret.png")
    else:
        # It must not be revealed whether the target exists.
        link.symlink_to(world.outside / "none.png")
    report = world.index()
    assert _reasons(report) == {"link.png": LEADS_OUT}
    assert world.indexed() == {"kept.png": None, "link.png": LEADS_OUT}
    assert report.indexed == 1
    link.unlink()
    write_photo(link, 5)
    assert world.index().failures == []
    assert world.indexed() == {"kept.png": None, "link.png": None}


@pytest.mark.parametrize("name", ["folder", "folder.png", "file", "page.xmp"])
def test_a_folder_link_that_leads_out_fails(world: World, name: str) -> None:
    target = world.outside if name.startswith("folder") else world.outside / "secret.png"
    (world.root / name).symlink_to(target)
    report = world.index()
    assert _reasons(report) == {name: LEADS_OUT}
    assert {path for path, failure in world.indexed().items() if not failure} == {"kept.png"}
    assert report.indexed == 1


def test_chained_links_are_resolved_before_they_are_followed(world: World) -> None:
    (world.root / "a" / "b").mkdir(parents=True)
    (world.root / "a" / "b" / "up").symlink_to("../..")
    (world.root / "a" / "b" / "out").symlink_to("../../..")
    (world.root / "in").symlink_to("a/b")
    report = world.index()
    assert _reasons(report) == {"out": LEADS_OUT}
    assert {failure.uri for failure in report.failures} == {
        str(world.root / "a" / "b" / "out"),
        str(world.root / "in" / "out"),
    }
    assert set(world.indexed()) == {"kept.png"}


@pytest.mark.parametrize(
    "path", ["..", "../root-beside", "x/../../root-beside", "link", "link/below"]
)
def test_a_root_that_leads_out_is_refused(world: World, path: str) -> None:
    (world.outside / "below").mkdir()
    (world.root / "link").symlink_to(world.outside)
    with pytest.raises(OutsideRoots) as caught:
        world.index(world.root / path)
    assert str(world.outside) not in str(caught.value)
    assert world.indexed() == {}


def test_sidecars_that_lead_out_are_not_read(world: World) -> None:
    (world.outside / "page.xmp").write_text(_XMP.format("secret"))
    (world.root / "kept.xmp").symlink_to(world.outside / "page.xmp")
    report = world.index()
    assert _reasons(report) == {"kept.xmp": LEADS_OUT}
    assert world.title() is None
    # A file named as the root has a sidecar too.
    assert world.index(world.root / "kept.png").unchanged == 1
    (world.root / "kept.xmp").unlink()
    (world.root / "kept.xmp").write_text(_XMP.format("ours"))
    world.index(world.root / "kept.png")
    assert world.title() == "ours"
    (world.root / "kept.xmp").unlink()
    (world.root / "kept.xmp").symlink_to(world.outside / "page.xmp")
    world.index(world.root / "kept.png")
    assert world.title() is None
    inside = Confinement.to(os.fsencode(world.root))
    (named,) = FolderWalk(os.fsencode(world.root / "kept.png"), confinement=inside)
    assert (named.sidecar, named.stamp.sidecar) == (None, None)


def test_assets_indexed_without_confinement_are_kept(world: World) -> None:
    (world.root / "folder").symlink_to(world.outside)
    (world.root / "link.png").symlink_to(world.outside / "secret.png")
    (world.outside / "secret.png").rename(world.outside / "open.png")
    (world.root / "link.png").unlink()
    (world.root / "link.png").symlink_to(world.outside / "open.png")
    assert world.index(confined=False).indexed == 3
    report = world.index()
    assert _reasons(report) == {"folder": LEADS_OUT, "link.png": LEADS_OUT}
    assert (report.removed, report.unchanged) == (0, 1)
    assert world.indexed() == dict.fromkeys(["kept.png", "folder/open.png", "link.png"])


@pytest.mark.parametrize("what", ["photograph", "sidecar"])
def test_a_file_swapped_for_a_link_before_reading_is_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (world.outside / "page.xmp").write_text(_XMP.format("secret"))
    name, target = ("kept.png", "secret.png") if what == "photograph" else ("kept.xmp", "page.xmp")
    (world.root / "kept.xmp").write_text(_XMP.format("ours"))
    open_media = indexing.open_media

    def swap_and_open(*arguments: object) -> object:
        (world.root / name).unlink(missing_ok=True)
        (world.root / name).symlink_to(world.outside / target)
        return open_media(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(indexing, "open_media", swap_and_open)
    report = world.index()
    if what == "photograph":
        assert _reasons(report) == {"kept.png": LEADS_OUT}
        assert world.indexed() == {"kept.png": LEADS_OUT}
    else:
        assert report.indexed == 1
    assert world.title() is None


def test_a_folder_swapped_for_a_link_after_listing_is_not_entered(world: World) -> None:
    write_photo(world.root / "z" / "1.png", 3)
    walk = FolderWalk(os.fsencode(world.root), confinement=Confinement.to(os.fsencode(world.root)))
    found = iter(walk)
    assert os.path.basename(next(found).stamp.path) == b"kept.png"
    (world.root / "z").rename(world.root.parent / "z")
    (world.root / "z").symlink_to(world.outside)
    assert list(found) == []
    assert walk.outside == [os.fsencode(world.root / "z")]
    known = KnownAsset(1, FileStamp(os.fsencode(world.root / "z" / "1.png"), 0, 0), None)
    assert walk.without_entry(known) is None


# Races within one opening, between resolving a path and opening it


def _swap_after_resolving(monkeypatch: pytest.MonkeyPatch, swap: Callable[[bytes], None]) -> None:
    real = os.path.realpath

    def resolve(path: bytes) -> bytes:
        where = real(path)
        swap(path)
        return where

    monkeypatch.setattr(files_module, "real_path", resolve)


@pytest.mark.parametrize("what", ["file", "folder", "folder above"])
def test_a_link_created_while_opening_is_not_followed(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = write_photo(world.root / "a" / "b" / "secret.png", 3)
    (world.outside / "b").mkdir()
    write_photo(world.outside / "b" / "secret.png", 4)
    swapped, target = {
        "file": (path, world.outside / "secret.png"),
        "folder": (path.parent, world.outside),
        "folder above": (path.parent.parent, world.outside),
    }[what]
    inside = Confinement.to(os.fsencode(world.root))
    assert read_file(path, 10**6, inside) == path.read_bytes()

    def swap(_: bytes) -> None:
        if not swapped.is_symlink():
            swapped.rename(world.root / "away")
            swapped.symlink_to(target)

    _swap_after_resolving(monkeypatch, swap)
    with pytest.raises(DecodeError):
        read_file(path, 10**6, inside)
    assert swapped.is_symlink()
    assert path.exists()


def test_a_link_created_while_listing_is_not_followed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photo(world.root / "a" / "1.png", 3).parent
    swapped: list[bytes] = []

    def swap(path: bytes) -> None:
        if path == os.fsencode(folder):
            folder.rename(world.root / ".away")
            folder.symlink_to(world.outside)
            swapped.append(path)

    walk = FolderWalk(os.fsencode(world.root), confinement=Confinement.to(os.fsencode(world.root)))
    _swap_after_resolving(monkeypatch, swap)
    assert [os.path.basename(found.stamp.path) for found in walk] == [b"kept.png"]
    assert [path for path, _ in walk.unreadable] == swapped == [os.fsencode(folder)]


def test_confinement_compares_whole_names(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root-beside").mkdir()
    inside = Confinement.to(os.fsencode(tmp_path / "root"))
    assert inside.holds(os.fsencode(tmp_path / "root"))
    assert inside.holds(os.fsencode(tmp_path / "root" / "none"))
    assert not inside.holds(os.fsencode(tmp_path / "root-beside"))
    assert not inside.holds(os.fsencode(tmp_path))
    assert Confinement(b"/").holds(os.fsencode(tmp_path))
    photo = write_photo(tmp_path / "root" / "a.png", 1)
    with open_regular(photo, Confinement(b"/")) as file:
        assert file.read() == photo.read_bytes()
    with pytest.raises(DecodeError, match="not a regular file"):
        open_regular(tmp_path / "root", inside)


def test_all_descriptors_are_closed(world: World) -> None:
    (world.root / "link.png").symlink_to(world.outside / "secret.png")
    (world.root / "folder").symlink_to(world.outside)
    write_photo(world.root / "a" / "b" / "c.png", 3)
    world.index()
    # The home's own descriptors are in use, and other threads may open and close theirs.
    assert not [
        path for path in _opened() if path.startswith((str(world.root), str(world.outside)))
    ]


def _opened() -> list[str]:
    """What the descriptors of this process lead to."""
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return opened
