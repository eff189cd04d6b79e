"""Text over the picture in the viewer: it lies on the letters, and can be selected and copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gallery import QUARTERED
from made_library import Library
from made_server import Server
from page_parts import hits, part, search
from playwright.sync_api import Page, expect
from visits import Visits

from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.texts import TextLine
from regard.storage.assets.texts import SqlTexts

pytestmark = pytest.mark.slow

LEVEL = TextLine("Fresh Bread & <b>Fish</b>", ((20, 30), (200, 30), (200, 60), (20, 60)), 0.9)
STEEP = TextLine("EXIT", ((230, 20), (230, 140), (200, 140), (200, 20)), 0.9)


@pytest.fixture
def page(gallery: Library, visit: Visits, server: Server) -> Page:
    """The page of a library whose quartered picture has two lines of text."""
    with open_home(Settings.resolve(gallery.home, {})) as home:
        (content,) = {
            row[0]
            for row in gallery.sql("SELECT content_id FROM asset WHERE file_name = ?", QUARTERED)
        }
        SqlTexts(home.catalog, home.pipeline, "reader").save({content: [LEVEL, STEEP]})
    return visit(server.url)


def test_text_is_selected_over_the_picture(page: Page, shoot: Callable[[Page, str], None]) -> None:
    search(page, "bread")
    hits(page).first.locator("[data-testid=hit-link]").click()
    lines = part(page, "texts").locator("text")
    expect(lines).to_have_count(2)
    expect(part(page, "read-text").locator("p")).to_have_text([LEVEL.text, STEEP.text])
    for line, drawn in zip((LEVEL, STEEP), lines.all(), strict=True):
        picture, box = part(page, "viewer-image").bounding_box(), drawn.bounding_box()
        assert picture is not None
        assert box is not None
        scale = picture["width"] / 240
        wanted = line.box
        assert box["x"] - picture["x"] == pytest.approx(wanted.x * scale, abs=8 * scale)
        assert box["y"] - picture["y"] == pytest.approx(wanted.y * scale, abs=8 * scale)
        assert box["width"] == pytest.approx(wanted.width * scale, abs=12 * scale)
        assert box["height"] == pytest.approx(wanted.height * scale, abs=12 * scale)
    lines.first.click(click_count=3)
    assert page.evaluate("getSelection().toString().trim()") == LEVEL.text
    shoot(page, "viewer-text-selected")


@pytest.mark.parametrize("target", ["image", "region"])
def test_a_hit_that_is_a_line_is_outlined_and_named(page: Page, target: str) -> None:
    page.goto(f"{page.url.split('?')[0]}?q=bread&target={target}")
    hits(page).first.locator("[data-testid=hit-link]").click()
    lit = page.locator(".stage-region.is-lit")
    expect(lit).to_have_attribute("title", f"“{LEVEL.text}”")
