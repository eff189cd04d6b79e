"""Reading the text of what is indexed: once, at any time later, and on after an interruption."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from made_pictures import scene, write
from made_processes import Forked

from regard.api.library.duplicates import open_catalogued
from regard.api.library.home import Home, open_home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.filters import EVERYTHING
from regard.core.records import Image
from regard.core.texts import TextLine
from regard.indexer.reading import ReadReport, read_texts
from regard.indexer.report import SILENT, Progress
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.texts import SqlTexts
from regard.storage.retrieval.read_words import verify_read_words


class SizeReader:
    """Reads the size of an image, which stands all over it."""

    def __init__(self) -> None:
        self.seen = 0

    def read(self, images: Sequence[Image]) -> list[list[TextLine]]:
        self.seen += len(images)
        if images[0].width == 113:
            raise ValueError("thirteen")
        return [[_size(image.width, image.height)] for image in images]


def _size(width: int, height: int) -> TextLine:
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    return TextLine(f"{width} by {height}", corners, 1.0)


class StopsAfter(Progress):
    def __init__(self, count: int) -> None:
        self.left = count

    def advance(self, count: int = 1) -> None:
        self.left -= count

    def should_stop(self) -> bool:
        return self.left <= 0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    folder = tmp_path / "photos"
    for number in range(20):
        write(folder / f"{number:02}.png", scene(number, (120 + number, 90)), "PNG")
    settings = Settings.resolve(tmp_path / "home", {})
    with open_or_make_home(settings, "fake") as made:
        made.indexer("default").run([folder])
    with open_home(settings) as opened:
        yield opened


def read(home: Home, reader: SizeReader, progress: Progress = SILENT) -> ReadReport:
    store = SqlTexts(home.catalog, home.pipeline, "size-reader")
    return read_texts(store, lambda: reader, open_catalogued, threads=2, progress=progress)


def test_everything_is_read_once(home: Home) -> None:
    reader = SizeReader()
    report = read(home, reader)
    assert (report.read, report.lines, report.failures) == (20, 20, [])
    assert (read(home, reader).read, reader.seen) == (0, 20)


def test_an_interrupted_run_is_continued(home: Home) -> None:
    reader = SizeReader()
    first = read(home, reader, StopsAfter(3))
    assert first.interrupted
    assert 3 <= first.read < 20
    second = read(home, reader)
    assert not second.interrupted
    assert first.read + second.read == reader.seen == 20


def test_a_file_that_can_not_be_read_is_listed_and_stops_nothing(
    home: Home, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "03.png").write_bytes(b"other bytes")
    os.remove(photos / "05.png")
    write(photos / "20.png", scene(20, (113, 90)), "PNG")
    home.indexer("default").run([photos / "20.png"])
    report = read(home, SizeReader())
    assert (report.read, len(report.failures)) == (18, 3)
    reasons = {os.path.basename(one.uri): one.reason for one in report.failures}
    assert "no longer" in reasons["03.png"]
    assert "gone" in reasons["05.png"]
    assert "thirteen" in reasons["20.png"]
    assert read(home, SizeReader()).failures == report.failures


def test_boxes_are_those_of_the_whole_photograph(tmp_path: Path) -> None:
    # JPEG is decoded at a part of its size.
    write(tmp_path / "photos" / "large.jpg", scene(1, (8000, 80)))
    settings = Settings.resolve(tmp_path / "home", {})
    with open_or_make_home(settings, "fake") as home:
        home.indexer("default").run([tmp_path / "photos"])
        read(home, SizeReader())
        (asset,) = home.search_catalog.newest(EVERYTHING, 0, 1)
        detail = SqlAssetReading(home.catalog, home.pipeline).detail(asset.id)
    regions = [(line.text, line.box.to_list()) for line in detail.texts]
    assert regions == [("2000 by 20", [0, 0, 8000, 80])]


_DIES = """
import os, signal, sys
from pathlib import Path
from regard.api.library.duplicates import open_catalogued
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.texts import TextLine
from regard.indexer import reading
from regard.storage.assets.texts import SqlTexts

class Dies:
    left = 9
    def read(self, images):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return [[TextLine("read", ((0, 0), (9, 0), (9, 9), (0, 9)), 1.0)] for _ in images]

reading._PORTION = 2
with open_home(Settings.resolve(Path(sys.argv[1]), {})) as home:
    store = SqlTexts(home.catalog, home.pipeline, "size-reader")
    reading.read_texts(store, Dies, open_catalogued, threads=1)
"""


def test_a_killed_run_loses_nothing_that_was_committed(home: Home) -> None:
    process = Forked([sys.executable, "-c", _DIES, str(home.settings.home)])
    assert process.wait(60) == -signal.SIGKILL
    store = SqlTexts(home.catalog, home.pipeline, "size-reader")
    left = store.count_unread()
    assert 12 <= left < 20
    reader = SizeReader()
    assert (read(home, reader).read, reader.seen) == (left, left)
    assert verify_read_words(home.catalog.database) == []
