"""Motion photos in the viewer: the video in the file plays over the picture, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_library import Library, painted
from made_server import Server
from made_videos import write_video
from page_parts import expect_no_violation, expect_value, hits, part, picture, shown
from playwright.sync_api import Page, expect
from visits import Visits

pytestmark = pytest.mark.slow

_SIZE = (480, 320)
_HAS_SOURCE = "document.querySelector('video').hasAttribute('src')"


def write_motion_photo(path: Path, seconds: float, codec: str) -> None:
    """A blue photograph with a yellow video in its file."""
    clip = write_video(
        path.with_suffix(".mp4"),
        [(painted(("yellow",), 1, _SIZE), seconds)],
        size=_SIZE,
        codec=codec,
    )
    painted(("blue",), 2, _SIZE).save(path, "JPEG")
    with path.open("ab") as file:
        file.write(clip.read_bytes())
    clip.unlink()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Motion photos that are long, short, and of a codec that browsers don't play, and a
    photograph."""
    library = Library(tmp_path_factory.mktemp("moving"))
    # Every Chromium plays VP9, in MP4 too.
    write_motion_photo(library.photos / "long.jpg", 60.0, "libvpx-vp9")
    write_motion_photo(library.photos / "short.jpg", 0.5, "libvpx-vp9")
    write_motion_photo(library.photos / "strange.jpg", 0.5, "mpeg4")
    library.photo("still.png", 3, "red")
    library.index()
    with Server(library.home) as running:
        yield running


def open_photo(page: Page, name: str) -> None:
    picture(page, name).locator("a").first.click()
    expect(part(page, "viewer-title")).to_have_text(name)


def test_the_motion_plays_over_the_photo_and_stops_by_the_same_button(
    visit: Visits, server: Server, artifacts: Path
) -> None:
    page = visit(server.url)
    open_photo(page, "long.jpg")
    motion = part(page, "motion")
    expect(part(page, "player")).to_be_hidden()
    expect(motion).to_have_attribute("aria-pressed", "false")
    page.screenshot(path=artifacts / "motion-offered.png")
    motion.click()
    expect(motion).to_have_attribute("aria-pressed", "true")
    expect(part(page, "player")).to_be_visible()
    expect_value(page, "document.querySelector('video').currentTime > 0", True)
    assert page.evaluate("document.querySelector('video').videoWidth") == _SIZE[0]
    expect_no_violation(page, "a motion photo that plays")
    page.screenshot(path=artifacts / "motion-plays.png")
    motion.click()
    expect(motion).to_have_attribute("aria-pressed", "false")
    expect(part(page, "player")).to_be_hidden()
    expect_value(page, _HAS_SOURCE, False)


def test_the_photo_is_back_after_the_motion(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    open_photo(page, "short.jpg")
    page.evaluate(
        "() => document.querySelector('video').addEventListener('ended', () => { window.ended = true; })"
    )
    part(page, "motion").click()
    expect_value(page, "window.ended", True)
    expect(part(page, "player")).to_be_hidden()
    expect(part(page, "motion")).to_have_attribute("aria-pressed", "false")


def test_walking_on_stops_the_motion_and_keeps_the_keys(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?sort=added")
    expect(hits(page)).to_have_count(4)
    names = shown(page)
    open_photo(page, names[names.index("still.png") - 1])
    part(page, "motion").click()
    expect(part(page, "motion")).to_be_focused()
    # The button has the focus, and the next photograph hides it.
    page.keyboard.press("ArrowRight")
    expect(part(page, "viewer-title")).to_have_text("still.png")
    expect(part(page, "motion")).to_be_hidden()
    expect(part(page, "player")).to_be_hidden()
    expect_value(page, _HAS_SOURCE, False)
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("viewer")).to_be_hidden()


def test_motion_that_the_browser_cannot_play_leaves_the_photo(
    visit: Visits, server: Server
) -> None:
    page = visit(server.url)
    open_photo(page, "strange.jpg")
    part(page, "motion").click()
    expect(part(page, "unplayed")).to_contain_text("the video in the photo")
    expect(part(page, "player")).to_be_hidden()
    expect(part(page, "motion")).to_have_attribute("aria-pressed", "false")
