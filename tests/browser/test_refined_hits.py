"""The page refines results: the plain answer first, then the place of what the words name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from made_blocks import PLACE, make_blocks
from made_library import Library
from made_server import Server
from page_parts import expect_no_violation, hits, part, query, search
from playwright.sync_api import Page, Route, expect
from visits import Visits

pytestmark = pytest.mark.slow

COUNT = 6


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return make_blocks(tmp_path_factory.mktemp("refining"), COUNT)


@pytest.fixture(scope="module")
def blocks(library: Library) -> Iterator[Server]:
    with Server(library.home) as running:
        yield running


def outlined(page: Page, number: int) -> str | None:
    """The box that the outline of a result lies in, in half pixels."""
    drawn = hits(page).nth(number).locator(".outline.is-traced svg")
    expect(drawn).to_be_attached()
    return drawn.get_attribute("viewBox")


REFINED = " ".join(str(2 * side) for side in PLACE)


def test_places_follow_the_plain_answer(
    visit: Visits, blocks: Server, shoot: Callable[[Page, str], None]
) -> None:
    page = visit(blocks.url)
    expect(part(page, "refine")).to_be_hidden()
    search(page, "red")
    expect(hits(page)).to_have_count(COUNT + 1)
    before = outlined(page, 0)
    assert before != REFINED

    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held:
            route.continue_()
        held.append(route)

    page.route("**/v1/search?*refine=true*", hold_first)
    part(page, "refine").check()
    expect(page.locator(".refine.is-busy")).to_be_visible()
    expect(hits(page)).to_have_count(COUNT + 1)
    assert outlined(page, 0) == before
    held[0].continue_()
    refined = page.locator('[data-testid="hit"][data-refined]')
    expect(refined).to_have_count(COUNT)
    expect(page.locator(".refine.is-busy")).to_have_count(0)
    assert outlined(page, 0) == REFINED
    assert query(page)["refine"] == "true"
    shoot(page, "refined")

    # The viewer shows the same place, and calls it by the words of the search.
    part(page, "hit-link").click()
    lit = page.locator(".stage-region.is-lit")
    expect(lit).to_have_attribute("title", "red")
    shoot(page, "refined-viewer")
    expect_no_violation(page, "the viewer over a refined search")
    page.keyboard.press("Escape")
    part(page, "refine").uncheck()
    expect(refined).to_have_count(0)
    assert outlined(page, 0) == before


def test_a_link_refines_and_another_query_goes_on(visit: Visits, blocks: Server) -> None:
    page = visit(f"{blocks.url}/?q=green&refine=true&target=region")
    refined = page.locator('[data-testid="hit"][data-refined]')
    expect(refined).to_have_count(1)
    search(page, "red")
    expect(refined).to_have_count(COUNT)
    page.go_back()
    expect(refined).to_have_count(1)


def test_a_failure_leaves_the_plain_answer(visit: Visits, blocks: Server) -> None:
    page = visit(blocks.url, expected=["refine=true", "500"])
    page.route("**/v1/search?*refine=true*", lambda route: route.fulfill(status=500, body="{}"))
    search(page, "red")
    part(page, "refine").check()
    expect(page.locator(".toast")).to_be_visible()
    expect(hits(page)).to_have_count(COUNT + 1)
    expect(page.locator(".refine.is-busy")).to_have_count(0)


@pytest.fixture(scope="module")
def bare(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same photographs under models without a grounder."""
    made = Library(tmp_path_factory.mktemp("bare"))
    profile = made.photos.parent / "bare.toml"
    profile.write_text(
        'description = "bare"\n[encoder]\nkind = "fake"\n[segmenter]\nkind = "fake"\n'
    )
    assert made.run("index", library.photos, "--profile", profile).code == 0
    with Server(made.home, profile=None) as running:
        yield running


def test_models_that_cannot_refine_hide_it(visit: Visits, bare: Server) -> None:
    page = visit(f"{bare.url}/?q=red&refine=true")
    expect(hits(page)).to_have_count(COUNT + 1)
    expect(part(page, "refine")).to_be_hidden()
