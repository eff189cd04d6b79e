"""Uploading, naming, tagging, deleting and bringing back: all that a person changes by the
page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gallery import save
from made_library import Library
from made_server import Server
from page_parts import drop, expect_first, hits, part, picture, query, search, shown, wait_until
from playwright.sync_api import Page, expect
from visits import Visits

from regard.api.client import Client

pytestmark = pytest.mark.slow

Shoot = Callable[[Page, str], None]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Four small pictures, for one test to change."""
    made = Library(tmp_path)
    for seed, name in enumerate(("red", "green", "blue", "yellow")):
        save(made.photos / f"{name}.png", [name], seed)
    made.index()
    return made


# Tests name it before `visit`: their pages are closed before it ends.
@pytest.fixture
def server(library: Library) -> Iterator[Server]:
    with Server(library.home) as running:
        yield running


def test_uploads_show_progress_and_are_found(
    server: Server, visit: Visits, tmp_path: Path, shoot: Shoot
) -> None:
    page = visit(server.url, expected=["status of 415"])
    expect(hits(page)).to_have_count(4)
    # Noise, so that they are large enough for their sending to be seen.
    large = [save(tmp_path / f"purple-{n}.png", ["purple"], n, (400, 300), 40) for n in range(3)]
    broken = tmp_path / "notes.jpg"
    broken.write_bytes(b"This is not a picture.")
    session = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 500_000}
    session.send("Network.emulateNetworkConditions", slow)

    part(page, "upload-open").click()
    part(page, "upload-collection").fill("flowers")
    part(page, "upload-tags").fill("violet, garden")
    part(page, "upload-input").set_input_files([broken, *large])
    expect(page.get_by_test_id("upload-file")).to_have_count(4)
    part(page, "upload-start").click()

    # Each file's own progress, and that of all: somewhere between nothing and everything.
    part_way = "bars => bars.some(bar => !bar.hidden && bar.value > 0.05 && bar.value < 0.95)"
    for bar in ("[data-testid=upload-progress]", "[data-testid=upload-file] progress"):
        wait_until(page, lambda bar=bar: page.locator(bar).evaluate_all(part_way))
    expect(part(page, "upload-state")).to_have_text(re.compile(r"[123] of 4 sent"))
    shoot(page, "upload-under-way")
    expect(part(page, "upload-state")).to_have_text("3 stored, 1 refused")
    refused = page.locator('[data-testid=upload-file][data-state="refused"]')
    expect(refused).to_have_count(1)
    expect(refused).to_contain_text(re.compile("notes.jpg.*Refused: .{10,}"))
    expect(part(page, "upload-indexing")).to_contain_text("3 photos done")
    shoot(page, "upload-done")
    part(page, "upload-done").click()
    expect(part(page, "upload")).to_be_hidden()

    expect(hits(page)).to_have_count(7)
    expect(page.get_by_test_id("pending")).to_have_count(0)
    search(page, "purple")
    expect(hits(page)).to_have_count(7)
    assert {name[:6] for name in shown(page)[:3]} == {"purple"}
    with Client(server.url) as client:
        uploaded = [
            asset for asset in client.assets.iterate() if asset.collection.name == "flowers"
        ]
    assert [sorted(asset.tags) for asset in uploaded] == [["garden", "violet"]] * 3

    # The job is told of afterwards, too.
    part(page, "jobs-open").click()
    expect(part(page, "job")).to_contain_text("Done")


def test_dropped_files_are_uploaded_and_existing_ones_reported(
    server: Server, visit: Visits, library: Library, tmp_path: Path
) -> None:
    page = visit(server.url)
    expect(hits(page)).to_have_count(4)
    drop(page, "upload", [library.photos / "red.png", save(tmp_path / "new.png", ["orange"], 9)])
    expect(page.get_by_test_id("upload-file")).to_have_count(2)
    part(page, "upload-start").press("Enter")
    expect(part(page, "upload-state")).to_have_text("1 stored, 1 there already")
    expect(part(page, "upload-indexing")).to_contain_text("1 photo done")
    page.keyboard.press("Escape")
    expect(hits(page)).to_have_count(5)
    search(page, "orange")
    expect_first(page, "new.png")


