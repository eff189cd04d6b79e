"""The page in a real browser: headless Chromium, driven by Playwright, over real servers."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gallery import make_gallery
from made_library import Library
from made_server import Server
from playwright.sync_api import Browser, Page, expect, sync_playwright
from visits import TIMEOUT_MS, Visits

_CHROMIUM = Path("/usr/bin/chromium")
# Playwright's own list, which this one replaces, has more that matters only in other builds. The
# two of WebUI are of the address bar, which loads a page of its own for each window otherwise.
_NO_FEATURES = (
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "OptimizationHints",
    "PaintHolding",
    "SpareRendererForSitePerProcess",
    "ThirdPartyStoragePartitioning",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxPopup",
)
_FLAGS = (
    f"--disable-features={','.join(_NO_FEATURES)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-smooth-scrolling",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)
_REPOSITORY = Path(__file__).resolve().parents[2]
expect.set_options(timeout=TIMEOUT_MS)


_ARTIFACTS = os.environ.get("REGARD_TEST_ARTIFACTS")


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots are kept."""
    folder = Path(_ARTIFACTS or _REPOSITORY / "tests-output")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def more_flags() -> Sequence[str]:
    """Further flags of the browser; a module that needs some has a fixture of this name."""
    return ()


# For a module each, not for the session: while Playwright is started, its event loop counts as
# running in this thread, and tests elsewhere could start none.
@pytest.fixture(scope="module")
def browser(more_flags: Sequence[str]) -> Iterator[Browser]:
    if not _CHROMIUM.is_file():
        pytest.skip(f"there is no {_CHROMIUM}; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=_CHROMIUM, args=[*_FLAGS, *more_flags], timeout=2 * TIMEOUT_MS
        )
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, artifacts: Path, request: pytest.FixtureRequest) -> Iterator[Visits]:
    visits = Visits(browser)
    failed_before = request.session.testsfailed
    yield visits
    if request.session.testsfailed > failed_before:
        for number, page in enumerate(visits.pages):
            page.screenshot(path=artifacts / f"failed-{_file_name(request.node.name)}-{number}.png")
    visits.close()
    assert not visits.problems, "\n".join(visits.problems)


@pytest.fixture
def shoot(artifacts: Path) -> Callable[..., None]:
    """`shoot(page, file)` keeps a screenshot, if `REGARD_TEST_ARTIFACTS` names a folder for them;
    PNG without a suffix."""

    def take(page: Page, file: str, **options: Any) -> None:
        if _ARTIFACTS:
            name = file if Path(file).suffix else f"{file}.png"
            page.screenshot(path=artifacts / name, **options)

    return take


def _file_name(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", text).strip("-")


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Painted pictures, indexed once; see `gallery.py`. Tests take `gallery`, which they may
    change."""
    return make_gallery(tmp_path_factory.mktemp("painted"))


@pytest.fixture(scope="module")
def gallery(painted: Library, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The painted pictures where they lie, and a copy of their home."""
    library = Library(tmp_path_factory.mktemp("gallery"))
    library.photos = painted.photos
    shutil.copytree(painted.home, library.home)
    return library


@pytest.fixture(scope="module")
def server(gallery: Library) -> Iterator[Server]:
    with Server(gallery.home) as running:
        yield running
