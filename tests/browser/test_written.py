"""The query language in the page: how a query was read, lists by filters alone, and where it is
wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gallery import PLAIN, save
from made_server import Server
from page_parts import (
    drop,
    expect_first,
    expect_no_violation,
    hits,
    part,
    query,
    search,
    shown,
)
from playwright.sync_api import Page, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]


@pytest.fixture(scope="module", autouse=True)
def _tagged(server: Server) -> None:
    with Client(server.url) as client:
        for asset in client.assets.iterate():
            if asset.file_name.removesuffix(".png") in PLAIN:
                client.assets.patch(asset.id, tags=["plain"])


def ask(page: Page, words: str) -> None:
    part(page, "q").fill(words)
    part(page, "q").press("Enter")


def test_parsed_query_is_shown(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    search(page, '"blue" -red^1 tag:plain')
    expect_first(page, "blue.png")
    expect(hits(page)).to_have_count(len(PLAIN))
    expect(page.get_by_test_id("part")).to_have_text(["“blue”", "not red ×1", "tag: plain"])
    expect_no_violation(page, "a query")
    shoot(page, "query-in-parts")
    # A part goes out of the query, and what is left is searched for.
    page.get_by_role("button", name="Remove not red ×1 from the query").click()
    expect(part(page, "q")).to_have_value('"blue" tag:plain')
    expect(page.get_by_test_id("part")).to_have_text(["“blue”", "tag: plain"])
    assert query(page) == {"q": '"blue" tag:plain'}
    page.go_back()
    expect(page.get_by_test_id("part")).to_have_text(["“blue”", "not red ×1", "tag: plain"])
    # Mere words need no explanation.
    search(page, "blue")
    expect(page.get_by_test_id("part")).to_have_count(0)


def test_texts_joined_by_or_are_one_part(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url)
    search(page, "(blue OR red) tag:plain")
    expect(page.get_by_test_id("part")).to_have_text(["blue or red", "tag: plain"])
    # It is a search, not a list.
    expect(page.get_by_test_id("tile-why").first).to_be_visible()
    shoot(page, "query-with-a-choice")
    page.get_by_role("button", name="Remove blue or red from the query").click()
    expect(part(page, "q")).to_have_value("tag:plain")
    expect(page.get_by_test_id("part")).to_have_text(["tag: plain"])


def test_filters_alone_list_photos(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    ask(page, "tag:plain -path:red.png")
    expect(hits(page)).to_have_count(len(PLAIN) - 1)
    expect(part(page, "summary")).to_have_text(f"{len(PLAIN) - 1} photos")
    assert "red.png" not in shown(page)
    expect(page.get_by_test_id("tile-why")).to_have_count(0)
    ask(page, "tag:none")
    expect(part(page, "notice")).to_contain_text("No photo matches the query")


def test_query_errors_are_marked(visit: Visits, server: Server, shoot: Shoot) -> None:
    page = visit(server.url, expected=["status of 422"])
    # The emoji is one character for the service, and two for the page.
    ask(page, "😀 blue tags:plain")
    notice = part(page, "notice")
    expect(notice).to_contain_text("There is no field tags.")
    expect(notice.locator("mark")).to_have_text("tags:")
    expect(part(page, "wrong-query")).to_have_text("😀 blue tags:plain")
    field = part(page, "q")
    expect(field).to_have_attribute("aria-invalid", "true")
    chosen = field.evaluate("f => f.value.slice(f.selectionStart, f.selectionEnd)")
    assert chosen == "tags:"
    expect_no_violation(page, "a query")
    shoot(page, "query-that-is-wrong")
    # The wrong part is selected: typing mends it.
    page.keyboard.type("tag:")
    expect(field).not_to_have_attribute("aria-invalid", "true")
    field.press("Enter")
    expect_first(page, "blue.png")
    expect(notice).to_be_hidden()
    expect(page.get_by_test_id("part")).to_have_text(["😀 blue", "tag: plain"])


def test_words_beside_an_image_are_parsed(visit: Visits, server: Server, tmp_path: Path) -> None:
    page = visit(server.url)
    drop(page, "search", [save(tmp_path / "sea.png", ["blue"], 700)])
    expect_first(page, "blue.png")
    search(page, "-image:1 red tag:plain")
    expect_first(page, "red.png")
    expect(page.get_by_test_id("part")).to_have_text(["not picture 1", "red", "tag: plain"])
    assert shown(page)[-1] == "blue.png"
