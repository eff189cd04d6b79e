"""Where things are on the page, and what people do there that takes a browser several steps."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Locator, Page, expect
from visits import TIMEOUT_MS

_VIOLATIONS = """async () => {
  const { violations } = await axe.run({ resultTypes: ["violations"] });
  return violations
    .map(({ id, help, nodes }) => [id, help, nodes.map((node) => [node.target, node.failureSummary])]);
}"""
# Positions and names of the tiles; null while the window is not full of photographs.
_POSITIONS = """() => {
  const tiles = [...document.querySelectorAll("#grid > .tile")];
  const images = tiles.map((tile) => tile.querySelector("img"));
  if (!tiles.length || document.querySelector("#grid > .blank") || images.includes(null)) return null;
  // The page may not have laid out what it was just scrolled to.
  const [first, last] = [tiles.at(0), tiles.at(-1)];
  const begins = first.ariaPosInSet === "1" || first.getBoundingClientRect().top <= 0;
  const ends = last.ariaPosInSet === last.ariaSetSize || last.getBoundingClientRect().bottom >= innerHeight;
  if (!begins || !ends) return null;
  return tiles.map((tile, place) => [tile.ariaPosInSet, images[place].alt.split(": ")[0]]);
}"""
# Returns whether that was the end.
_SCROLL_ON = """async () => {
  const before = scrollY;
  scrollBy(0, innerHeight + 300);
  // The page hears of it in the next frame.
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  return scrollY === before && document.querySelector("#tail").hidden;
}"""


def part(page: Page | Locator, name: str) -> Locator:
    """A part by its test id, the first where there are several."""
    return page.get_by_test_id(name).first


def hits(page: Page) -> Locator:
    return page.get_by_test_id("hit")


def picture(page: Page, name: str) -> Locator:
    """The tile of a photograph, by its name."""
    return hits(page).filter(has=page.locator(f'img[alt^="{name}"]')).first


def expect_first(page: Page, *names: str) -> None:
    """Wait until the results begin with these photographs."""
    for position, name in enumerate(names):
        image = hits(page).nth(position).locator("img")
        expect(image).to_have_attribute("alt", _beginning_with(name))


def shown(page: Page) -> list[str]:
    """The names in the results, in order."""
    alts = hits(page).locator("img").evaluate_all("images => images.map(image => image.alt)")
    return [alt.split(": ")[0] for alt in alts]


def scroll_through(page: Page) -> list[str]:
    """Scroll down screen by screen to the end; the names of all results, in order."""
    passed: dict[int, str] = {}

    def take_positions() -> bool:
        positions = page.evaluate(_POSITIONS)
        passed.update({int(position): name for position, name in positions or ()})
        return positions is not None

    while True:
        wait_until(page, take_positions)
        if page.evaluate(_SCROLL_ON):
            break
    assert sorted(passed) == [*range(1, len(passed) + 1)]
    return [passed[position] for position in sorted(passed)]


def search(page: Page, words: str) -> None:
    part(page, "q").fill(words)
    part(page, "q").press("Enter")
    expect(part(page, "summary")).to_contain_text("closest")


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait for what Playwright can't; the page's content policy forbids what it would do for
    scripts."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        page.wait_for_timeout(50)


def query(page: Page) -> dict[str, str]:
    """What the page's address says."""
    return {name: ",".join(values) for name, values in parse_qs(urlsplit(page.url).query).items()}


def drop(page: Page, zone: str, files: Sequence[Path]) -> None:
    """Drag files over the page and let them fall on one of the two places that it offers.

    The browser itself makes the events, as for a drag from a file manager.
    """
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}

    def drag(kind: str, x: float, y: float) -> None:
        session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

    drag("dragEnter", 5, 300)
    drag("dragOver", 5, 300)
    place = part(page, f"drop-{zone}")
    expect(place).to_be_visible()
    box = place.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    drag("dragOver", *middle)
    drag("drop", *middle)
    session.detach()


def expect_no_violation(page: Page, where: str) -> None:
    """axe-core finds nothing there, of any impact."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE_SCRIPT)
    violations = page.evaluate(_VIOLATIONS)
    assert not violations, f"{where}: {json.dumps(violations, indent=1)}"


def _beginning_with(name: str) -> re.Pattern[str]:
    return re.compile(rf"^{re.escape(name)}(: |$)")


def expect_value(page: Page, script: str, expected: object) -> None:
    """Wait until a script gives the expected value; fails with the one that it gave last."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while (value := page.evaluate(script)) != expected and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert value == expected
