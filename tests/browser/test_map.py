"""The map: places of photographs over an outline of the world, by mouse, touch and keyboard."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import piexif
import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import expect_no_violation, hits, part
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect
from visits import Visits

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]
_PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740}, "has_touch": True, "color_scheme": "dark",
}  # fmt: skip
# Every place and its name lie within the map, and none under its buttons.
_ALL_IN_SIGHT = """() => {
  const rect = (each) => each.getBoundingClientRect();
  const stage = rect(document.querySelector(".map-stage"));
  const tools = rect(document.querySelector(".map-tools"));
  return [...document.querySelectorAll(".map-place button, .map-name")].map(rect).every((part) =>
    part.left >= stage.left && part.right <= stage.right && part.bottom <= stage.bottom
      && (part.right <= tools.left || part.bottom <= tools.top));
}"""
_PLACES = {
    "red": (52.5163, 13.3777),
    "green": (52.4986, 13.3918),
    "blue": (40.4168, -3.7038),
    "purple": (-33.8568, 151.2153),
    "orange": (-22.9519, -43.2105),
    "yellow": None,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two photographs of Berlin, one each of Madrid, Sydney and Rio, and one of nowhere."""
    library = Library(tmp_path_factory.mktemp("map"))
    for seed, (name, place) in enumerate(_PLACES.items()):
        path = save(library.photos / f"{name}.png", [name], seed)
        gps: dict[int, Any] = {}
        for number, degrees, letters in zip((1, 3), place or (), ("NS", "EW"), strict=False):
            gps[number] = letters[degrees < 0]
            gps[number + 1] = [(round(abs(degrees) * 1e4), 10**4), (0, 1), (0, 1)]
        Image.open(path).save(path.with_suffix(".jpg"), exif=piexif.dump({"GPS": gps}))
        path.unlink()
    library.index()
    with Server(library.home) as running:
        yield running
    shutil.rmtree(library.home)


def places(page: Page) -> Locator:
    return page.get_by_test_id("map-place")


