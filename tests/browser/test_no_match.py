"""What the page makes of relevance: an honest "nothing here matches", and how likely each hit is
right.

The fake models see colours; their calibration here says that what is not a colour is not there.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest
from gallery import QUARTERED
from made_library import Library
from made_server import Server
from page_parts import expect_first, hits, part, picture, query, scroll_through, search
from playwright.sync_api import Page, expect
from visits import Visits

from regard.api.client import Client
from regard.models.profiles.registry import profile_file

pytestmark = pytest.mark.slow

_WIDTHS = (360, 720, 1280)
_NOTHING = "Nothing here matches “a submarine”."


@pytest.fixture(scope="module")
def server(gallery: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fake models, calibrated."""
    folder = tmp_path_factory.mktemp("profiles")
    shutil.copy(profile_file("fake"), folder)
    (space,) = {space for (space,) in gallery.sql("SELECT space FROM channel")}
    table = {
        "hit": {"constant": -8, "weights": {"image.cosine": 12}},
        "presence": {"constant": -6, "weights": {"image.best": 12}},
        "cut_off": 0.5,
    }
    # Nothing is ever like a picture.
    unlike = {
        "hit": {"constant": -3, "weights": {"image.prominence": 1}},
        "presence": {"constant": -3, "weights": {"image.prominence": 0}},
        "cut_off": 0.5,
    }
    forms = {"image": {"spaces": [space], "image": unlike}}
    document = {"space": space, "image": table, "region": table, "forms": forms}
    (folder / "fake.relevance.json").write_text(json.dumps(document))
    with Server(gallery.home, environ={"REGARD_PROFILES": str(folder)}) as running:
        yield running


def ask(page: Page, words: str) -> None:
    part(page, "q").fill(words)
    part(page, "q").press("Enter")


