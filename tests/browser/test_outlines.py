"""What the page draws around regions: the edge of the mask, where it lies in the photograph."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from gallery import save
from made_library import Library
from made_masks import filled, holed, rings_of_path
from made_server import Server
from page_parts import hits, part, search, wait_until
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import func, select, update
from visits import Visits

from regard.api.library.settings import Settings
from regard.photos.masks import encode_mask
from regard.storage.database import schema
from regard.storage.database.catalog import open_catalog

pytestmark = pytest.mark.slow

_WIDTH, _HEIGHT = 120, 80
_MARK = (255, 194, 10)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A library of one photograph, turned by its EXIF; its red quarter is a mask with a hole."""
    library = Library(tmp_path_factory.mktemp("turned"))
    upright = save(library.photos / "1.png", ["red", "green", "blue", "yellow"], 1, (120, 80), 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(upright).transpose(Image.Transpose.ROTATE_90).save(upright, exif=exif)
    library.index()
    pixels = np.zeros((_HEIGHT, _WIDTH), np.bool_)
    pixels[:40, :60] = holed()
    first = select(func.min(schema.region.c.id)).scalar_subquery()
    catalog = open_catalog(Settings(library.home).catalog_file)
    with catalog.database.engine.begin() as connection:
        connection.execute(
            update(schema.region)
            .where(schema.region.c.id == first)
            .values(mask=encode_mask(pixels).counts)
        )
    catalog.close()
    with Server(library.home) as running:
        yield running


def test_results_and_viewer_outline_the_mask_and_not_its_box(
    visit: Visits, turned: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(turned.url)
    search(page, "red")
    _expect_traced(hits(page).first.locator(".outline.is-traced"))
    part(page, "hit-link").click()
    lit = page.locator(".stage-region.is-lit.is-traced")
    _expect_traced(lit)
    expect(page.get_by_test_id("region-outline").and_(page.locator(".is-traced"))).to_have_count(4)
    shoot(page, "mask-outlined")

    # Points on the mask's edge, in pixels of the photograph, and points on its box alone.
    edge = [(30, 10), (5, 10), (25, 10), (15, 8), (28, 30), (40, 39), (59.5, 5)]
    box = [(60, 15), (60, 30), (45, 0), (0, 30)]
    wait_until(page, lambda: _marked(page, edge) == [True] * len(edge))
    assert _marked(page, box) == [False] * len(box)

    # The mask is pointed at and clicked, not its hole.
    veil = page.locator(".stage-veil")
    for x, y, is_inside in ((2, 10, True), (7, 10, False), (15, 9.5, True), (40, 20, False)):
        _move_to(page, x, y)
        expect(veil).to_be_visible(visible=is_inside)
    _move_to(page, 90, 20)
    expect(page.get_by_test_id("region-outline").nth(1)).to_have_class(re.compile("is-lit"))


def test_a_box_stays_where_a_mask_cannot_be_loaded(visit: Visits, turned: Server) -> None:
    page = visit(turned.url, expected=["format=svg"])
    page.route("**/mask?*format=svg", lambda route: route.abort())
    search(page, "red")
    mark = hits(page).first.locator(".outline")
    expect(mark).to_be_visible()
    expect(page.locator(".tile.is-loaded")).to_have_count(1)
    expect(page.locator(".is-traced")).to_have_count(0)
    assert mark.evaluate("mark => getComputedStyle(mark).borderTopStyle") == "solid"


def _expect_traced(mark: Locator) -> None:
    """The path holds the mask's pixels and no others, and is drawn in the region's box."""
    edge = mark.locator("path").last
    expect(edge).to_be_attached()
    pixels = np.zeros((_HEIGHT, _WIDTH), np.bool_)
    pixels[:40, :60] = holed()
    rings = rings_of_path(edge.get_attribute("d") or "")
    assert (filled(rings, pixels.shape) == pixels).all()
    assert mark.locator("svg").get_attribute("viewBox") == "0 0 120 80"
    assert mark.locator("svg").get_attribute("aria-hidden") == "true"


def _move_to(page: Page, x: float, y: float) -> None:
    """Point at a pixel of the photograph."""
    frame = page.locator(".stage-frame").bounding_box()
    assert frame is not None
    scale = frame["width"] / _WIDTH
    page.mouse.move(frame["x"] + x * scale, frame["y"] + y * scale)


def _marked(page: Page, points: list[tuple[float, float]]) -> list[bool]:
    """Whether the colour of what is lit appears within two pixels of each point."""
    with Image.open(io.BytesIO(page.locator(".stage-frame").screenshot())) as shot:
        near = (np.abs(np.asarray(shot.convert("RGB")).astype(int) - _MARK) < 40).all(axis=2)
    scale = near.shape[1] / _WIDTH
    at = [(round(x * scale), round(y * scale)) for x, y in points]
    return [bool(near[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].any()) for x, y in at]
