"""The page below a sub-path of a proxy: every request and every link stays there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gallery import save
from made_library import Library
from made_proxy import Proxy
from made_server import Server
from page_parts import expect_first, hits, part, search, wait_until
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
