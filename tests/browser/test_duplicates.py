"""Duplicates in the page: groups with a suggestion, and nothing that goes without being asked
for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import expect_no_violation, hits, part, query, wait_until
from playwright.sync_api import Dialog, Page, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow

# How far each picture reaches over the name below it, in pixels.
_COVERED = """() => [...document.querySelectorAll(".review-photo")].map((photo) =>
  photo.querySelector("img").getBoundingClientRect().bottom
    - photo.querySelector(".review-choice").getBoundingClientRect().top)"""

Shoot = Callable[[Page, str], None]


# Tests name it before `visit`: their pages are closed before it ends.
@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three files of one picture, two of another, and one that is alone."""
    library = Library(tmp_path_factory.mktemp("copies"))
    red = save(library.photos / "red.png", ["red", "blue"], 1)
    blue = save(library.photos / "blue.png", ["blue", "green"], 2)
    save(library.photos / "yellow.png", ["yellow"], 3)
    for copy in ("red (1).png", "red copy.png"):
        shutil.copy(red, library.photos / copy)
    shutil.copy(blue, library.photos / "blue (1).png")
    library.index()
    with Server(library.home) as running:
        yield running


def live(server: Server) -> set[str]:
    with Client(server.url) as client:
        return {asset.file_name for asset in client.assets.iterate()}


def group(name: str) -> str:
    return f'[data-testid="group"]:has([aria-label="Open {name}"])'


def test_duplicates_are_trashed_only_after_confirmation(
    server: Server, visit: Visits, shoot: Shoot
) -> None:
    page = visit(server.url)
    expect(hits(page)).to_have_count(6)
    part(page, "menu").click()
    part(page, "menu-duplicates").click()
    groups = page.get_by_test_id("group")
    expect(groups).to_have_count(2)
    assert query(page) == {"view": "duplicates"}
    assert page.title() == "Duplicates · regard"
    expect(part(page, "duplicates")).to_be_visible()
    expect(page.get_by_test_id("results")).to_be_hidden()

    red = page.locator(group("red.png"))
    expect(red).to_contain_text("The same file, 3 photos")
    expect(red).to_contain_text("Suggested to keep: ")
    kept = red.get_by_test_id("member").first
    expect(kept).to_contain_text("red.png")
    expect(kept.locator(".badge")).to_have_text("Keep")
    # Nothing is selected automatically.
    expect(red.get_by_role("checkbox", checked=True)).to_have_count(0)
    expect(part(page, "duplicates-trash")).to_be_hidden()
    red.get_by_test_id("group-others").press("Enter")
    expect(red.get_by_role("checkbox", checked=True)).to_have_count(2)
    expect(kept.get_by_role("checkbox")).not_to_be_checked()
    expect_no_violation(page, "duplicates")
    shoot(page, "duplicates")

    asked: list[str] = []

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    part(page, "duplicates-trash").click()
    assert asked == ["Move 2 photos to the trash? They can be restored from there."]
    assert len(live(server)) == 6
    page.once("dialog", lambda dialog: dialog.accept())
    part(page, "duplicates-trash").click()
    expect(part(page, "toast")).to_contain_text("Moved 2 photos to the trash.")
    expect(groups).to_have_count(1)
    assert live(server) == {"red.png", "blue.png", "blue (1).png", "yellow.png"}
    part(page, "toast-action").click()
    expect(groups).to_have_count(2)
    assert len(live(server)) == 6

    # The confirmation warns that a group would lose all its photos.
    blue = page.locator(group("blue.png"))
    for box in blue.get_by_role("checkbox").all():
        box.check()
    page.once("dialog", refuse)
    part(page, "duplicates-trash").click()
    assert "No photo of 1 group would be left." in asked[-1]


def test_kind_and_open_photo_are_in_the_url(server: Server, visit: Visits) -> None:
    page = visit(
        f"{server.url}/?view=duplicates",
        viewport={"width": 360, "height": 740},
        color_scheme="dark",
    )
    expect(page.get_by_test_id("group")).to_have_count(2)
    part(page, "duplicates-others").click()
    expect_no_violation(page, "duplicates, narrow and dark")
    expect(part(page, "duplicates").get_by_role("checkbox", checked=True)).to_have_count(3)
    page.keyboard.press("Escape")
    expect(part(page, "duplicates").get_by_role("checkbox", checked=True)).to_have_count(0)
    part(page, "duplicates-kind").select_option("burst")
    expect(part(page, "duplicates")).to_contain_text("No duplicates here")
    assert query(page) == {"view": "duplicates", "kind": "burst"}
    expect_no_violation(page, "no duplicates")
    page.go_back()
    expect(page.get_by_test_id("group")).to_have_count(2)

    page.get_by_role("link", name="Open red.png").press("Enter")
    expect(part(page, "viewer-title")).to_have_text("red.png")
    assert set(query(page)) == {"view", "photo"}
    # Deleting it in the viewer leaves the rest of the group.
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Open red.png")).to_be_focused()
    page.get_by_role("link", name="Open red copy.png").click()
    expect(part(page, "viewer-title")).to_have_text("red copy.png")
    part(page, "delete").click()
    expect(page.locator(group("red.png"))).to_contain_text("2 photos")
    part(page, "brand").click()
    expect(hits(page)).to_have_count(5)
    assert query(page) == {}


def test_groups_are_reviewed_side_by_side(server: Server, visit: Visits, shoot: Shoot) -> None:
    with Client(server.url) as client:
        ids = {asset.file_name: asset.id for asset in client.assets.iterate()}
        client.assets.patch(ids["red copy.png"], tags=["sea"])
    page = visit(f"{server.url}/?view=duplicates")
    page.locator(group("red.png")).get_by_test_id("group-review").click()
    review, photos = part(page, "review"), page.get_by_test_id("review-photo")
    expect(photos).to_have_count(3)
    expect(page.get_by_role("radio", checked=True)).to_be_focused()
    shoot(page, "duplicates-review")
    expect_no_violation(page, "the review of duplicates")
    page.set_viewport_size({"width": 1280, "height": 420})
    images = photos.locator("img")
    wait_until(page, lambda: images.evaluate_all("all => all.every((one) => one.naturalWidth > 0)"))
    assert max(page.evaluate(_COVERED)) <= 0
    # By keyboard: the next photograph is the one to keep, and gets the tags of the others.
    page.get_by_label("Keep red.png").check()
    part(page, "review-keep").press("Enter")
    expect(photos).to_have_count(2)
    assert live(server) == {"red.png", "blue.png", "blue (1).png", "yellow.png"}
    with Client(server.url) as client:
        assert client.assets.get(ids["red.png"]).tags == ["sea"]
    part(page, "review-distinct").click()
    expect(review).to_be_hidden()
    expect(page.get_by_text("No duplicates here")).to_be_visible()
    assert len(live(server)) == 4
    page.get_by_test_id("toast-action").last.click()
    expect(page.get_by_test_id("group")).to_have_count(1)
    # On a phone, one below the other.
    page.set_viewport_size({"width": 360, "height": 740})
    part(page, "group-review").click()
    expect(photos).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "duplicates-review-phone")
    page.keyboard.press("Escape")
    expect(review).to_be_hidden()
