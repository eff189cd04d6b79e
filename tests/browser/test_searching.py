"""Every way to search and to narrow, and that the address holds all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from gallery import COUNT, PLAIN, QUARTERED, SIZE, TALL, save
from made_library import Library
from made_server import Server
from page_parts import (
    drop,
    expect_first,
    hits,
    part,
    picture,
    query,
    scroll_through,
    search,
    shown,
    wait_until,
)
from playwright.sync_api import Page, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]
_ROWS_ARE_FULL = """() => {
  const list = document.querySelector("#grid");
  const right = list.getBoundingClientRect().right;
  const rows = new Map();
  for (const tile of list.querySelectorAll(".tile")) {
    rows.set(tile.offsetTop, tile.getBoundingClientRect().right);
  }
  return rows.size > 3 && [...rows.values()].slice(0, -1).every((end) => Math.abs(end - right) < 2);
}"""


@pytest.fixture(scope="module", autouse=True)
def _tagged(server: Server) -> None:
    """Two of the pictures have a tag."""
    with Client(server.url) as client:
        for asset in client.assets.iterate():
            if asset.file_name in {"red.png", "blue.png"}:
                client.assets.patch(asset.id, tags=["harbour"])


def test_text_searches_explain_each_hit(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    search(page, "purple")
    expect_first(page, "purple.png")
    assert query(page) == {"q": "purple"}
    assert page.title() == "purple · regard"

    # How likely it is right nobody can tell of these models; why it was found they can.
    word = part(hits(page).first, "tile-why")
    expect(word).to_have_css("opacity", "0")
    hits(page).first.hover()
    expect(word).to_have_css("opacity", "1")
    expect(word).to_have_text("Why?")
    why = part(page, "why")
    expect(why).to_be_hidden()
    word.hover()
    for kind, words in (
        ("image", "Whole picture"),
        ("region", "the part that is outlined"),
        ("caption", "“A mostly purple photograph.”"),
        ("keyword", "“purple” in the file's name"),
    ):
        expect(why.locator(f'[data-kind="{kind}"]')).to_contain_text(words)
    expect(part(why, "relevance")).to_have_count(0)
    shoot(page, "search-by-words")
    page.mouse.move(2, 2)
    expect(why).to_be_hidden()


def test_dropped_images_start_a_search(
    visit: Visits, server: Server, tmp_path: Path, shoot: Shoot
) -> None:
    page = visit(server.url)
    expect_first(page)
    drop(page, "search", [save(tmp_path / "sea.png", ["blue"], 500)])
    expect_first(page, "blue.png")
    assert set(query(page)) == {"picture"}
    expect(part(page, "like-token")).to_contain_text("sea.png")
    expect(part(page, "query-picture")).to_be_visible()
    shoot(page, "search-by-dropped-picture")

    # Words steer it.
    search(page, "green")
    expect(hits(page).first).to_be_visible()
    assert set(query(page)) == {"picture", "q"}
    assert "blue.png" != shown(page)[0] in {"green.png", QUARTERED}


def test_pasted_images_start_a_search(visit: Visits, server: Server, tmp_path: Path) -> None:
    page = visit(server.url, permissions=["clipboard-read", "clipboard-write"])
    body = save(tmp_path / "lawn.png", ["green"], 501).read_bytes()
    page.evaluate(
        """async (bytes) => {
          const blob = new Blob([new Uint8Array(bytes)], { type: "image/png" });
          await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        list(body),
    )
    page.keyboard.press("Control+V")
    expect_first(page, "green.png")
    expect(part(page, "query-picture")).to_be_visible()


def test_box_drawn_on_the_image_searches_by_it(
    visit: Visits, server: Server, gallery: Library, shoot: Shoot
) -> None:
    page = visit(server.url)
    drop(page, "search", [gallery.photos / QUARTERED])
    expect_first(page, QUARTERED)

    stage = part(page, "box-stage")
    area = stage.locator("img").bounding_box()
    assert area is not None
    # The lower left quarter is blue.
    page.mouse.move(area["x"] + 4, area["y"] + area["height"] - 4)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.2, area["y"] + area["height"] * 0.7)
    page.mouse.move(area["x"] + area["width"] * 0.47, area["y"] + area["height"] * 0.55)
    page.mouse.up()
    expect_first(page, "blue.png")
    x, y, width, height = (int(number) for number in query(page)["box"].split(","))
    assert (x < 10, abs(y - 88) < 4, abs(x + width - 113) < 4, abs(y + height - 156) < 4) == (
        True,
    ) * 4, query(page)
    expect(part(page, "box")).to_be_visible()
    expect(part(page, "box-width")).to_have_value(str(width))
    shoot(page, "search-by-drawn-box")

    part(page, "box-clear").click()
    expect_first(page, QUARTERED)
    assert "box" not in query(page)
    page.go_back()
    expect_first(page, "blue.png")


