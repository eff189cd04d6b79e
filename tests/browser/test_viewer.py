"""Zoom and pan in the viewer, by wheel, keys, mouse and fingers: what lies on the photograph stays
in its place. The slideshow: it walks, pauses and stops."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import expect_no_violation, expect_value, hits, part, wait_until
from playwright.sync_api import Page, expect
from visits import Visits

from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.texts import TextLine
from regard.storage.assets.texts import SqlTexts

pytestmark = pytest.mark.slow

_SIZE = (1500, 1000)
_LINE = TextLine("FRESH FISH", ((200, 300), (700, 300), (700, 380), (200, 380)), 0.9)
# Boxes on the photograph, as shares of it: the outlines, and the text.
_OVERLAID = """() => {
  const frame = document.querySelector(".stage-frame").getBoundingClientRect();
  return [...document.querySelectorAll(".stage-region, .stage-writing text")].map((each) => {
    const { left, top, right, bottom } = each.getBoundingClientRect();
    return [left, right].map((x) => (x - frame.left) / frame.width)
      .concat([top, bottom].map((y) => (y - frame.top) / frame.height));
  });
}"""
_PICTURE = "document.querySelector('.stage-image').naturalWidth"

_FIRST, _SECOND = re.compile(r"^1\.png"), re.compile(r"^2\.png")
# A screen that stays on, as far as the page can tell.
_WAKE_LOCKS = """
  window.locks = [];
  const release = async () => { locks.push("released"); };
  const request = async (kind) => { locks.push(kind); return { release }; };
  Object.defineProperty(navigator, "wakeLock", { value: { request } });
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two photographs larger than what the viewer loads at first, one with a line of text."""
    library = Library(tmp_path_factory.mktemp("large"))
    save(library.photos / "1.png", ["red", "green", "blue", "yellow"], 1, _SIZE, noise=2)
    save(library.photos / "2.png", ["purple"], 2, _SIZE, noise=2)
    library.index()
    with open_home(Settings.resolve(library.home, {})) as home:
        rows = library.sql("SELECT content_id FROM asset WHERE file_name = ?", "1.png")
        texts = SqlTexts(home.catalog, home.pipeline, "reader")
        texts.save({content: [_LINE] for (content,) in rows})
    with Server(library.home) as running:
        yield running


def _open(visit: Visits, server: Server, **options: Any) -> Page:
    page = visit(f"{server.url}/?sort=added", **options)
    hits(page).locator('img[alt^="1.png"]').click()
    expect(part(page, "texts").locator("text")).to_have_count(1)
    expect(page.locator(".stage-region.is-traced")).to_have_count(4)
    expect_value(page, _PICTURE, 1024)
    return page


def _frame(page: Page) -> dict[str, float]:
    box = page.locator(".stage-frame").bounding_box()
    assert box is not None
    return dict(box)


def _share(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where on the photograph a point of the window is."""
    box = _frame(page)
    return (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]


def _scale(page: Page, whole: dict[str, float]) -> float:
    return _frame(page)["width"] / whole["width"]


def _expect_scale(page: Page, whole: dict[str, float], scale: float) -> None:
    wait_until(page, lambda: _scale(page, whole) == pytest.approx(scale, rel=0.01))


