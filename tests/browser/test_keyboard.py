"""All of the page without a mouse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from made_server import Server
from page_parts import expect_first, expect_no_violation, hits, part, query
from playwright.sync_api import Page, expect
from visits import Visits

pytestmark = pytest.mark.slow


def _focused(page: Page) -> str | None:
    """The test id of what has the focus; it has to be seen, and to be seen to have it."""
    seen = page.evaluate(
        """() => {
          const focused = document.activeElement;
          const box = focused.getBoundingClientRect();
          const around = [focused, focused.closest(".search, label"), focused.parentElement];
          const drawn = around.filter(Boolean).map((each) => getComputedStyle(each))
            .some((style) => style.outlineStyle !== "none" || style.boxShadow !== "none");
          return {
            testid: focused.dataset.testid, isBody: focused === document.body,
            area: box.width * box.height, drawn,
          };
        }"""
    )
    if not seen["isBody"]:
        assert seen["area"] > 0, seen
        assert seen["drawn"], f"one can't see that the focus is on {seen}"
    testid: str | None = seen.get("testid")
    return testid


def _tab_to(page: Page, testid: str, key: str = "Tab", most: int = 30) -> None:
    """Walk on by Tab until the focus is there; everything on the way has to show that it has
    it."""
    passed = []
    for _ in range(most):
        page.keyboard.press(key)
        passed.append(_focused(page))
        if passed[-1] == testid:
            return
    raise AssertionError(f"{most} times {key} do not lead to {testid} but over {passed}")


def test_search_and_viewer_work_by_keyboard_alone(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(hits(page).first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("purple")
    page.keyboard.press("Enter")
    expect_first(page, "purple.png")

    _tab_to(page, "hit-link")
    expect(hits(page).first.get_by_test_id("hit-link")).to_be_focused()
    # Without hover, focus shows the reasons; Escape hides them, and the next focus shows them
    # again.
    why = part(page, "why")
    expect(why).to_contain_text("“purple” in the file's name")
    page.keyboard.press("Escape")
    expect(why).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(hits(page).nth(1).get_by_test_id("hit-link")).to_be_focused()
    expect(why).to_be_visible()
    page.keyboard.press("End")
    page.keyboard.press("Home")
    expect(hits(page).first.get_by_test_id("hit-link")).to_be_focused()

    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_have_text("purple.png")
    opened = query(page)["photo"]
    page.keyboard.press("ArrowRight")
    expect(part(page, "viewer-title")).not_to_have_text("purple.png")
    assert query(page)["photo"] != opened
    page.keyboard.press("ArrowLeft")
    expect(part(page, "viewer-title")).to_have_text("purple.png")

    _tab_to(page, "region-similar")
    expect(page.locator(".stage-region.is-lit")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(part(page, "viewer")).to_be_hidden()
    expect(part(page, "summary")).to_contain_text("things")
    assert query(page).keys() == {"like", "target"}
    expect_first(page, "purple.png")

    _tab_to(page, "hit-link")
    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_have_text("purple.png")
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()
    expect(hits(page).first.get_by_test_id("hit-link")).to_be_focused()

    # Backspace in the empty box takes away what is searched by.
    page.keyboard.press("/")
    page.keyboard.press("Backspace")
    page.wait_for_url(lambda url: "like=" not in url)


def test_keyboard_shortcuts(
    visit: Visits, server: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(f"{server.url}/?q=red")
    expect_first(page, "red.png")
    page.keyboard.press("t")
    expect(part(page, "summary")).to_contain_text("things")
    page.keyboard.press("t")
    expect(part(page, "summary")).to_contain_text("photos")

    page.keyboard.press("?")
    expect(part(page, "shortcuts")).to_be_visible()
    shoot(page, "keys")
    expect_no_violation(page, "the keys")
    page.keyboard.press("Escape")
    expect(part(page, "shortcuts")).to_be_hidden()
    page.keyboard.press("u")
    expect(part(page, "upload")).to_be_visible()
    page.keyboard.press("Escape")
    expect(part(page, "upload")).to_be_hidden()

    _tab_to(page, "hit-link")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(part(page, "selection-count")).to_have_text("2 selected")
    page.keyboard.press("Escape")
    expect(part(page, "selection")).to_be_hidden()
    page.keyboard.press("Home")
    # The viewer has keys of its own, told in the same place; the focus returns.
    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_have_text("red.png")
    page.keyboard.press("?")
    expect(part(page, "shortcuts").locator("h3", has_text="In an open photo")).to_be_visible()
    page.keyboard.press("Escape")
    expect(part(page, "shortcuts")).to_be_hidden()
    expect(part(page, "viewer-close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(part(page, "viewer")).to_be_hidden()
    expect(hits(page).first.get_by_test_id("hit-link")).to_be_focused()
    page.keyboard.press("m")
    expect(part(page, "like-token")).to_contain_text("red.png")


def test_filters_are_added_and_removed_by_keyboard(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(hits(page).first).to_be_visible()
    page.keyboard.press("/")
    _tab_to(page, "filter-add")
    page.keyboard.press("Enter")
    for _ in range(20):
        if _focused(page) == "filter-orientation":
            break
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(part(page, "filter-landscape")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("chip")).to_have_text(["Portrait"])
    expect(hits(page)).to_have_count(1)
    expect(part(page, "filter-add")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Delete")
    expect(page.get_by_test_id("chip")).to_have_count(0)
    expect(part(page, "filter-add")).to_be_focused()
    expect(hits(page).nth(1)).to_be_attached()
