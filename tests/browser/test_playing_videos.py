"""Videos on the page: their tiles, the player that begins at the moment found, and what can't be
played."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_library import Library, painted
from made_server import Server
from made_videos import write_video
from page_parts import expect_no_violation, expect_value, hits, part
from playwright.sync_api import expect
from visits import Visits

pytestmark = pytest.mark.slow

_TIME = "document.querySelector('video').currentTime"
_OF_PHOTOGRAPHS = ("outlines", "zoom-in", "zoom-out", "part")
_HAS_SOURCE = "document.querySelector('video').hasAttribute('src')"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A video whose scenes begin at 0, 4 and 8 s, one that browsers don't play, a photograph."""
    library = Library(tmp_path_factory.mktemp("played"))
    size = (480, 320)
    parts = [(painted((name,), 1, size), 4.0) for name in ("red", "green", "blue")]
    write_video(library.photos / "clip.webm", parts, size=size)
    write_video(library.photos / "old.avi", [(painted(("yellow",), 2, size), 3.0)], size=size)
    library.photo("photo.png", 3, "blue")
    library.index()
    with Server(library.home) as running:
        yield running


def test_tiles_show_durations_and_moments(visit: Visits, server: Server, artifacts: Path) -> None:
    page = visit(f"{server.url}/")
    expect(page.get_by_test_id("tile-time")).to_have_count(2)
    expect(page.get_by_test_id("tile-time").filter(has_text="0:12")).to_have_count(1)
    page.goto(f"{server.url}/?q=blue&target=region")
    first = hits(page).filter(has=part(page, "tile-time")).first
    expect(first.locator('[data-testid="tile-time"]')).to_contain_text("0:08")
    # The picture is that of the moment.
    assert "/crop?" in (first.locator("img").get_attribute("src") or "")
    expect_no_violation(page, "tiles of videos")
    page.screenshot(path=artifacts / "video-tiles.png")


def test_a_video_plays_from_the_moment_found_and_stops_when_closed(
    visit: Visits, server: Server, artifacts: Path
) -> None:
    page = visit(f"{server.url}/?q=blue&target=region")
    hits(page).filter(has=part(page, "tile-time")).first.locator("a").click()
    expect(part(page, "player")).to_be_visible()
    expect_value(page, "document.querySelector('video').readyState >= 2", True)
    assert 8 <= page.evaluate(_TIME) <= 9
    expect(page.get_by_test_id("moment")).to_have_count(3)
    expect(page.get_by_test_id("region-outline")).to_have_count(0)
    for name in _OF_PHOTOGRAPHS:
        expect(page.get_by_test_id(name)).to_be_hidden()
    page.get_by_test_id("moment-go").nth(1).click()
    expect_value(page, f"{_TIME} >= 4 && {_TIME} <= 5", True)
    # Arrow keys of the player are its own.
    part(page, "player").focus()
    page.keyboard.press("ArrowRight")
    expect(part(page, "viewer-title")).to_have_text("clip.webm")
    expect(part(page, "facts")).to_contain_text("0:12")
    expect_no_violation(page, "a video in the viewer")
    page.screenshot(path=artifacts / "video-viewer.png")
    part(page, "viewer-close").click()
    expect_value(page, _HAS_SOURCE, False)


def test_what_the_browser_cannot_play_shows_its_moments_and_offers_the_file(
    visit: Visits, server: Server, artifacts: Path
) -> None:
    page = visit(f"{server.url}/?q=yellow")
    hits(page).filter(has=part(page, "tile-time")).locator("a[data-testid=hit-link]").first.click()
    expect(part(page, "unplayed")).to_be_visible()
    expect(part(page, "player")).to_be_hidden()
    expect(page.get_by_test_id("moment")).to_have_count(1)
    expect(part(page, "download")).to_have_attribute("href", re.compile("download=true"))
    page.screenshot(path=artifacts / "video-unplayed.png")


def test_walking_from_a_video_to_a_photograph_leaves_no_player(
    visit: Visits, server: Server
) -> None:
    page = visit(f"{server.url}/?sort=added")
    hits(page).first.locator("a").click()
    expect(part(page, "player")).to_be_visible()
    for _ in range(2):
        part(page, "next").click()
    expect(part(page, "viewer-title")).to_have_text("photo.png")
    expect(part(page, "player")).to_be_hidden()
    expect_value(page, _HAS_SOURCE, False)
    expect(page.get_by_test_id("region-outline")).to_have_count(4)
    for name in _OF_PHOTOGRAPHS:
        expect(page.get_by_test_id(name)).to_be_visible()


def test_videos_are_filtered_by_duration(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?min_duration=5")
    expect(hits(page)).to_have_count(1)
    expect(page.get_by_text("duration ≥ 0:05")).to_be_visible()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "home") as running:
        yield running


def test_an_uploaded_video_plays(
    empty: Server, visit: Visits, tmp_path: Path, artifacts: Path
) -> None:
    size = (480, 320)
    scenes = [(painted((name,), 4, size), 4.0) for name in ("red", "blue")]
    clip = write_video(tmp_path / "mine.webm", scenes, size=size)
    page = visit(empty.url)
    part(page, "notice").get_by_role("button", name="Upload photos").click()
    part(page, "upload-input").set_input_files(clip)
    part(page, "upload-start").click()
    expect(part(page, "upload-indexing")).to_have_text(re.compile(r"^\s*1 photo done"))
    page.screenshot(path=artifacts / "video-uploaded.png")
    part(page, "upload-done").click()
    expect(page.get_by_test_id("tile-time")).to_contain_text("0:08")
    page.goto(f"{empty.url}/?q=blue&target=region")
    hits(page).first.locator("a").first.click()
    expect_value(page, "document.querySelector('video').readyState >= 2", True)
    assert 4 <= page.evaluate(_TIME) <= 5
