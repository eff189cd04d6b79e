"""Stacks on the page: one tile with a number, and a strip of their files in the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import expect_no_violation, hits, part, picture, query
from playwright.sync_api import Locator, Page, expect
from visits import Visits

pytestmark = pytest.mark.slow

_COVER = "red_BURST002_COVER.png"
_FRAMES = ["red_BURST001.png", _COVER, "red_BURST003.png"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A burst of three red frames, a blue photograph and a green one."""
    library = Library(tmp_path)
    for number, name in enumerate(_FRAMES):
        save(library.photos / name, ["red"], number)
    save(library.photos / "blue.png", ["blue"], 10)
    save(library.photos / "green.png", ["green"], 11)
    library.index()
    with Server(library.home) as running:
        yield running


def _strip(page: Page) -> Locator:
    return page.get_by_test_id("strip-file")


def test_a_stack_is_one_tile_and_its_files_are_in_the_viewer(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(f"{server.url}/")
    expect(hits(page)).to_have_count(3)
    expect(part(page, "summary")).to_have_text("3 photos")
    tile = picture(page, _COVER)
    expect(tile.get_by_test_id("tile-stack")).to_have_text("3 files in its stack")
    expect(page.get_by_test_id("tile-stack")).to_have_count(1)
    expect(page.locator(".tile.is-loaded")).to_have_count(3)
    shoot(page, "stack-tiles")
    expect_no_violation(page, "tiles of stacks")

    tile.get_by_test_id("hit-link").click()
    expect(_strip(page)).to_have_count(3)
    here = page.locator(".viewer-count").inner_text()
    expect(page.locator(".strip-file[aria-current]")).to_have_attribute("aria-label", _COVER)
    shoot(page, "stack-viewer")
    expect_no_violation(page, "the strip of a stack")
    page.keyboard.press(".")
    expect(part(page, "viewer-title")).to_have_text(_FRAMES[2])
    # There is none after it.
    page.keyboard.press(".")
    expect(page.locator(".viewer-count")).to_have_text(here)
    page.keyboard.press(",")
    expect(part(page, "viewer-title")).to_have_text(_COVER)
    _strip(page).first.click()
    expect(part(page, "viewer-title")).to_have_text(_FRAMES[0])
    expect(_strip(page).first).to_be_focused()
    expect(page.locator(".strip-file[aria-current]")).to_have_count(1)
    shown = query(page)["photo"]
    # The results go on from the stack's place.
    page.keyboard.press("ArrowLeft")
    expect(part(page, "viewer-title")).to_have_text("blue.png")
    expect(part(page, "strip")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(part(page, "viewer-title")).to_have_text(_COVER)

    # A link to a file that its stack hides shows its place, too.
    page.goto(f"{server.url}/?photo={shown}")
    expect(part(page, "viewer-title")).to_have_text(_FRAMES[0])
    expect(page.locator(".viewer-count")).to_have_text(here)
    page.keyboard.press("ArrowLeft")
    expect(part(page, "viewer-title")).to_have_text("blue.png")


def test_searches_fold_stacks_and_a_filter_unfolds_one(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?q=red")
    expect(part(page, "summary")).to_contain_text("3 closest photos")
    expect(page.get_by_test_id("tile-stack")).to_have_count(1)
    page.goto(f"{server.url}/?q=has:stack")
    expect(hits(page)).to_have_count(1)
    member = hits(page).first.get_attribute("data-asset")
    page.goto(f"{server.url}/?q=stack:{member}")
    expect(hits(page)).to_have_count(3)


def test_a_deleted_cover_leaves_the_rest_of_its_stack(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/")
    picture(page, _COVER).get_by_test_id("hit-link").click()
    expect(_strip(page)).to_have_count(3)
    page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    expect(picture(page, _FRAMES[0]).get_by_test_id("tile-stack")).to_contain_text("2")
    expect(hits(page)).to_have_count(3)
    page.goto(f"{server.url}/?view=trash")
    expect(hits(page)).to_have_count(1)
    expect(page.get_by_test_id("tile-stack")).to_have_count(0)


def test_a_stack_is_changed_by_hand(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(f"{server.url}/")
    picture(page, _COVER).get_by_test_id("hit-link").click()
    expect(_strip(page)).to_have_count(3)
    shoot(page, "stack-unstack")
    part(page, "unstack").click()
    expect(part(page, "toast")).to_contain_text(f"Took {_COVER} out of its stack.")
    expect(part(page, "unstack")).to_have_count(0)
    expect(_strip(page)).to_have_count(0)
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()
    expect(hits(page)).to_have_count(4)
    expect(picture(page, _FRAMES[0]).get_by_test_id("tile-stack")).to_contain_text("2")

    part(page, "select-mode").click()
    expect(part(page, "bulk-stack")).to_be_disabled()
    picture(page, _COVER).get_by_test_id("hit-link").click()
    expect(part(page, "bulk-stack")).to_be_disabled()
    picture(page, "blue.png").get_by_test_id("hit-link").click()
    shoot(page, "stack-selection")
    part(page, "bulk-stack").click()
    expect(part(page, "toast")).to_contain_text("2 files in one stack.")
    expect(hits(page)).to_have_count(3)
    expect(page.get_by_test_id("tile-stack")).to_have_count(2)
    page.reload()
    expect(page.get_by_test_id("tile-stack")).to_have_count(2)

    # Of a stack, the tile stands for all files.
    part(page, "select-mode").click()
    expect(part(page, "bulk-restack")).to_be_disabled()
    stacked = page.locator("[data-testid=hit]:has([data-testid=tile-stack])")
    for tile in stacked.all():
        tile.get_by_test_id("hit-link").click()
    part(page, "bulk-restack").click()
    expect(part(page, "toast").last).to_contain_text("2 photos back to stacks by rules.")
    expect(picture(page, _COVER).get_by_test_id("tile-stack")).to_contain_text("3")
    expect(page.get_by_test_id("tile-stack")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_strip_fits_narrow_windows(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None], scheme: str
) -> None:
    page = visit(f"{server.url}/?q=red")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 360, "height": 700})
    tile = hits(page).filter(has=part(page, "tile-stack")).first
    expect(tile).to_be_visible()
    shoot(page, f"stack-narrow-tiles-{scheme}")
    tile.get_by_test_id("hit-link").click()
    expect(_strip(page)).to_have_count(3)
    box = part(page, "strip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    shoot(page, f"stack-narrow-viewer-{scheme}")
    expect_no_violation(page, "a narrow strip")