def test_wheel_drag_and_double_click(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = _open(visit, server)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    whole, overlaid = _frame(page), page.evaluate(_OVERLAID)
    x, y = whole["x"] + whole["width"] * 0.3, whole["y"] + whole["height"] * 0.4
    page.mouse.move(x, y)
    place = _share(page, x, y)
    for _ in range(4):
        page.mouse.wheel(0, -120)
    wait_until(page, lambda: _scale(page, whole) > 3)
    assert _share(page, x, y) == pytest.approx(place, abs=0.005)
    for before, after in zip(overlaid, page.evaluate(_OVERLAID), strict=True):
        assert after == pytest.approx(before, abs=0.005)
    # The largest picture is loaded now, and was not before.
    expect_value(page, _PICTURE, _SIZE[0])
    assert len([url for url in asked if "size=4096" in url]) == 1
    shoot(page, "viewer-zoomed")
    expect_no_violation(page, "the viewer, zoomed")

    page.mouse.down()
    page.mouse.move(x - 150, y - 80, steps=4)
    page.mouse.up()
    # Playwright measures the frame that was drawn last.
    wait_until(page, lambda: _share(page, x - 150, y - 80) == pytest.approx(place, abs=0.005))
    # The end of the drag is not a click on a region, and no edge comes into the stage.
    expect(page.locator(".stage-region.is-lit")).to_have_count(0)
    page.mouse.down()
    page.mouse.move(x + 1500, y + 1500, steps=30)
    page.mouse.up()
    stage = page.locator(".stage").bounding_box()
    assert stage is not None
    assert (_frame(page)["x"], _frame(page)["y"]) == pytest.approx((stage["x"], stage["y"]), abs=1)
    page.mouse.dblclick(x, y)
    _expect_scale(page, whole, 1)
    page.mouse.dblclick(x, y)
    _expect_scale(page, whole, 3)
    assert _share(page, x, y) == pytest.approx(place, abs=0.005)

    # Text is still selected, not dragged.
    part(page, "texts").locator("text").click(click_count=3)
    assert page.evaluate("getSelection().toString().trim()") == _LINE.text
    page.mouse.wheel(0, 3000)
    _expect_scale(page, whole, 1)


def test_zoom_by_keyboard(visit: Visits, server: Server) -> None:
    page = _open(visit, server)
    whole = _frame(page)
    page.keyboard.press("+")
    page.keyboard.press("=")
    _expect_scale(page, whole, 2.25)
    expect(part(page, "live")).to_have_text("Zoom 2.3")
    assert page.evaluate("document.querySelector('#live').closest('dialog[open]') !== null")
    before = _frame(page)
    page.keyboard.press("Shift+ArrowRight")
    wait_until(page, lambda: _frame(page)["x"] < before["x"] - 50)
    expect(part(page, "viewer-close")).to_be_focused()
    page.keyboard.press("-")
    _expect_scale(page, whole, 1.5)
    page.keyboard.press("0")
    _expect_scale(page, whole, 1)
    part(page, "zoom-in").click()
    _expect_scale(page, whole, 1.5)
    page.keyboard.press("ArrowRight")
    expect(part(page, "viewer-title")).to_have_text("2.png")
    _expect_scale(page, whole, 1)
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()
    expect(part(hits(page).locator("visible=true").nth(1), "hit-link")).to_be_focused()


def test_pinch_and_double_tap(visit: Visits, server: Server) -> None:
    page = _open(visit, server, has_touch=True, viewport={"width": 360, "height": 700})
    whole = _frame(page)
    touch = _Touch(page)
    x, y = whole["x"] + whole["width"] / 2, whole["y"] + whole["height"] / 2
    touch.send("touchStart", (x - 30, y), (x + 30, y))
    for step in range(1, 7):
        touch.send("touchMove", (x - 30 - 10 * step, y), (x + 30 + 10 * step, y))
    touch.send("touchEnd")
    _expect_scale(page, whole, 3)
    # One finger moves what is enlarged, in place of showing the next photograph.
    touch.send("touchStart", (x, y))
    for step in range(1, 7):
        touch.send("touchMove", (x - 15 * step, y))
    touch.send("touchEnd")
    wait_until(page, lambda: _frame(page)["x"] + _frame(page)["width"] / 2 < x - 50)
    expect(part(page, "viewer-title")).to_have_text("1.png")
    for _ in range(2):
        page.touchscreen.tap(x, y)
    _expect_scale(page, whole, 1)
    touch.send("touchStart", (x + 80, y))
    touch.send("touchMove", (x - 80, y))
    touch.send("touchEnd")
    expect(part(page, "viewer-title")).to_have_text("2.png")


def test_slideshow_walks_pauses_and_stops(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(server.url)
    page.context.add_init_script(_WAKE_LOCKS)
    page.clock.install()
    page.goto(f"{server.url}/?sort=added")
    expect(hits(page)).to_have_count(2)
    page.keyboard.press("s")
    image = part(page, "viewer-image")
    expect(part(page, "slideshow-pause")).to_be_focused()
    expect(image).to_have_attribute("alt", _FIRST)
    expect(part(page, "viewer-title")).to_be_hidden()
    part(page, "slideshow-seconds").select_option("3")
    # After the last comes the first.
    for name in (_SECOND, _FIRST, _SECOND):
        expect(image).to_have_attribute("alt", name)
    part(page, "slideshow-pause").focus()
    page.keyboard.press("Space")
    expect(part(page, "slideshow-pause")).to_have_text("Continue")
    held = image.get_attribute("alt")
    page.clock.run_for(60_000)
    assert image.get_attribute("alt") == held
    expect(page.locator(".is-sharp")).to_be_visible()
    shoot(page, "slideshow")
    expect_no_violation(page, "the slideshow")
    page.keyboard.press("Space")
    expect(image).not_to_have_attribute("alt", str(held))

    # Any other key stops it, and does nothing else.
    assert page.evaluate("locks.join()") == "screen"
    page.keyboard.press("Delete")
    expect(part(page, "slideshow")).to_be_hidden()
    expect(part(page, "viewer-title")).to_be_visible()
    expect(part(page, "viewer-slideshow")).to_be_focused()
    assert page.evaluate("locks.join()") == "screen,released"
    expect(hits(page)).to_have_count(2)
    page.keyboard.press("s")
    expect(part(page, "slideshow")).to_be_visible()
    page.keyboard.press("Escape")
    expect(part(page, "slideshow")).to_be_hidden()
    expect(part(page, "viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()


def test_slideshow_on_a_phone(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(
        f"{server.url}/?sort=added", viewport={"width": 360, "height": 700}, color_scheme="dark"
    )
    part(page, "slideshow-start").click()
    expect(part(page, "slideshow")).to_be_in_viewport(ratio=1)
    expect(page.locator(".is-sharp")).to_be_visible()
    shoot(page, "slideshow-phone")
    expect_no_violation(page, "the slideshow on a phone")
    page.locator(".stage").click(position={"x": 180, "y": 300})
    expect(part(page, "slideshow")).to_be_hidden()
    expect(part(page, "viewer-title")).to_be_visible()
    shoot(page, "viewer-phone")
    expect_no_violation(page, "the viewer on a phone")


class _Touch:
    """Fingers on the screen."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)

    def send(self, kind: str, *points: Sequence[float]) -> None:
        """Put down, move or lift the fingers; those that stay are at `points`."""
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
