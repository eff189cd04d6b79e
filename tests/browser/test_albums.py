"""Suggestions while typing, filters by facts, and albums: one small library for all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import piexif
import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import expect_first, expect_no_violation, hits, part, query, shown
from PIL import Image
from playwright.sync_api import Dialog, Page, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]
_PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740}, "has_touch": True, "color_scheme": "dark",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two photographs of Berlin with three and five stars, one of Paris, one of nowhere."""
    library = Library(tmp_path_factory.mktemp("albums"))
    for name, seed, place, stars in (
        ("red", 1, (52.5163, 13.3777), 3),
        ("green", 2, (52.4986, 13.3918), 5),
        ("blue", 3, (48.8584, 2.2945), None),
        ("yellow", 4, None, None),
    ):
        path = save(library.photos / f"{name}.png", [name], seed)
        exif: dict[str, dict[int, Any]] = {"0th": {}, "Exif": {}, "GPS": {}}
        exif["Exif"][piexif.ExifIFD.LensModel] = "Zeta 50mm f/2"
        if stars is not None:
            exif["0th"][piexif.ImageIFD.Rating] = stars
        if place is not None:
            for ref, value, number in ((1, place[0], 2), (3, place[1], 4)):
                exif["GPS"][ref] = "N" if ref == 1 else "E"
                exif["GPS"][number] = [(round(value * 1e4), 10**4), (0, 1), (0, 1)]
        Image.open(path).save(path.with_suffix(".jpg"), exif=piexif.dump(exif), quality=95)
        path.unlink()
    library.index()
    with Server(library.home) as running:
        with Client(running.url) as client:
            for asset in client.assets.iterate():
                if asset.file_name in {"red.jpg", "green.jpg"}:
                    client.assets.patch(asset.id, tags=["harbour wall"])
            client.albums.create("Harbours", 'tag:"harbour wall"')
        yield running
    shutil.rmtree(library.home)


def test_suggestions_complete_what_is_typed(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    expect(hits(page)).to_have_count(4)
    box, listed = page.get_by_role("combobox", name="Search photos"), part(page, "suggestions")
    box.press_sequentially("ber")
    options = page.get_by_test_id("suggestion")
    expect(options).to_have_text(["Berlincity"])
    expect(box).to_have_attribute("aria-expanded", "true")
    shoot(page, "suggestions")
    expect_no_violation(page, "suggestions")
    # Escape closes the list and keeps the text; a change opens it again.
    box.press("Escape")
    expect(listed).to_be_hidden()
    expect(box).to_have_value("ber")
    box.fill("red har")
    expect(options).to_have_text(["harbour walltag", "Harbourssaved search"])
    box.press("ArrowUp")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    box.press("ArrowDown")
    box.press("ArrowDown")
    expect(box).to_have_attribute("aria-activedescendant", "suggestion-0")
    expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    expect_no_violation(page, "a suggestion is chosen")
    box.press("Enter")
    expect(box).to_have_value('red tag:"harbour wall"')
    assert query(page)["q"] == 'red tag:"harbour wall"'
    expect(listed).to_be_hidden()
    expect(hits(page)).to_have_count(2)
    # With the mouse, and in the middle of a text.
    box.fill("country:fr")
    options.click()
    expect(box).to_have_value("country:France")
    expect(hits(page)).to_have_count(1)
    assert shown(page) == ["blue.jpg"]


def test_facts_are_filters_with_counts(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    menu = part(page, "filter-menu")
    for kind, value in (("country", "Germany2"), ("lens", "Zeta 50mm f/22"), ("format", "JPEG2")):
        part(page, "filter-add").click()
        part(page, f"filter-{kind}").click()
        expect(menu.locator(".choice-list li").first).to_have_text(value)
        menu.get_by_test_id("filter-value").first.check()
        part(page, "filter-done").click()
    part(page, "filter-add").click()
    part(page, "filter-rating").click()
    stars = page.get_by_test_id("filter-stars")
    expect(stars.nth(1)).to_have_text("4 stars or more1")
    shoot(page, "filter-by-rating")
    expect_no_violation(page, "the filter by rating")
    stars.nth(1).click()
    expect(page.get_by_test_id("chip")).to_have_count(4)
    expect(hits(page)).to_have_count(1)
    assert shown(page) == ["green.jpg"]
    page.reload()
    expect(hits(page)).to_have_count(1)
    # The photograph says where it was taken, and leads to others from there.
    hits(page).first.get_by_test_id("hit-link").click()
    page.get_by_title("Show all photos of this city").click()
    page.wait_for_url("**city=Berlin*")
    expect(hits(page)).to_have_count(2)


def test_a_search_becomes_an_album_that_is_renamed_and_deleted(
    visit: Visits, server: Server, shoot: Shoot
) -> None:
    page = visit(f"{server.url}/?country=France&q=-tag%3Aharbour", expected=["status of 409"])
    expect(hits(page)).to_have_count(1)

    def answer(words: str) -> None:
        page.once("dialog", lambda dialog: dialog.accept(words))

    answer("Out of town")
    part(page, "save-search").click()
    page.get_by_role("button", name="Albums", exact=True).click()
    albums = page.get_by_test_id("album")
    expect(albums).to_have_count(2)
    expect(albums.nth(1)).to_contain_text("Saved search: -tag:harbour country:France")
    assert page.title() == "Albums · regard"
    shoot(page, "albums")
    expect_no_violation(page, "albums")
    # A name that another album has is refused, and nothing changes.
    answer("Harbours")
    albums.nth(1).get_by_test_id("album-rename").click()
    expect(page.get_by_text("already exists")).to_be_visible()
    answer("Beyond")
    albums.nth(1).get_by_test_id("album-rename").click()
    expect(albums.nth(0)).to_contain_text("Beyond")
    albums.nth(0).get_by_role("link").click()
    expect(hits(page)).to_have_count(1)
    assert query(page) == {"q": "album:Beyond"}
    page.go_back()
    page.once("dialog", Dialog.accept)
    albums.nth(0).get_by_test_id("album-delete").click()
    expect(albums).to_have_count(1)
    with Client(server.url) as client:
        assert [album.name for album in client.albums.iterate()] == ["Harbours"]


def test_results_are_put_in_order(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?q=has%3Alens")
    expect(hits(page)).to_have_count(4)
    newest = shown(page)
    # Nothing is more relevant than another in a list.
    orders = part(page, "sort").locator("option")
    expect(orders).to_have_text(["Newest first", "Oldest first"])
    expect(part(page, "sort")).to_have_value("newest")
    part(page, "sort").select_option("oldest")
    page.wait_for_url("**order=oldest*")
    expect_first(page, newest[-1])
    assert shown(page) == newest[::-1]
    expect(part(page, "sort")).to_have_value("oldest")
    page.goto(f"{server.url}/?q=red")
    expect(orders).to_have_text(["Most relevant", "Newest first", "Oldest first"])


def test_a_phone_shows_albums_and_suggestions(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(f"{server.url}/?view=albums", **_PHONE)
    expect(page.get_by_test_id("album").first).to_be_visible()
    expect_no_violation(page, "albums on a phone")
    part(page, "q").press_sequentially("har")
    expect(page.get_by_test_id("suggestion")).to_have_count(2)
    expect_no_violation(page, "suggestions on a phone")
    shoot(page, "albums-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
