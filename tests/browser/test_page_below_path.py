"""The page below a sub-path of a proxy: every request and every link stays there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from gallery import save
from made_library import Library
from made_proxy import Proxy
from made_server import Server
from page_parts import expect_first, hits, part, search, wait_until
from PIL import Image
from playwright.sync_api import Page, expect
from visits import Visits

pytestmark = pytest.mark.slow

_LOADED = "images => images.every(image => image.complete && image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def proxy(gallery: Library) -> Iterator[Proxy]:
    with (
        Server(gallery.home, "--root-path", "/my/photos") as server,
        Proxy(server.url, "/my/photos", keep=False) as running,
    ):
        yield running


def test_the_page_works_below_a_sub_path(
    visit: Visits, proxy: Proxy, shoot: Callable[[Page, str], None], tmp_path: Path
) -> None:
    page = visit(f"{proxy.url}/")
    images = page.locator("#grid img")
    expect(hits(page).first).to_be_visible()
    search(page, "red")
    expect_first(page, "red.png")
    assert page.url.startswith(f"{proxy.url}/?")
    wait_until(page, lambda: images.first.evaluate(f"image => ({_LOADED})([image])"))
    shoot(page, "sub-path")
    hits(page).first.click()
    expect(part(page, "regions")).to_be_visible()
    expect(page.locator(".stage-frame.is-sharp")).to_be_visible()
    page.reload()
    expect(part(page, "regions")).to_be_visible()
    part(page, "viewer-close").click()

    part(page, "upload-open").click()
    sent = save(tmp_path / "new.png", ["orange"], 7)
    part(page, "upload-input").set_input_files(sent)
    part(page, "upload-start").click()
    expect(part(page, "upload-state")).to_have_text("1 stored")
    part(page, "upload-done").click()
    part(page, "brand").click()
    page.wait_for_url(f"{proxy.url}/")
    assert proxy.outside == []


def test_the_page_can_be_installed_below_a_sub_path(visit: Visits, proxy: Proxy) -> None:
    page = visit(f"{proxy.url}/", color_scheme="dark")
    expect(hits(page).first).to_be_visible()
    session = page.context.new_cdp_session(page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    # The pages of tests are in private windows, which install nothing.
    errors = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert {error["errorId"] for error in errors} <= {"in-incognito"}
    assert manifest["manifest"]["startUrl"] == manifest["manifest"]["scope"] == f"{proxy.url}/"
    for icon in json.loads(manifest["data"])["icons"]:
        answer = page.request.get(urljoin(manifest["url"], icon["src"]))
        assert answer.ok
        assert answer.headers["content-type"] == icon["type"]
        if icon["type"] == "image/png":
            width, height = Image.open(io.BytesIO(answer.body())).size
            assert icon["sizes"] == f"{width}x{height}"
    # The browser's bars have the colour of the page in each theme.
    colour = page.locator('meta[name="theme-color"]')
    expect(colour).to_have_attribute("content", "#121211")
    part(page, "menu").click()
    part(page, "menu-theme").click()
    expect(colour).to_have_attribute("content", "#fbfbf9")
    assert proxy.outside == []