def test_hits_without_a_match_are_hidden_until_requested(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(hits(page).first).to_be_visible()
    ask(page, "a submarine")
    notice = part(page, "notice")
    expect(notice).to_contain_text(_NOTHING)
    expect(part(page, "summary")).to_have_text("No match")
    expect(page.get_by_test_id("live")).to_contain_text(_NOTHING)
    expect(hits(page)).to_have_count(0)
    assert query(page) == {"q": "a submarine"}
    page.mouse.wheel(0, 4000)
    expect(part(page, "more")).to_be_hidden()
    expect(hits(page)).to_have_count(0)

    # With the keyboard, the focus moves to the hits.
    part(page, "show-nearest").press("Enter")
    expect(hits(page).first.get_by_test_id("hit-link")).to_be_focused()
    expect(notice).to_be_hidden()
    expect(part(page, "caution")).to_contain_text(f"{_NOTHING} These are the nearest.")
    assert query(page) == {"q": "a submarine", "nearest": "true"}
    assert len(scroll_through(page)) > 60

    # A photograph of them opens, and the browser's back leads through all of it.
    page.keyboard.press("Home")
    hits(page).first.click()
    expect(part(page, "relevance")).to_contain_text("Hardly what you asked for")
    page.go_back()
    expect(part(page, "viewer")).to_be_hidden()
    expect(part(page, "caution")).to_be_visible()
    page.go_back()
    expect(notice).to_contain_text(_NOTHING)
    expect(part(page, "caution")).to_be_hidden()
    page.go_forward()
    expect(hits(page).first).to_be_visible()
    part(page, "hide-nearest").click()
    expect(part(page, "show-nearest")).to_be_focused()
    assert query(page) == {"q": "a submarine"}


def test_nearest_to_an_image_show_a_caution(visit: Visits, server: Server) -> None:
    with Client(server.url) as client:
        first = next(iter(client.assets.iterate()))
        assert not client.search(terms=[{"like": first.id}]).matched
    nothing = "Nothing here is likely to show the same thing. These are the nearest."
    for asked in (f"like={first.id}", f"q=like:{first.id}"):
        page = visit(f"{server.url}/?{asked}")
        expect(hits(page).first).to_be_visible()
        expect(part(page, "caution")).to_have_text(nothing)
        expect(part(page, "hide-nearest")).to_have_count(0)
        expect(part(page, "notice")).to_be_hidden()


def test_links_show_the_same_results(visit: Visits, server: Server) -> None:
    page = visit(f"{server.url}/?q=a+submarine&nearest=true")
    expect(part(page, "caution")).to_be_visible()
    expect(hits(page).first).to_be_visible()
    # Another search is another question.
    ask(page, "a lighthouse")
    expect(part(page, "notice")).to_contain_text("Nothing here matches “a lighthouse”.")
    assert query(page) == {"q": "a lighthouse"}
    search(page, "purple")
    expect_first(page, "purple.png")
    expect(part(page, "caution")).to_be_hidden()


def test_hits_show_their_relevance(visit: Visits, server: Server) -> None:
    with Client(server.url) as client:
        found = client.search("yellow", limit=60).hits
    relevances = {hit.asset.file_name: hit.relevance for hit in found}
    likely, unlikely = relevances["yellow.png"], relevances[QUARTERED]
    assert likely is not None
    assert unlikely is not None
    assert likely > 0.9 > 0.5 > unlikely

    page = visit(server.url)
    search(page, "yellow")
    expect_first(page, "yellow.png")
    for name, relevance, word in (
        ("yellow.png", likely, "Surely"),
        (QUARTERED, unlikely, "Perhaps" if unlikely >= 0.3 else "Hardly"),
    ):
        percent = f"{min(99, max(1, round(relevance * 100)))}%"
        tile = picture(page, name)
        tile.hover()
        expect(part(tile, "tile-why")).to_have_text(f"{word} · {percent}")
        part(tile, "tile-why").hover()
        expect(part(page, "why")).to_contain_text(f"{word} what you asked for{percent}")
        described = tile.get_by_test_id("hit-link").get_attribute("aria-describedby")
        expect(page.locator(f"#{described}")).to_contain_text(
            f"{word} what you asked for, {percent}."
        )
    # What is hardly right stands under a heading that says so.
    possible = [hit.relevance is not None and hit.relevance >= 0.3 for hit in found]
    above = page.evaluate(
        """() => [...document.querySelector("#grid").children]
          .findIndex((each) => each.textContent === "Less likely")"""
    )
    assert above == len(possible) - possible[::-1].index(True)
    # Only what is likely right is outlined as if it were.
    strong = re.compile("is-strong")
    expect(picture(page, "yellow.png").locator(".outline")).to_have_class(strong)
    expect(picture(page, QUARTERED).locator(".outline")).not_to_have_class(strong)

    # Where nothing hovers, how likely it is is there to be seen, and a tap on it says why.
    phone = visit(page.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    word = part(picture(phone, "yellow.png"), "tile-why")
    expect(word).to_have_css("opacity", "1")
    word.tap()
    expect(part(phone, "why")).to_contain_text("Whole picture")
    expect(part(phone, "viewer")).to_be_hidden()


def test_score_contributions_add_up(visit: Visits, server: Server) -> None:
    with Client(server.url) as client:
        hit = client.search("purple", limit=1).hits[0]
    page = visit(server.url)
    search(page, "purple")
    hits(page).first.click()
    reasons = part(page, "viewer-why").get_by_test_id("reason")
    expect(reasons).to_have_count(len(hit.channels))
    for channel in hit.channels:
        reason = part(page, "viewer-why").locator(f'[data-kind="{channel.kind}"]')
        share = round(channel.contribution / hit.score * 100)
        expect(reason.locator(".reason-place")).to_have_text(f"no. {channel.rank}")
        expect(reason.locator(".reason-share")).to_have_text(f"{share}%")


def test_search_help_is_complete(visit: Visits, server: Server) -> None:
    page = visit(server.url)
    expect(hits(page).first).to_be_visible()
    field = part(page, "q")
    fits = """async (field) => {
      // The page chooses the words in the frame after its size has changed.
      for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
      const style = getComputedStyle(field);
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = style.font;
      const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      return [field.placeholder, pen.measureText(field.placeholder).width <= room];
    }"""
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 700})
        placeholder, is_whole = field.evaluate(fits)
        assert is_whole, (width, placeholder)
    search(page, "red")
    hits(page).first.hover()
    part(hits(page).first, "hit-similar").click()
    expect(part(page, "like-token")).to_be_visible()
    expect(field).to_have_attribute("placeholder", re.compile("^Add words"))
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 700})
        placeholder, is_whole = field.evaluate(fits)
        assert is_whole, (width, placeholder)
