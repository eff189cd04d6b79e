"""The page over thousands of photographs: few elements, any month at once, nothing lost."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import (
    expect_no_violation,
    expect_value,
    hits,
    part,
    query,
    scroll_through,
    wait_until,
)
from playwright.sync_api import Error, Page, Route, expect
from visits import Visits

from regard.api.client import Client, Filters

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]
_PICTURES = 12
# How many photographs each month has, from January 2014 on: from none to more than a page shows.
_COUNTS = [(0, 1, 2, 7, 20, 40, 0, 3, 130, 9)[month % 10] for month in range(120)]
_COUNT = _PICTURES + sum(_COUNTS)
_MOST_ELEMENTS = 2000
_IN_SIGHT = """() => {
  const top = document.querySelector(".top").getBoundingClientRect().bottom;
  return [...document.querySelectorAll("#grid > li")].filter((each) => {
    const { top: from, bottom: to } = each.getBoundingClientRect();
    return to > top + 1 && from < innerHeight - 1;
  }).map((each) => [each.className, each.ariaPosInSet, each.querySelector("h2")?.textContent ?? each.dataset.asset]);
}"""  # noqa: E501

# What is on top, which the page keeps in the browser's history when scrolling has ended.
_KEPT_PLACE = "JSON.stringify(history.state?.place)"


def _fill(library: Library) -> None:
    """Many assets of a few contents, which share their thumbnails."""
    with contextlib.closing(sqlite3.connect(library.home / "catalog.sqlite3")) as catalog:
        catalog.row_factory = sqlite3.Row
        columns = ", ".join(row["name"] for row in catalog.execute("PRAGMA table_info(asset)"))
        made = [dict(row) for row in catalog.execute(f"SELECT {columns} FROM asset ORDER BY id")]
        rows = []
        for month, count in enumerate(_COUNTS):
            start = datetime(2014 + month // 12, 1 + month % 12, 1)
            for number in range(count):
                row = dict(made[len(rows) % len(made)])
                moment = f"{start + timedelta(hours=number * 4)}.000000"
                name = f"{start:%Y-%m}-{number:03}.png"
                row |= {"id": None, "path": f"/there/{name}".encode(), "uri": f"/there/{name}"}
                row |= {"taken_at": moment, "dated_at": moment, "taken_precision": "time"}
                rows.append([*(row | {"file_name": name}).values()])
        places = ", ".join("?" * len(made[0]))
        catalog.executemany(f"INSERT INTO asset ({columns}) VALUES ({places})", rows)
        catalog.commit()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("large"))
    for number in range(_PICTURES):
        size = ((240, 160), (160, 240), (200, 200), (320, 120))[number % 4]
        save(made.photos / f"{number}.png", [("red", "green", "blue")[number % 3]], number, size)
    made.index()
    return made


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[Server]:
    with Server(library.home) as running:
        with Client(running.url) as client:
            for asset in client.assets.iterate():
                for size in (256, 512, 1024):
                    client.assets.thumbnail(asset.id, size)  # type: ignore[arg-type]
        _fill(library)
        yield running


def _settle(page: Page) -> None:
    """Wait until what is in sight is loaded."""
    wait_until(page, lambda: page.locator("#grid > .blank").count() == 0 < hits(page).count())


def _elements(page: Page) -> int:
    count: int = page.evaluate("document.querySelectorAll('*').length")
    return count


def test_scrolling_keeps_few_elements_and_passes_every_photo(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(part(page, "summary")).to_have_text(f"{_COUNT:,} photos")
    count_elements = """() => {
      const count = () => {
        window.most = Math.max(window.most ?? 0, document.querySelectorAll("*").length);
      };
      new MutationObserver(count).observe(document.querySelector("#grid"), {childList: true});
    }"""
    page.evaluate(count_elements)
    # Leaps through everything, as of somebody who drags the scrollbar.
    height = page.evaluate("document.documentElement.scrollHeight")
    for leap in (*range(0, 10, 2), *range(9, 0, -2)):
        page.evaluate(f"void scrollTo(0, {height * leap / 9})")
        _settle(page)
    assert page.evaluate("most") < _MOST_ELEMENTS

    page.goto(f"{server.url}/?taken_from=2023-01-01")
    page.evaluate(count_elements)
    with Client(server.url) as client:
        found = client.assets.iterate(Filters(taken_from="2023-01-01"))
        assert scroll_through(page) == [asset.file_name for asset in found]
    assert page.evaluate("most") < _MOST_ELEMENTS


@pytest.mark.parametrize("look", ["wide", "narrow"])
def test_scrubber_jumps_to_any_month(
    look: str, visit: Visits, server: Server, shoot: Shoot
) -> None:
    narrow = {
        "viewport": {"width": 360, "height": 740},
        "has_touch": True,
        "color_scheme": "dark",
    }
    page = visit(server.url, **(narrow if look == "narrow" else {}))
    _settle(page)
    scrubber = part(page, "scrubber")
    expect(scrubber).to_have_attribute(
        "aria-valuetext", re.compile(f"^.* 20.., {_PICTURES} photos")
    )
    scrubber.focus()
    for keys, wanted in (
        (["PageDown"], "December 2023"),
        (["ArrowDown"], "November 2023"),
        (["PageDown", "PageDown"], "December 2021"),
        (["End"], "February 2014"),
        (["ArrowUp", "ArrowUp"], "April 2014"),
        (["Home", "PageDown", "PageDown", "PageDown", "PageUp"], "December 2022"),
    ):
        for key in keys:
            page.keyboard.press(key)
        expect(scrubber).to_have_attribute("aria-valuetext", re.compile(f"^{wanted}, "))
        expect(part(page, "scrubber-month")).to_have_text(wanted)
        _settle(page)
        headings = [text for kind, _, text in page.evaluate(_IN_SIGHT) if "heading" in kind]
        assert wanted in headings
        if wanted > "February 2014":
            assert headings[0] == wanted
    expect_no_violation(page, look)
    shoot(page, f"scrubber-{look}")

    # Dragging shows the month under way, and stays there.
    box = scrubber.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] - 5, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, 520, steps=4)
    month = part(page, "scrubber-month").text_content()
    assert month is not None
    expect(part(page, "scrubber-month")).to_have_css("opacity", "1")
    shoot(page, f"scrubber-dragged-{look}")
    page.mouse.up()
    _settle(page)
    with Client(server.url) as client:
        seen = [client.assets.get(id) for kind, _, id in page.evaluate(_IN_SIGHT) if "tile" in kind]
    assert f"{datetime.strptime(month, '%B %Y'):%Y-%m}" in {f"{one.dated_at:%Y-%m}" for one in seen}
    assert _elements(page) < _MOST_ELEMENTS


def test_scrolling_loads_no_icons(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(part(page, "summary")).to_have_text(f"{_COUNT:,} photos")
    expect(page.locator(".icons svg")).to_be_attached()
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    for screen in range(1, 10):
        page.evaluate(f"void scrollTo(0, {screen} * innerHeight)")
        _settle(page)
    assert loaded
    assert not [url for url in loaded if url.startswith(f"{server.url}/web/")]


def test_back_restores_filter_and_place(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?taken_from=2015-01-01")
    _settle(page)
    part(page, "scrubber").focus()
    for _ in range(5):
        page.keyboard.press("PageDown")
    _settle(page)
    previous = page.evaluate(_KEPT_PLACE)
    page.evaluate("void scrollBy(0, 300)")
    wait_until(page, lambda: page.evaluate(_KEPT_PLACE) != previous)
    _settle(page)
    before = page.evaluate(_IN_SIGHT)

    # A photograph opens in front of the grid, and another; the last one has the focus then.
    where = page.evaluate("scrollY")
    tile = page.locator(f'[data-asset="{before[-1][2]}"] .tile-link')
    tile.focus()
    page.evaluate(f"void scrollTo(0, {where})")
    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_be_visible()
    page.go_back()
    expect(part(page, "viewer")).to_be_hidden()
    expect(tile).to_be_focused()

    # Photographs above, which have come meanwhile, may have changed which ones are in a row.
    previous = page.evaluate(_KEPT_PLACE)
    page.evaluate(f"void scrollTo(0, {where + 300})")
    wait_until(page, lambda: page.evaluate(_KEPT_PLACE) != previous)
    _settle(page)
    before, place = page.evaluate(_IN_SIGHT), page.evaluate(_KEPT_PLACE)
    part(page, "brand").click()
    expect(part(page, "summary")).to_have_text(f"{_COUNT:,} photos")
    wait_until(page, lambda: page.evaluate("scrollY") == 0)
    page.go_back()
    _settle(page)
    assert query(page) == {"taken_from": "2015-01-01"}
    expect_value(page, _IN_SIGHT, before)
    expect_value(page, _KEPT_PLACE, place)
    page.reload()
    _settle(page)
    expect_value(page, _IN_SIGHT, before)


def test_new_photos_while_scrolling_lose_and_repeat_nothing(
    visit: Visits, server: Server, library: Library
) -> None:
    within = Filters(taken_from="2023-01-01")
    page = visit(f"{server.url}/?taken_from=2023-01-01")
    _settle(page)
    with Client(server.url) as client:
        names = [asset.file_name for asset in client.assets.iterate(within)]
    count = len(names)
    newest = hits(page).first.get_attribute("data-asset")

    with contextlib.closing(sqlite3.connect(library.home / "catalog.sqlite3")) as catalog:

        def add(route: Route) -> None:
            number = catalog.execute("SELECT max(id) FROM asset").fetchone()[0]
            columns = [row[1] for row in catalog.execute("PRAGMA table_info(asset)")]
            for column in ("id", "path", "uri"):
                columns.remove(column)
            catalog.execute(
                f"INSERT INTO asset (path, uri, {', '.join(columns)}) "
                f"SELECT CAST(? AS BLOB), ?, {', '.join(columns)} FROM asset WHERE id = ?",
                (f"/new/{number}", f"/new/{number}", newest and newest[1:]),
            )
            catalog.commit()
            route.fallback()

        page.route(re.compile(r"/v1/assets\?"), add)
        assert scroll_through(page) == names
        page.unroute_all()
        added = [
            f"a{id}" for (id,) in catalog.execute("SELECT id FROM asset WHERE uri LIKE '/new/%'")
        ]
    assert len(added) > 5
    with Client(server.url) as client:
        # The service hears of changes by the log.
        client.assets.patch(added[0], tags=["new"])
    page.reload()
    expect(part(page, "summary")).to_have_text(f"{count + len(added)} photos")

    # What somebody else deletes is noticed where the list goes on.
    page.evaluate("void scrollTo(0, 0)")
    _settle(page)
    with Client(server.url) as client:
        client.assets.bulk(added, "delete")
    now = f"{count} photos"
    on = "void scrollBy(0, 400)"
    wait_until(page, lambda: page.evaluate(on) or part(page, "summary").inner_text() == now)
    page.evaluate("void scrollTo(0, 0)")
    _settle(page)
    assert scroll_through(page) == names


def test_keyboard_and_selection_reach_photos_that_are_not_loaded(
    visit: Visits, server: Server
) -> None:
    page = visit(server.url)
    _settle(page)
    hits(page).first.get_by_test_id("hit-link").focus()
    page.keyboard.press("x")
    page.keyboard.press("End")
    last = page.locator(f'[data-testid="hit"][aria-posinset="{_COUNT}"]')
    expect(last.get_by_test_id("hit-link")).to_be_focused()
    expect(last).to_have_attribute("aria-setsize", str(_COUNT))
    expect(last).to_be_in_viewport()
    page.keyboard.press("ArrowUp")
    expect(last.get_by_test_id("hit-link")).not_to_be_focused()
    page.keyboard.press("ArrowDown")
    # Shift selects what lies between, loaded or not.
    last.locator(".tile-check").click(modifiers=["Shift"])
    expect(part(page, "selection-count")).to_have_text(f"{_COUNT} selected")
    last.get_by_test_id("hit-link").focus()
    page.keyboard.press("Home")
    expect(hits(page).first.get_by_test_id("hit-link")).to_be_focused()
    expect(hits(page).first).to_have_class(re.compile("is-selected"))
    page.keyboard.press("Escape")
    part(page, "select-mode").click()
    part(page, "select-all").click()
    expect(part(page, "selection-count")).to_have_text(f"{_COUNT} selected")


@pytest.mark.parametrize("mover", ["browser", "person"])
def test_what_is_to_be_focused_comes_into_sight_unless_somebody_moves_on(
    mover: str, visit: Visits, server: Server
) -> None:
    page = visit(server.url)
    _settle(page)
    hits(page).first.get_by_test_id("hit-link").focus()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/v1/assets\?"), hold)
    page.keyboard.press("End")
    wait_until(page, lambda: len(held) > 0)
    end = page.evaluate("scrollY")
    if mover == "browser":
        page.evaluate("void scrollBy(0, -5000)")
        wait_until(page, lambda: abs(page.evaluate("scrollY") - end) < 2)
    else:
        page.mouse.move(400, 400)
        page.mouse.wheel(0, -5000)
        wait_until(page, lambda: page.evaluate("scrollY") < end - 4000)
    page.unroute_all()
    for route in held:
        # Some are no longer waited for.
        with contextlib.suppress(Error):
            route.continue_()
    _settle(page)
    last = page.locator(f'[data-testid="hit"][aria-posinset="{_COUNT}"]')
    if mover == "browser":
        expect(last.get_by_test_id("hit-link")).to_be_focused()
        expect(last).to_be_in_viewport()
    else:
        assert last.count() == 0


def test_other_lists_and_searches_use_the_same_grid(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?sort=added")
    expect(part(page, "summary")).to_have_text(f"{_COUNT:,} photos")
    expect(part(page, "scrubber")).to_be_hidden()
    page.keyboard.press("End")
    expect(page.locator(f'[data-testid="hit"][aria-posinset="{_COUNT}"]')).to_be_visible()

    page.goto(f"{server.url}/?q=red")
    expect(part(page, "summary")).to_contain_text("closest")
    expect(hits(page).first).to_have_attribute("aria-setsize", "-1")
    for _ in range(10):
        page.keyboard.press("End")
        page.wait_for_timeout(50)
    expect(part(page, "summary")).to_contain_text(re.compile(r"^\d{3}|\d,\d{3} closest"))
    assert _elements(page) < _MOST_ELEMENTS


def _have_moved(page: Page, tops: str, before: dict[str, float], by: float) -> bool:
    after = page.evaluate(tops)
    stayed = before.keys() & after.keys()
    return bool(stayed) and all(abs(after[tile] - before[tile] - by) < 2 for tile in stayed)


def test_loading_above_moves_nothing_in_sight(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    _settle(page)
    part(page, "scrubber").focus()
    for _ in range(6):
        page.keyboard.press("PageDown")
    _settle(page)
    tops = """() => Object.fromEntries([...document.querySelectorAll("#grid > .tile")]
      .map((tile) => [tile.ariaPosInSet, tile.getBoundingClientRect().top]))"""
    for _ in range(8):
        before = page.evaluate(tops)
        page.evaluate("void scrollBy(0, -350)")
        # The page hears of it in the next frame, and loads and lays out what is above.
        page.wait_for_timeout(100)
        _settle(page)
        wait_until(page, partial(_have_moved, page, tops, before, 350))


def test_grids_may_be_longer_than_elements(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    limit = "LONGEST = 8_000_000"

    def shorten(route: Route) -> None:
        script = route.fetch().text()
        assert limit in script
        route.fulfill(body=script.replace(limit, "LONGEST = 4_000"), content_type="text/javascript")

    page.route("**/grid.js", shorten)
    page.goto(f"{server.url}/?taken_from=2023-09-01")
    _settle(page)
    with Client(server.url) as client:
        found = client.assets.iterate(Filters(taken_from="2023-09-01"))
        assert scroll_through(page) == [asset.file_name for asset in found]
    assert page.evaluate("document.querySelector('#grid').offsetHeight") == 4000
    for key, month in (("Home", "December 2023"), ("End", "October 2023")):
        part(page, "scrubber").press(key)
        expect(part(page, "scrubber-month")).to_have_text(month)
        _settle(page)
        assert month in [text for kind, _, text in page.evaluate(_IN_SIGHT) if "heading" in kind]
