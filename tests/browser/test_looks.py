"""Every main state over real photographs: light on a wide screen, dark on a narrow one.

In each state axe-core reports nothing, and nothing is wider than the screen. With
`REGARD_TEST_ARTIFACTS`, a screenshot is kept. Copy `page-*.jpg`, the pictures in the docs, to
docs/images/ when the page changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from made_server import Server
from page_parts import (
    drop,
    expect_first,
    expect_no_violation,
    hits,
    part,
    search,
    wait_until,
)
from playwright.sync_api import Page, expect
from visits import Visits

pytestmark = pytest.mark.slow

_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "color_scheme": "dark"},
}
_README = {"results": "page-results", "photo": "page-photo", "box": "page-box"}
# Those that are not in sight may load later.
_ARE_LOADED = """images => images.every((image) => {
  const { top, bottom } = image.getBoundingClientRect();
  return bottom < 0 || top > innerHeight || (image.complete && image.naturalWidth > 0);
})"""
# Elements that extend beyond the screen, except inside a part that scrolls or clips.
_WIDER = """() => {
  const wide = document.documentElement.clientWidth;
  const isHeld = (each) => each !== null
    && (getComputedStyle(each).overflowX !== "visible" || isHeld(each.parentElement));
  const sticksOut = (each) => {
    const { left, right, width, height } = each.getBoundingClientRect();
    return width > 1 && height > 1 && (left < -1 || right > wide + 1) && each.checkVisibility();
  };
  const all = [...document.body.querySelectorAll("*")];
  const out = all.filter((each) => sticksOut(each) && !isHeld(each.parentElement));
  const scrolled = document.documentElement.scrollWidth - wide;
  return { scrolled, out: out.map((each) => each.outerHTML.slice(0, 120)) };
}"""


@pytest.fixture(scope="module")
def photos(demo: Path) -> Path:
    return demo / "photos"


@pytest.fixture(scope="module")
def server(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The sample photographs, with the models that people use."""
    home = tmp_path_factory.mktemp("samples") / "home"
    shutil.copytree(demo / "home", home)
    with Server(home, profile=None) as running:
        yield running


class Look:
    """A page in one look, and what every state of it is held to."""

    def __init__(self, page: Page, name: str, shoot: Callable[..., None]) -> None:
        self.page = page
        self.name = name
        self._shoot = shoot

    def check(self, state: str) -> None:
        images = self.page.locator("img[src]:visible")
        wait_until(self.page, lambda: images.evaluate_all(_ARE_LOADED))
        self._shoot(self.page, f"{self.name}-{state}")
        if self.name == "light" and state in _README:
            self._shoot(self.page, f"{_README[state]}.jpg", type="jpeg", quality=75)
        expect_no_violation(self.page, f"{self.name}, {state}")
        wider = self.page.evaluate(_WIDER)
        assert wider == {"scrolled": 0, "out": []}, f"{self.name}, {state}"


@pytest.mark.parametrize("name", _LOOKS)
def test_every_state_is_accessible_and_fits_the_screen(
    name: str, server: Server, visit: Visits, photos: Path, shoot: Callable[..., None]
) -> None:
    page = visit(server.url, **_LOOKS[name])
    look, is_wide = Look(page, name, shoot), name == "light"
    expect(hits(page)).to_have_count(13)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(", "))) < 150) == (name == "dark"), ground
    look.check("library")

    search(page, "a rocket")
    expect_first(page, "rocket.jpg")
    if is_wide:
        hits(page).first.hover()
        part(hits(page).first, "tile-why").hover()
        expect(part(page, "why")).to_contain_text("what you asked for")
    look.check("results")
    page.mouse.move(2, 2)
    page.keyboard.press("Escape")
    expect(part(page, "why")).to_be_hidden()

    part(page, "q").fill("a submarine")
    part(page, "q").press("Enter")
    expect(part(page, "notice")).to_contain_text("Nothing here matches “a submarine”.")
    look.check("no-match")
    part(page, "show-nearest").press("Enter")
    expect(part(page, "caution")).to_be_visible()
    # The focus is on the first: its card tells why.
    expect(part(page, "why")).to_be_visible()
    look.check("nearest")
    search(page, "a rocket")

    part(page, "target-region").check()
    expect(part(page, "summary")).to_contain_text("things")
    look.check("things")
    part(page, "target-image").check()
    expect(part(page, "summary")).to_contain_text("photos")

    search(page, "a cat")
    expect_first(page, "cat.png")
    hits(page).first.click()
    expect(part(page, "regions")).to_be_visible()
    expect(page.locator(".stage-frame.is-sharp")).to_be_visible()
    if is_wide:
        page.get_by_test_id("region").nth(1).hover()
        expect(page.locator(".stage-region.is-lit")).to_have_count(1)
    look.check("photo")
    part(page, "viewer-close").click()
    expect(part(page, "viewer")).to_be_hidden()

    part(page, "clear").click()
    drop(page, "search", [photos / "coffee.png"])
    expect_first(page, "coffee.png")
    expect(part(page, "box-stage").locator("img")).to_have_js_property("naturalWidth", 600)
    area = part(page, "box-stage").locator("img").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * 0.13, area["y"] + area["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.78, area["y"] + area["height"] * 0.95)
    page.mouse.up()
    page.wait_for_url("**box=*")
    expect_first(page, "coffee.png")
    look.check("box")

    page.goto(f"{server.url}/?orientation=landscape&collection=default")
    expect(page.get_by_test_id("chip")).to_have_count(2)
    part(page, "filter-add").click()
    look.check("filters")
    part(page, "filter-camera").click()
    expect(part(page, "filter-menu")).to_contain_text("PENTAX K100D")
    look.check("filter-values")
    part(page, "filter-done").click()
    part(page, "menu").click()
    look.check("menu")
    part(page, "menu-shortcuts").click()
    look.check("shortcuts")
    page.keyboard.press("Escape")
    part(page, "jobs-open").click()
    look.check("jobs")
    page.keyboard.press("Escape")

    part(page, "select-mode").click()
    hits(page).first.click()
    expect(part(page, "selection")).to_be_visible()
    look.check("selection")
    part(page, "selection-clear").click()

    part(page, "upload-open").click()
    part(page, "upload-input").set_input_files([photos / "cat.png", photos / "rocket.jpg"])
    expect(page.get_by_test_id("upload-file")).to_have_count(2)
    look.check("upload")
    page.keyboard.press("Escape")
    page.goto(f"{server.url}/?tag=none")
    expect(part(page, "notice")).to_be_visible()
    look.check("no-photo")