def test_box_is_set_by_keyboard(visit: Visits, server: Server, gallery: Library) -> None:
    page = visit(server.url)
    drop(page, "search", [gallery.photos / QUARTERED])
    expect_first(page, QUARTERED)
    expect(part(page, "box-stage").locator("img")).to_have_js_property("naturalWidth", SIZE[0])

    part(page, "box-stage").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**box=60%2C40%2C120%2C80*")
    # A press moves or sizes by a fiftieth of the picture; all of them are one step of history.
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    page.wait_for_url("**box=60%2C49%2C130%2C80*")
    page.go_back()
    expect_first(page, QUARTERED)
    assert "box" not in query(page)

    # Most of the upper right quarter, by numbers: green.
    for name, value in (("left", 124), ("top", 2), ("width", 110), ("height", 75)):
        part(page, f"box-{name}").fill(str(value))
        page.keyboard.press("Enter")
    expect_first(page, "green.png")
    assert query(page)["box"] == "124,2,110,75"
    part(page, "box-stage").focus()
    page.keyboard.press("Escape")
    expect_first(page, QUARTERED)
    assert "box" not in query(page)


def test_region_finds_similar_regions(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    search(page, "red green blue yellow")
    picture(page, QUARTERED).click()
    expect(page.get_by_test_id("region-outline")).to_have_count(4)
    shoot(page, "photo-open")

    # Quarters come in reading order: the fourth is yellow.
    page.get_by_test_id("region").nth(3).hover()
    expect(page.get_by_test_id("region-outline").and_(page.locator(".is-lit"))).to_have_count(1)
    page.get_by_test_id("region-similar").nth(3).click()
    expect(part(page, "viewer")).to_be_hidden()
    expect_first(page, "yellow.png")
    assert query(page).keys() == {"like", "target"}
    assert query(page)["target"] == "region"
    expect(part(page, "like-token")).to_contain_text(f"a part of {QUARTERED}")
    expect(hits(page).first.locator(".outline")).to_be_visible()


def test_target_switches_between_photos_and_things(
    visit: Visits, server: Server, shoot: Shoot
) -> None:
    page = visit(server.url)
    expect_first(page)
    expect(part(page, "target")).to_be_hidden()
    search(page, "yellow")
    expect_first(page, "yellow.png")
    assert len(set(shown(page))) == len(shown(page))

    part(page, "target-region").check()
    page.wait_for_url("**target=region*")
    expect(part(page, "summary")).to_contain_text("things")
    expect(hits(page).nth(4).locator(".outline")).to_be_visible()
    # All four quarters of the yellow picture, and the yellow quarter of another.
    assert sorted(shown(page)[:5]) == [QUARTERED, *["yellow.png"] * 4]
    shoot(page, "search-for-things")
    part(page, "target-image").check()
    expect(part(page, "summary")).to_contain_text("photos")
    assert query(page) == {"q": "yellow"}


def test_filter_chips_are_added_and_removed(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    part(page, "filter-add").click()
    part(page, "filter-tag").click()
    part(page, "filter-menu").get_by_label("harbour").check()
    expect(part(page, "filter-menu")).to_contain_text("2")
    expect(hits(page)).to_have_count(2)
    shoot(page, "filter-by-tag")
    part(page, "filter-done").click()
    assert set(shown(page)) == {"red.png", "blue.png"}
    assert query(page) == {"tag": "harbour"}

    # It holds for searches, too.
    search(page, "red")
    expect(hits(page)).to_have_count(2)
    expect_first(page, "red.png", "blue.png")

    chips = page.get_by_test_id("chip")
    expect(chips).to_have_count(1)
    chips.get_by_test_id("chip-remove").click()
    expect(chips).to_have_count(0)
    expect(hits(page).nth(2)).to_be_visible()
    assert query(page) == {"q": "red"}

    part(page, "filter-add").click()
    part(page, "filter-orientation").click()
    part(page, "filter-portrait").click()
    expect(hits(page)).to_have_count(1)
    expect_first(page, TALL)


def test_history_and_links_restore_the_state(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    search(page, "blue")
    part(page, "target-region").check()
    page.wait_for_url("**target=region*")
    part(page, "filter-add").click()
    part(page, "filter-tag").click()
    part(page, "filter-menu").get_by_label("harbour").check()
    part(page, "filter-done").click()
    # Two photographs of four quarters.
    expect(hits(page)).to_have_count(8)
    hits(page).first.click()
    expect(part(page, "viewer-title")).to_have_text("blue.png")
    link = page.url

    page.go_back()
    expect(part(page, "viewer")).to_be_hidden()
    expect(hits(page)).to_have_count(8)
    page.go_back()
    expect(page.get_by_test_id("chip")).to_have_count(0)
    expect(part(page, "target-region")).to_be_checked()
    page.go_back()
    expect(part(page, "target-image")).to_be_checked()
    page.go_back()
    expect(part(page, "q")).to_have_value("")
    assert query(page) == {}
    for _ in range(3):
        page.go_forward()
    expect(page.get_by_test_id("chip")).to_contain_text("harbour")
    expect(hits(page)).to_have_count(8)
    page.go_forward()
    expect(part(page, "viewer-title")).to_have_text("blue.png")

    other = visit(link)
    expect(part(other, "viewer-title")).to_have_text("blue.png")
    part(other, "viewer-close").click()
    expect(part(other, "viewer")).to_be_hidden()
    expect(part(other, "q")).to_have_value("blue")
    expect(part(other, "target-region")).to_be_checked()
    expect(other.get_by_test_id("chip")).to_contain_text("harbour")
    expect(hits(other)).to_have_count(8)


def test_query_image_survives_a_reload_but_not_a_link(
    visit: Visits, server: Server, tmp_path: Path
) -> None:
    page = visit(server.url)
    drop(page, "search", [save(tmp_path / "sea.png", ["blue"], 502)])
    expect_first(page, "blue.png")
    page.reload()
    expect_first(page, "blue.png")

    other = visit(page.url)
    expect(part(other, "notice")).to_contain_text("This link's picture is not in this browser")


def test_scrolling_loads_more_photos(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    # How many there are is known before all of them are.
    expect(part(page, "summary")).to_have_text(f"{COUNT} photos")
    # All were taken at once, as far as their files tell.
    expect(page.locator(".grid-heading")).to_have_text([datetime.now().strftime("%B %Y")])
    names = scroll_through(page)
    assert len(set(names)) == len(names) == COUNT
    assert {f"{name}.png" for name in PLAIN} < set(names)
    expect(part(page, "more")).to_be_hidden()
    # Whatever the width, of whole pixels or not, each row but the last is full.
    for width in (800, 997, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        wait_until(page, lambda: page.evaluate(_ROWS_ARE_FULL))

    # Back from a photograph one is where one was.
    hits(page).last.locator("a").focus()
    where = page.evaluate("scrollY")
    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_be_visible()
    # At the last one the button to the next is none any more; the keys go on.
    part(page, "previous").click()
    part(page, "next").press("Enter")
    expect(part(page, "previous")).to_be_focused()
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()
    assert abs(page.evaluate("scrollY") - where) < 40


def test_links_to_a_photograph_know_its_place(visit: Visits, server: Server) -> None:
    with Client(server.url) as client:
        listed = [asset.id for asset in client.assets.iterate(sort="-date")]
        found = [hit.asset.id for hit in client.search("red", limit=3).hits]
    page = visit(f"{server.url}/?q=red&photo={found[1]}")
    place = page.locator(".viewer-count")
    expect(place).to_have_text(re.compile(r"^2 of \d"))
    expect(part(page, "viewer-why")).to_be_visible()
    part(page, "previous").click()
    expect(place).to_have_text(re.compile(r"^1 of \d"))
    expect(part(page, "previous")).to_be_disabled()
    # Far below what a list loads at first.
    for position in (len(listed) - 2, len(listed) // 2):
        page.goto(f"{server.url}/?photo={listed[position]}")
        expect(place).to_have_text(f"{position + 1} of {len(listed)}")
        page.keyboard.press("ArrowRight")
        expect(place).to_have_text(f"{position + 2} of {len(listed)}")
        assert query(page)["photo"] == listed[position + 1]