def test_a_title_and_tags_are_edited(server: Server, visit: Visits, shoot: Shoot) -> None:
    page = visit(server.url)
    picture(page, "red.png").click()
    part(page, "title-edit").click()
    part(page, "title-input").fill("The barn")
    page.keyboard.press("Enter")
    expect(part(page, "viewer-title")).to_have_text("The barn")

    tags = page.get_by_test_id("tag")
    part(page, "tag-input").fill("farm, evening ,farm")
    page.keyboard.press("Enter")
    expect(tags).to_have_text(["evening", "farm"])
    part(page, "tag-input").fill("barn")
    page.keyboard.press("Enter")
    expect(tags).to_have_text(["barn", "evening", "farm"])
    page.get_by_label("Remove the tag evening").click()
    expect(tags).to_have_text(["barn", "farm"])
    shoot(page, "tags")
    page.reload()
    expect(part(page, "viewer-title")).to_have_text("The barn")
    assert sorted(tags.all_inner_texts()) == ["barn", "farm"]
    with Client(server.url) as client:
        (kept,) = (asset for asset in client.assets.iterate() if asset.title == "The barn")
    assert (kept.file_name, sorted(kept.tags)) == ("red.png", ["barn", "farm"])

    # A tag is a way to the others that have it.
    tags.get_by_text("farm").click()
    expect(page.get_by_test_id("chip")).to_contain_text("farm")
    expect(hits(page)).to_have_count(1)
    expect_first(page, "The barn")


def test_deletion_can_be_undone_or_restored_from_the_trash(
    server: Server, visit: Visits, library: Library, shoot: Shoot
) -> None:
    page = visit(server.url)
    expect(hits(page)).to_have_count(4)
    before = shown(page)
    hits(page).nth(1).click()
    expect(part(page, "viewer-title")).to_have_text(before[1])
    part(page, "delete").click()
    # The next one is shown then.
    expect(part(page, "viewer-title")).to_have_text(before[2])
    expect(part(page, "toast")).to_contain_text(f"Moved {before[1]} to the trash.")
    shoot(page, "deleted")
    part(page, "toast-action").click()
    part(page, "viewer-close").click()
    expect(hits(page)).to_have_count(4)
    assert shown(page) == before

    hits(page).nth(1).click()
    part(page, "delete").click()
    expect(part(page, "viewer-title")).to_have_text(before[2])
    page.keyboard.press("Escape")
    expect(hits(page)).to_have_count(3)
    page.reload()
    expect(hits(page)).to_have_count(3)
    search(page, before[1].removesuffix(".png"))
    assert before[1] not in shown(page)

    part(page, "menu").click()
    part(page, "menu-trash").click()
    expect(hits(page)).to_have_count(1)
    shoot(page, "trash")
    hits(page).first.click()
    part(page, "restore").click()
    expect(part(page, "notice")).to_contain_text("The trash is empty")
    part(page, "brand").click()
    expect(hits(page)).to_have_count(4)
    assert (library.photos / before[1]).is_file()


def test_several_photos_are_tagged_deleted_and_restored_together(
    server: Server, visit: Visits, library: Library, shoot: Shoot
) -> None:
    page = visit(server.url)
    expect(hits(page)).to_have_count(4)
    part(page, "select-mode").click()
    for name in ("red.png", "blue.png"):
        picture(page, name).click()
    expect(part(page, "selection-count")).to_have_text("2 selected")
    part(page, "bulk-tag").fill("boats")
    page.keyboard.press("Enter")
    expect(part(page, "toast")).to_contain_text("Added “boats” to 2 photos.")
    with Client(server.url) as client:
        tagged = {asset.file_name for asset in client.assets.iterate() if asset.tags == ["boats"]}
    assert tagged == {"red.png", "blue.png"}
    shoot(page, "several-selected")

    part(page, "bulk-album").fill('The "best"')
    page.keyboard.press("Enter")
    expect(part(page, "toast").last).to_contain_text('Added 2 photos to “The "best"”.')
    part(page, "toast-action").last.click()
    expect(hits(page)).to_have_count(2)
    assert query(page) == {"q": r'album:"The \"best\""'}
    part(page, "select-mode").click()
    picture(page, "red.png").click()
    part(page, "bulk-album").fill('The "best"')
    part(page, "bulk-album-remove").click()
    expect(part(page, "toast").last).to_contain_text("Took 1 photo out")
    with Client(server.url) as client:
        assert [album.assets for album in client.albums.iterate()] == [1]
    page.keyboard.press("Escape")
    page.goto(server.url)
    expect(hits(page)).to_have_count(4)
    part(page, "select-mode").click()
    for name in ("red.png", "blue.png"):
        picture(page, name).click()

    part(page, "bulk-delete").click()
    expect(hits(page)).to_have_count(2)
    page.get_by_test_id("toast-action").last.click()
    expect(hits(page)).to_have_count(4)
    part(page, "select-mode").click()
    part(page, "select-all").click()
    part(page, "bulk-delete").click()
    expect(part(page, "notice")).to_contain_text("Your library is empty")

    part(page, "menu").click()
    part(page, "menu-trash").click()
    expect(hits(page)).to_have_count(4)
    page.on("dialog", lambda dialog: dialog.accept())
    part(page, "empty-trash").click()
    expect(part(page, "notice")).to_contain_text("The trash is empty")
    # The files were indexed where they lie, and are not the library's to remove.
    assert len(list(library.photos.iterdir())) == 4
