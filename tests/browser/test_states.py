"""What the page says when there is nothing, when it waits, when something fails; and hostile text
in it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gallery import COUNT, save
from made_library import Library
from made_server import Server
from page_parts import expect_first, hits, part, picture, query, search, wait_until
from playwright.sync_api import Page, Route, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]
_CUT_OFF = r"Failed to load resource: net::ERR_"
_LAST = f'[data-testid="hit"][aria-posinset="{COUNT}"]'
# In pixels.
_DISTANCE_TO_END = "document.documentElement.scrollHeight - innerHeight - scrollY"
_HOSTILE = "<img src=x onerror=hacked()>"


# Servers for one test come before `visit` in its arguments: its pages are closed before they end.
@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "home") as running:
        yield running


def test_empty_library_explains_how_to_start(
    empty: Server, visit: Visits, tmp_path: Path, shoot: Shoot
) -> None:
    page = visit(empty.url)
    expect(part(page, "notice")).to_contain_text("Your library is empty")
    expect(part(page, "notice")).to_contain_text("regard index")
    shoot(page, "empty-library")
    part(page, "notice").get_by_role("button", name="Upload photos").click()
    part(page, "upload-input").set_input_files(save(tmp_path / "first.png", ["green"], 1))
    part(page, "upload-start").click()
    expect(part(page, "upload-indexing")).to_contain_text("1 photo done")
    part(page, "upload-done").click()
    expect_first(page, "first.png")
    expect(page.get_by_test_id("notice")).to_have_count(0)


def test_controls_appear_when_permissions_arrive_late(
    empty: Server, visit: Visits, tmp_path: Path
) -> None:
    page = visit(empty.url)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def release() -> None:
        while held:
            held.pop().continue_()

    page.route("**/v1/info", hold)
    page.reload()
    expect(part(page, "notice")).to_contain_text("Your library is empty")
    expect(part(page, "notice").get_by_role("button")).to_have_count(0)
    release()
    expect(part(page, "notice").get_by_role("button", name="Upload photos")).to_be_visible()

    with Client(empty.url) as client:
        (item,) = client.assets.upload(save(tmp_path / "first.png", ["green"], 1)).items
    assert item.asset is not None
    page.goto(f"{empty.url}/?photo={item.asset.id}")
    expect(part(page, "viewer-title")).to_have_text("first.png")
    expect(page.get_by_test_id("tag-input")).to_have_count(0)
    release()
    expect(part(page, "tag-input")).to_be_visible()
    expect(part(page, "delete")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")


def test_no_match_suggests_what_to_do(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(f"{server.url}/?q=red&tag=nowhere")
    expect(part(page, "notice")).to_contain_text("No photo matches these filters")
    shoot(page, "no-match")
    part(page, "notice").get_by_role("button", name="Remove all filters").click()
    expect_first(page, "red.png")


def test_empty_answers_name_the_words_that_models_cannot_read(
    visit: Visits, server: Server
) -> None:
    page = visit(server.url)
    long = "x" * 2000

    def empty_answer(route: Route) -> None:
        document = route.fetch().json()
        word = document["query"]["text"]
        route.fulfill(json={**document, "hits": [], "next": None, "unknown_words": [word]})

    page.route("**/v1/search?**", empty_answer)
    for word, quoted in (("😀", "“😀”"), (long, f"“{long[:100]}…”")):
        part(page, "q").fill(word)
        part(page, "q").press("Enter")
        text = f"Nothing here matches {quoted}. The models can't read {quoted}"
        expect(part(page, "notice")).to_contain_text(text)
        expect(page.get_by_test_id("live")).to_contain_text(text)
        expect(page.get_by_test_id("show-nearest")).to_have_count(0)
    part(page, "q").fill(f"{long}x")
    part(page, "q").press("Enter")
    message = "The search has 2,001 characters; at most 2,000 are possible."
    assert part(page, "q").evaluate("field => field.validationMessage") == message
    assert query(page) == {"q": long}
    page.unroute_all(behavior="wait")


def test_what_cannot_be_answered_offers_something_else(
    visit: Visits, server: Server, shoot: Shoot
) -> None:
    refused = ["status of 422", "status of 404"]
    page = visit(f"{server.url}/?q=tags:x", expected=refused)
    expect(part(page, "wrong-query")).to_have_text("tags:x")
    expect(part(page, "save-search")).to_be_hidden()
    search(page, "red")
    expect(part(page, "save-search")).to_be_visible()

    page.goto(f"{server.url}/?taken_from=garbage")
    expect(part(page, "chip")).to_contain_text("“garbage” is not a date")
    expect(part(page, "notice")).to_contain_text("Taken_from is not a date.")
    expect(page.get_by_test_id("retry")).to_have_count(0)
    expect(part(page, "save-search")).to_be_hidden()
    shoot(page, "refused-filter")
    part(page, "notice").get_by_role("button", name="Remove the filter").click()
    expect(hits(page).first).to_be_visible()

    page.goto(f"{server.url}/?q={'x' * 2001}")
    expect(part(page, "notice")).to_contain_text("2,001 characters; at most 2,000")
    page.goto(f"{server.url}/?like=a99999")
    expect(part(page, "notice")).to_contain_text("is not there")
    shoot(page, "refused-like")
    part(page, "notice").get_by_role("button", name="Clear the search").click()
    expect(hits(page).first).to_be_visible()

    page.goto(f"{server.url}/?photo=a99999")
    expect(part(page, "viewer")).to_contain_text("This photo is not there")
    shoot(page, "refused-photo")
    part(page, "gone-close").click()
    expect(part(page, "viewer")).to_be_hidden()
    expect(hits(page).first).to_be_visible()


def test_superseded_searches_are_dropped(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    expect(hits(page).first).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/search?q=red&*", hold)
    part(page, "q").fill("red")
    part(page, "q").press("Enter")
    expect(page.locator("#grid")).to_have_attribute("aria-busy", "true")
    expect(part(page, "summary")).to_have_text("Looking…")
    shoot(page, "loading")
    assert len(held) == 1

    search(page, "green")
    expect_first(page, "green.png")
    with contextlib.suppress(Exception):
        # The page gave it up, and may have told the browser so already.
        held[0].continue_()
    search(page, "blue")
    expect_first(page, "blue.png")


def test_errors_are_shown_and_can_be_retried(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url, expected=[_CUT_OFF, "status of 503"])
    expect(hits(page).first).to_be_visible()
    page.route("**/v1/search?**", lambda route: route.abort())
    part(page, "q").fill("red")
    part(page, "q").press("Enter")
    expect(part(page, "notice")).to_contain_text("The server can't be reached.")
    expect(part(page, "notice")).to_contain_text("regard serve")
    shoot(page, "error")
    page.unroute_all()
    part(page, "retry").click()
    expect_first(page, "red.png")

    # A problem that the server tells of.
    problem = {
        "type": "/v1/problems/unavailable",
        "title": "Unavailable",
        "status": 503,
        "detail": "the index can't be opened",
        "remedy": "run: regard rebuild",
    }
    page.route("**/v1/search?**", lambda route: route.fulfill(status=503, json=problem))
    part(page, "q").fill("green")
    part(page, "q").press("Enter")
    expect(part(page, "notice")).to_contain_text("The index can't be opened.")
    expect(part(page, "notice")).to_contain_text("Run: regard rebuild.")


def test_failed_next_page_keeps_loaded_results(visit: Visits, server: Server) -> None:
    page = visit(server.url, expected=[_CUT_OFF])
    expect(hits(page).first).to_be_visible()
    page.route("**/v1/assets?*", lambda route: route.abort())
    page.keyboard.press("End")
    expect(part(page, "more")).to_contain_text("Loading failed: try again")
    page.keyboard.press("Home")
    wait_until(page, lambda: page.evaluate("scrollY") == 0)
    page.keyboard.press("End")
    wait_until(page, lambda: page.evaluate(_DISTANCE_TO_END) < 2)
    page.unroute_all()
    part(page, "more").click()
    expect(page.locator(_LAST)).to_be_visible()
    expect(part(page, "more")).to_be_hidden()


def test_list_left_while_loading_continues(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(hits(page).first).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/assets?*", hold)
    page.keyboard.press("End")
    wait_until(page, lambda: bool(held))
    search(page, "green")
    expect_first(page, "green.png")
    page.unroute_all(behavior="ignoreErrors")
    page.go_back()
    expect(part(page, "q")).to_have_value("")
    expect(page.locator(_LAST)).to_be_visible()


def test_missing_originals_say_why(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url, expected=["status of 409"])
    expect(hits(page).first).to_be_visible()
    answer = {
        "type": "/v1/problems/original-missing",
        "title": "Original missing",
        "status": 409,
        "detail": "the original is not where it was",
        "remedy": "index it again",
    }
    page.route("**/thumbnail?*", lambda route: route.fulfill(status=409, json=answer))
    page.route("**/crop?*", lambda route: route.fulfill(status=409, json=answer))
    search(page, "green")
    tile = hits(page).first
    expect(tile).to_contain_text("green.png")
    expect(tile).to_contain_text("The original is not where it was. Index it again.")
    tile.get_by_test_id("hit-link").press("Enter")
    expect(page.locator(".stage-failure")).to_contain_text("Index it again.")
    expect(page.locator(".region-go .unseen")).to_have_count(4)
    expect(page.locator(".region-go img")).to_have_count(0)
    shoot(page, "pictures-gone")


def test_stopped_server_is_reported(visit: Visits, tmp_path: Path) -> None:
    library = Library(tmp_path)
    save(library.photos / "red.png", ["red"], 1)
    library.index()
    with Server(library.home) as server:
        page = visit(server.url, expected=[_CUT_OFF])
        expect_first(page, "red.png")
        server.stop()
        part(page, "q").fill("red")
        part(page, "q").press("Enter")
        expect(part(page, "notice")).to_contain_text("The server can't be reached.")


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Server]:
    """A library in which every text is markup that would run a script."""
    library = Library(tmp_path)
    save(library.photos / f"{_HOSTILE}.png", ["red"], 1)
    library.index()
    with contextlib.closing(sqlite3.connect(library.home / "catalog.sqlite3")) as catalog:
        catalog.execute("UPDATE caption SET text = ?", (f"caption {_HOSTILE}",))
        catalog.commit()
    with Server(library.home) as server, Client(server.url) as client:
        (asset,) = client.assets.iterate()
        client.assets.patch(
            asset.id, tags=[f"tag {_HOSTILE}"], custom={f"field {_HOSTILE}": f"value {_HOSTILE}"}
        )
        yield server


def test_hostile_text_is_shown_as_text(hostile: Server, visit: Visits, shoot: Shoot) -> None:
    page = visit(hostile.url)
    search(page, "red")
    hits(page).first.hover()
    part(hits(page).first, "tile-why").hover()
    expect(part(page, "why")).to_contain_text(f"caption {_HOSTILE}")
    picture(page, f"{_HOSTILE}.png").click()
    expect(part(page, "viewer-title")).to_have_text(f"{_HOSTILE}.png")
    expect(part(page, "captions")).to_contain_text(f"caption {_HOSTILE}")
    # A title of two lines pushes down what comes below it.
    assert part(page, "viewer-title").evaluate(
        "title => title.getBoundingClientRect().bottom"
    ) <= part(page, "captions").evaluate("captions => captions.getBoundingClientRect().top")
    expect(part(page, "custom")).to_contain_text(f"field {_HOSTILE}")
    expect(part(page, "custom")).to_contain_text(f"value {_HOSTILE}")
    shoot(page, "hostile-text")
    page.get_by_test_id("tag").get_by_text(f"tag {_HOSTILE}").click()
    expect(page.get_by_test_id("chip")).to_have_text([f"tag {_HOSTILE}"])
    part(page, "filter-add").click()
    part(page, "filter-tag").click()
    expect(part(page, "filter-menu")).to_contain_text(f"tag {_HOSTILE}")
    # A link that somebody sent.
    page.goto(f"{hostile.url}/?q={_HOSTILE}&not_tag={_HOSTILE}&custom.{_HOSTILE}={_HOSTILE}")
    expect(part(page, "q")).to_have_value(_HOSTILE)
    expect(part(page, "chip")).to_have_text(f"not {_HOSTILE}")

    page.goto(hostile.url)
    hits(page).first.click()
    part(page, "title-edit").click()
    part(page, "title-input").fill(f"title {_HOSTILE}")
    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_have_text(f"title {_HOSTILE}")
    part(page, "delete").click()
    expect(part(page, "toast")).to_contain_text(f"Moved title {_HOSTILE} to the trash.")
    # That no script ran is the visit's to say: `hacked` is not defined, so it would have failed.
    assert page.locator('img[src="x"]').count() == 0
