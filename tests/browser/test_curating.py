"""What people say of an open photograph: its stars, and the albums that it is in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import expect_no_violation, hits, part, shown, wait_until
from playwright.sync_api import Page, Route, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow
Shoot = Callable[[Page, str], None]

_PRESSED = '[data-testid="star"][aria-pressed="true"]'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three photographs: red, green and blue."""
    library = Library(tmp_path_factory.mktemp("curated"))
    for seed, name in enumerate(("red", "green", "blue")):
        save(library.photos / f"{name}.png", [name], seed)
    library.index()
    with Server(library.home) as running:
        yield running
    shutil.rmtree(library.home)


def _open(visit: Visits, server: Server, name: str, **options: Any) -> Page:
    page = visit(f"{server.url}/?sort=added", **options)
    hits(page).locator(f'img[alt^="{name}"]').click()
    expect(part(page, "rating")).to_be_visible()
    return page


def test_stars_are_given_by_click_and_key(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = _open(visit, server, "red")
    stars = page.get_by_test_id("star")
    expect(stars).to_have_count(5)
    page.get_by_role("button", name="4 stars").click()
    expect(page.locator(_PRESSED)).to_have_attribute("value", "4")
    expect(part(page, "live")).to_have_text("4 stars")
    shoot(page, "viewer-stars")
    expect_no_violation(page, "a rated photograph")
    page.keyboard.press("3")
    expect(page.locator(_PRESSED)).to_have_attribute("value", "3")
    expect(part(page, "live")).to_have_text("3 stars")
    page.reload()
    expect(page.locator(_PRESSED)).to_have_attribute("value", "3")
    # The same number again takes it away.
    page.keyboard.press("3")
    expect(part(page, "live")).to_have_text("No stars")
    expect(page.locator(_PRESSED)).to_have_count(0)
    expect(part(page, "previous")).to_be_enabled()
    page.keyboard.press("ArrowLeft")
    expect(part(page, "viewer-title")).to_have_text("green.png")
    page.keyboard.press("5")
    expect(part(page, "live")).to_have_text("5 stars")
    # A digit in a field is a digit.
    part(page, "tag-input").fill("a")
    part(page, "tag-input").press("1")
    expect(part(page, "tag-input")).to_have_value("a1")
    expect(page.locator(_PRESSED)).to_have_attribute("value", "5")
    page.goto(f"{server.url}/?min_rating=5")
    expect(hits(page)).to_have_count(1)
    assert shown(page) == ["green.png"]


def test_a_selection_is_rated(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(f"{server.url}/?sort=added")
    expect(hits(page)).to_have_count(3)
    part(page, "select-mode").click()
    part(page, "select-all").click()
    expect(part(page, "selection-count")).to_have_text("3 selected")
    shoot(page, "selection-rating")
    expect_no_violation(page, "a selection")
    part(page, "bulk-rating").select_option("2")
    expect(part(page, "live")).to_have_text("Gave 2 stars to 3 photos.")
    with Client(server.url) as client:
        for asset in client.assets.iterate():
            assert client.assets.get(asset.id).facts.rating == 2
    part(page, "bulk-rating").select_option("0")
    expect(part(page, "live")).to_have_text("Took the stars of 3 photos away.")
    page.goto(f"{server.url}/?min_rating=1")
    expect(part(page, "notice")).to_be_visible()


def test_albums_are_shown_joined_and_left(visit: Visits, server: Server, shoot: Shoot) -> None:
    with Client(server.url) as client:
        for name, query in (("Harbours", None), ("Lakes, rivers", None), ("Saved", "has:gps")):
            client.albums.create(name, query)
    page = _open(visit, server, "blue", expected=["status of 409"])
    names, field = page.get_by_test_id("album-in"), part(page, "album-in-input")
    expect(names).to_have_count(0)
    field.focus()
    # Those that exist are suggested, without saved searches.
    options = page.locator("#album-in-options option")
    expect(options).to_have_count(2)
    assert options.evaluate_all("all => all.map(({value}) => value)") == [
        "Harbours",
        "Lakes, rivers",
    ]
    for name in ("Lakes, rivers", "New"):
        field.fill(name)
        field.press("Enter")
        expect(names.filter(has_text=name)).to_have_count(1)
    shoot(page, "viewer-albums")
    expect_no_violation(page, "a photograph in albums")
    field.fill("Saved")
    field.press("Enter")
    expect(part(page, "toast")).to_contain_text("fills itself")
    expect(names).to_have_text(["Lakes, rivers", "New"])
    page.reload()
    expect(names).to_have_text(["Lakes, rivers", "New"])
    page.get_by_role("button", name="Take it out of the album New").click()
    expect(names).to_have_text(["Lakes, rivers"])
    with Client(server.url) as client:
        counts = {album.name: album.assets for album in client.albums.iterate()}
    assert counts == {"Harbours": 0, "Lakes, rivers": 1, "New": 0, "Saved": None}
    page.get_by_title("Show the album Lakes, rivers").click()
    expect(hits(page)).to_have_count(1)
    assert shown(page) == ["blue.png"]


def test_albums_typed_faster_than_they_are_stored_are_all_joined(
    visit: Visits, server: Server
) -> None:
    page = _open(visit, server, "green")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == "POST" and not held:
            held.append(route)
        else:
            route.continue_()

    page.route("**/v1/albums", hold)
    names, field = page.get_by_test_id("album-in"), part(page, "album-in-input")
    for name in ("Quick", "Quicker"):
        field.fill(name)
        field.press("Enter")
    expect(names).to_have_text(["Quick", "Quicker"])
    wait_until(page, lambda: len(held) == 1)
    held[0].continue_()
    with Client(server.url) as client:
        wanted = {"Quick": 1, "Quicker": 1}
        wait_until(
            page,
            lambda: (
                {one.name: one.assets for one in client.albums.iterate() if one.name in wanted}
                == wanted
            ),
        )
    page.reload()
    expect(names).to_have_text(["Quick", "Quicker"])


def test_a_slideshow_of_an_album_shows_what_is_in_it_alone(visit: Visits, server: Server) -> None:
    with Client(server.url) as client:
        ids = {asset.file_name: asset.id for asset in client.assets.iterate()}
        album = client.albums.create("Warm and cold")
        client.albums.change(album.id, add=[ids["red.png"], ids["blue.png"]])
    page = visit(f"{server.url}/?sort=added&q=album:%22Warm+and+cold%22")
    expect(hits(page)).to_have_count(2)
    first, second = shown(page)
    assert {first, second} == {"red.png", "blue.png"}
    page.keyboard.press("s")
    image = part(page, "viewer-image")
    expect(image).to_have_attribute("alt", re.compile(rf"^{first}"))
    part(page, "slideshow-seconds").select_option("3")
    # After the last comes the first.
    for name in (second, first, second):
        expect(image).to_have_attribute("alt", re.compile(rf"^{name}"))