def place(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def box(page: Page) -> list[float]:
    """What the address says is in sight."""
    expect(page).to_have_url(re.compile("gps_box="))
    return [float(side) for side in parse_qs(urlsplit(page.url).query)["gps_box"][0].split(",")]


def test_a_place_leads_to_its_photographs_and_back(
    visit: Visits, server: Server, shoot: Shoot
) -> None:
    page = visit(server.url)
    part(page, "menu").click()
    part(page, "menu-map").click()
    expect(places(page)).to_have_count(4)
    expect(part(page, "summary")).to_have_text("5 photos here")
    expect(place(page, "2 photos near Berlin, Germany")).to_be_visible()
    expect_no_violation(page, "map")
    shoot(page, "map")
    place(page, "2 photos near Berlin, Germany").click()
    expect(hits(page)).to_have_count(2)
    expect(page.get_by_test_id("chip")).to_have_text("52.499–52.516° N, 13.378–13.392° E")
    page.go_back()
    expect(places(page)).to_have_count(4)
    # Nothing of this depends on the session.
    page.reload()
    expect(places(page)).to_have_count(4)


def test_keys_zoom_and_move_and_the_address_follows(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?view=map")
    stage = part(page, "map-stage")
    madrid = place(page, "1 photo near Madrid")
    expect(madrid).to_be_visible()
    stage.focus()
    page.keyboard.press("+")
    west, south, east, north = box(page)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("west => !location.search.includes(west)", arg=str(west))
    moved = box(page)
    assert moved[0] < west
    assert moved[2] < east
    assert moved[3] - moved[1] == pytest.approx(north - south, rel=0.1)
    page.keyboard.press("0")
    expect(places(page)).to_have_count(4)
    assert "gps_box" not in page.url
    page.keyboard.press("Tab")
    expect(places(page).first).to_be_focused()
    page.keyboard.press("Enter")
    expect(hits(page)).to_have_count(1)
    # Of the places from west to east, the first is Rio.
    expect(hits(page).locator("img")).to_have_attribute("alt", re.compile("orange"))


def test_wheel_and_drag_divide_a_place(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(f"{server.url}/?view=map")
    berlin = place(page, "2 photos near Berlin, Germany")
    expect(berlin).to_be_visible()
    listed = page.get_by_role("list", name="Places")
    for _ in range(12):
        if not berlin.count():
            break
        berlin.hover()
        before = page.url
        page.mouse.wheel(0, -400)
        page.wait_for_function("before => location.href !== before", arg=before)
        expect(listed).not_to_have_attribute("aria-busy", "true")
    expect(places(page)).to_have_count(2)
    shoot(page, "map-near")
    west = box(page)[0]
    rect = part(page, "map-stage").bounding_box()
    assert rect is not None
    middle = rect["x"] + rect["width"] / 2, rect["y"] + rect["height"] / 2 + 100
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 200, middle[1], steps=4)
    page.mouse.up()
    page.wait_for_function("west => !location.search.includes(west)", arg=str(west))
    assert box(page)[0] > west
    # The end of a drag opens nothing.
    expect(part(page, "map")).to_be_visible()


def test_filters_hold_and_what_is_in_sight_can_be_listed(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?view=map&country=Spain")
    expect(places(page)).to_have_count(1)
    expect(page.get_by_test_id("chip")).to_have_text("Spain")
    page.get_by_test_id("chip-remove").click()
    expect(places(page)).to_have_count(4)
    page = visit(f"{server.url}/?view=map&gps_box=-10,38,20,60")
    expect(part(page, "summary")).to_have_text("3 photos here")
    page.get_by_test_id("map-open").click()
    expect(hits(page)).to_have_count(3)
    page = visit(f"{server.url}/?view=map&gps_box=-140,30,-100,50")
    expect(page.get_by_role("heading", name="No photo was taken here")).to_be_visible()
    expect(page.get_by_test_id("map-open")).to_be_hidden()


def test_a_box_over_the_date_line_is_shown_whole(
    visit: Visits, server: Server, shoot: Shoot
) -> None:
    page = visit(f"{server.url}/?view=map&gps_box=140,-60,-30,0")
    expect(part(page, "summary")).to_have_text("2 photos here")
    rect = part(page, "map-stage").bounding_box()
    assert rect is not None
    middles = []
    for name in ("Sydney", "Rio de Janeiro"):
        marker = place(page, name).bounding_box()
        assert marker is not None
        middles.append(marker["x"] + marker["width"] / 2)
    sydney, rio = middles
    assert rect["x"] <= sydney < rio <= rect["x"] + rect["width"]
    # Sydney is 11° from the one side, Rio 13° from the other.
    assert sydney - rect["x"] < rect["x"] + rect["width"] - rio
    shoot(page, "map-date-line")
    # Over the date line by hand: what is in sight is a box that crosses it, too.
    part(page, "map-stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => !location.search.includes('140,-60')")
    west, _, east, _ = box(page)
    assert 140 < west <= 180
    assert -180 <= east < -60
    expect(page.get_by_role("heading", name="No photo was taken here")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    expect(part(page, "summary")).to_have_text("2 photos here")
    part(page, "map-open").click()
    expect(hits(page)).to_have_count(2)
    expect(page.get_by_test_id("chip")).to_have_text(re.compile(r"S.*° E – \d+° W$"))


def test_the_first_view_shows_every_place_whole(
    visit: Visits, server: Server, shoot: Shoot
) -> None:
    page = visit(server.url)

    def move_to_the_edges(route: Route) -> None:
        document = route.fetch().json()
        for each in document["places"]:
            longitude = {"Rio de Janeiro": -178.0, "Sydney": 178.0}.get(each["city"])
            if longitude is not None:
                south, north = each["box"][1::2]
                each.update(longitude=longitude, box=[longitude, south, longitude, north])
        route.fulfill(json=document)

    for width in (1280, 360):
        for is_moved in (False, True):
            page.unroute_all(behavior="wait")
            if is_moved:
                page.route("**/v1/assets/places?**", move_to_the_edges)
            page.set_viewport_size({"width": width, "height": 720})
            page.goto(f"{server.url}/?view=map")
            expect(places(page)).to_have_count(4)
            expect(page.get_by_role("list", name="Places")).not_to_have_attribute(
                "aria-busy", "true"
            )
            shoot(page, f"map-whole-{width}-{is_moved}")
            page.wait_for_function(_ALL_IN_SIGHT)


def test_a_phone_in_the_dark(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(f"{server.url}/?view=map", **_PHONE)
    expect(places(page)).to_have_count(4)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    shoot(page, "map-phone-dark")
    expect_no_violation(page, "map on a phone")
    part(page, "map-in").tap()
    box(page)
    shoot(page, "map-phone-dark-near")
