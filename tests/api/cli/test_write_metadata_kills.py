"""`regard write-metadata`, killed at any moment: sidecars are whole, and the next call ends it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from made_library import Library, command
from made_processes import Forked
from sqlalchemy import insert, update

from regard.api.library.home import open_home_catalog
from regard.api.library.settings import Settings
from regard.photos.metadata.xmp import read_xmp
from regard.storage.database import schema

pytestmark = pytest.mark.slow

_COUNT = 40
_SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Exposure="+1.0"/></rdf:RDF>
</x:xmpmeta>"""


def _entitle(library: Library, title: str) -> None:
    """Give all photographs a title, in one transaction."""
    with (
        open_home_catalog(Settings.resolve(library.home), make=False) as catalog,
        catalog.database.writing() as connection,
    ):
        connection.execute(update(schema.asset).values(edited_title=title))


def _kill_after(library: Library, sidecars: list[Path], count: int, pause: float) -> None:
    """Kill a call `pause` seconds after it wrote so many sidecars."""

    def stamps() -> list[int | None]:
        return [path.stat().st_ctime_ns if path.exists() else None for path in sidecars]

    before = stamps()
    process = Forked(
        command("write-metadata", "--home", library.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while sum(now != then for now, then in zip(stamps(), before, strict=True)) < count:
        assert time.monotonic() < deadline
    time.sleep(pause)
    process.kill()
    # It had more to do.
    assert process.wait(60) == -signal.SIGKILL


def test_twenty_kills_leave_whole_sidecars_and_the_next_call_completes(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for number in range(_COUNT):
        library.photo(f"{number:02}.png", number)
        if number % 2:
            (library.photos / f"{number:02}.png.xmp").write_text(_SIDECAR)
    library.index()
    ids = sorted(library.asset_ids().values())
    with (
        open_home_catalog(Settings.resolve(library.home), make=False) as catalog,
        catalog.database.writing() as connection,
    ):
        tags = [{"asset_id": number, "tag": "lake"} for number in ids]
        connection.execute(insert(schema.asset_tag), tags)
    originals = {path: path.read_bytes() for path in library.photos.glob("*.png")}
    sidecars = [path.with_name(f"{path.name}.xmp") for path in sorted(originals)]
    chance = random.Random(5)
    titles = {None}
    for number in range(20):
        titles.add(f"title {number}")
        _entitle(library, f"title {number}")
        _kill_after(library, sidecars, chance.randrange(_COUNT // 2), chance.random() * 0.005)
        assert {path: path.read_bytes() for path in originals} == originals
        for path in sidecars:
            if not path.exists():
                continue
            packet = read_xmp(path.read_bytes())
            assert packet.is_whole
            assert {*packet.properties.get("dc:title", [None])} <= titles
    assert {path.name for path in library.photos.iterdir()} <= {
        *(path.name for path in (*originals, *sidecars)), ".regard.aside",
    }  # fmt: skip

    ((edited,),) = library.sql("SELECT count(*) FROM asset WHERE edited_title IS NOT NULL")
    assert edited > _COUNT // 3
    outcome = library.run("write-metadata", "--json")
    assert (outcome.code, outcome.document["failures"]) == (0, [])
    assert outcome.document["written"] + outcome.document["unchanged"] == edited
    assert {path: path.read_bytes() for path in originals} == originals
    assert {path.name for path in library.photos.iterdir()} == {
        path.name for path in (*originals, *sidecars)
    }
    for number, path in enumerate(sidecars):
        said = read_xmp(path.read_bytes()).properties
        assert (said["dc:title"], said["dc:subject"]) == (["title 19"], ["lake"])
        assert any(name.endswith(":Exposure") for name in said) == bool(number % 2)
    assert library.index()["unchanged"] == _COUNT
    assert library.run("write-metadata", "--json").document["written"] == 0
    assert {*library.sql("SELECT title, edited_title FROM asset")} == {("title 19", None)}
    library.verify()
