"""The page of a server that wants keys: signing in, images by the cookie, what a key may, signing
out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from gallery import save
from made_library import Library, painted
from made_server import Server
from made_videos import write_video
from page_parts import (
    expect_first,
    expect_no_violation,
    expect_value,
    hits,
    part,
    search,
    wait_until,
)
from playwright.sync_api import Page, expect
from visits import Visits

pytestmark = pytest.mark.slow

_NAME = "photos.test"
# The second: over plain HTTP a browser passes this header over, and says so.
_EXPECTED = ("status of 401", "Cross-Origin-Opener-Policy header has been ignored")


@pytest.fixture(scope="module")
def more_flags() -> Sequence[str]:
    return (f"--host-resolver-rules=MAP {_NAME} 127.0.0.1",)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("keys"))
    for seed, name in enumerate(("red", "green")):
        save(made.photos / f"{name}.png", [name], seed)
    made.index()
    return made


@pytest.fixture(scope="module")
def keys(library: Library) -> dict[str, str]:
    """A key of each scope."""
    made = {}
    for scope in ("read", "write"):
        outcome = library.run("keys", "create", scope, "--scope", scope)
        assert outcome.code == 0, outcome
        made[scope] = outcome.out.decode().strip()
    return made


@pytest.fixture(scope="module")
def url(library: Library, keys: dict[str, str]) -> Iterator[str]:
    with Server(library.home, "--allow-host", _NAME, roots={"photos": library.photos}) as running:
        yield running.url.replace("127.0.0.1", _NAME)


def _sign_in(page: Page, key: str) -> None:
    part(page, "key").fill(key)
    part(page, "sign-in").click()


def test_signing_in_shows_the_page_and_its_images(
    visit: Visits,
    url: str,
    keys: dict[str, str],
    shoot: Callable[[Page, str], None],
) -> None:
    page = visit(url, expected=_EXPECTED)
    expect(part(page, "sign-in-dialog")).to_be_visible()
    expect(part(page, "key")).to_be_focused()
    assert page.get_by_test_id("sign-in-dialog").count() == 1
    expect_no_violation(page, "sign-in")
    shoot(page, "sign-in")
    _sign_in(page, "no-such-key")
    expect(part(page, "sign-in-dialog").get_by_role("alert")).not_to_be_empty()
    expect_no_violation(page, "sign-in, refused")
    shoot(page, "sign-in-refused")
    _sign_in(page, keys["write"])
    expect(page.get_by_test_id("sign-in-dialog")).to_have_count(0)

    expect(hits(page)).to_have_count(2)
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    wait_until(page, lambda: page.locator("#grid img").evaluate_all(loaded))
    search(page, "green")
    expect_first(page, "green.png")
    expect(part(page, "upload-open")).to_be_visible()

    # By the cookie, which no script can read, and by nothing else.
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert keys["write"] not in page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}])"
    )
    thumbnail = hits(page).first.locator("img").get_attribute("src")
    direct = httpx.get(f"{url}{thumbnail}".replace(_NAME, "127.0.0.1"), trust_env=False)
    assert direct.status_code == 401

    page.reload()
    expect_first(page, "green.png")
    part(page, "menu").click()
    part(page, "menu-sign-out").click()
    expect(part(page, "sign-in-dialog")).to_be_visible()
    assert page.context.cookies() == []


def test_read_keys_see_no_editing_controls(visit: Visits, url: str, keys: dict[str, str]) -> None:
    page = visit(url, expected=_EXPECTED)
    _sign_in(page, keys["read"])
    expect(hits(page)).to_have_count(2)
    expect(part(page, "upload-open")).to_be_hidden()
    hits(page).first.click()
    expect(part(page, "similar")).to_be_visible()
    for name in ("delete", "title-edit", "tag-input"):
        expect(page.get_by_test_id(name)).to_have_count(0)


def test_ended_sessions_ask_for_a_key_and_continue(
    visit: Visits, url: str, keys: dict[str, str]
) -> None:
    page = visit(url, expected=_EXPECTED)
    # The last request that the page makes on its own.
    with page.expect_response("**/v1/jobs?*"):
        _sign_in(page, keys["write"])
    expect(hits(page)).to_have_count(2)
    page.context.clear_cookies()
    # What the page asks on its own while a person types must not stop them.
    with page.expect_response("**/v1/suggestions?*"):
        part(page, "q").fill("red")
    part(page, "q").press("Enter")
    expect(part(page, "sign-in-dialog")).to_be_visible()
    _sign_in(page, keys["write"])
    expect_first(page, "red.png")

    # An open photograph is shown again, with what the new key may do.
    hits(page).first.click()
    expect(part(page, "delete")).to_be_visible()
    expect(part(page, "title-edit")).to_be_visible()
    page.context.clear_cookies()
    page.keyboard.press("ArrowRight")
    expect(part(page, "sign-in-dialog")).to_be_visible()
    _sign_in(page, keys["read"])
    expect(part(page, "viewer-title")).to_have_text("green.png")
    is_seen = "image => image.complete && image.naturalWidth > 0"
    wait_until(page, lambda: part(page, "viewer-image").evaluate(is_seen))
    expect(part(page, "viewer-image")).to_be_visible()
    for name in ("delete", "title-edit", "tag-input"):
        expect(page.get_by_test_id(name)).to_have_count(0)
    expect(part(page, "upload-open")).to_be_hidden()


def test_a_video_goes_on_after_its_session_ended(visit: Visits, tmp_path: Path) -> None:
    library = Library(tmp_path)
    size = (480, 320)
    write_video(library.photos / "clip.webm", [(painted(("blue",), 1, size), 4.0)], size=size)
    library.index()
    key = library.run("keys", "create", "read", "--scope", "read").out.decode().strip()
    with Server(library.home, "--allow-host", _NAME, roots={"photos": library.photos}) as running:
        page = visit(running.url.replace("127.0.0.1", _NAME), expected=_EXPECTED)
        # The last request that the page makes on its own.
        with page.expect_response("**/v1/jobs?*"):
            _sign_in(page, key)
        expect(hits(page)).to_have_count(1)
        page.context.clear_cookies()
        hits(page).first.locator("a[data-testid=hit-link]").click()
        expect(part(page, "sign-in-dialog")).to_be_visible()
        _sign_in(page, key)
        expect_value(page, "document.querySelector('video').readyState >= 2", True)
        expect(part(page, "player")).to_be_visible()
        expect(part(page, "unplayed")).to_be_hidden()
