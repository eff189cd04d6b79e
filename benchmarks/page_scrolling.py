"""Measure the web page over a library: `python benchmarks/page_scrolling.py HOME [--steps N]`.

A headless Chromium scrolls with the wheel, jumps by the date scrubber and returns from a
photograph. It prints as JSON: elements of the document at most, gaps between frames, processor
time of the page's main thread a step, and seconds of jumps and returns. Gaps mean something on a
quiet machine only: pictures are drawn by the same processors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from size_measuring import serving

_CHROMIUM = "/usr/bin/chromium"
_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server")
_WATCH = """() => {
  window.gaps = [];
  window.most = 0;
  let last = performance.now();
  const tick = (now) => {
    gaps.push(now - last);
    last = now;
    most = Math.max(most, document.querySelectorAll("*").length);
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""
# Photographs are in sight, and nothing that is not loaded.
_IS_SETTLED = """() => {
  const isInSight = (each) => {
    const { top, bottom } = each.getBoundingClientRect();
    return bottom > document.querySelector(".top").offsetHeight && top < innerHeight;
  };
  const inSight = [...document.querySelectorAll("#grid > li")].filter(isInSight);
  return inSight.some((each) => each.matches(".tile")) && !inSight.some((each) => each.matches(".blank"));
}"""


def _seconds(page: Page, act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    page.wait_for_function(_IS_SETTLED)
    return round(time.perf_counter() - started, 3)


def _measure(page: Page, steps: int) -> dict[str, object]:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    page.wait_for_function(_IS_SETTLED)
    page.evaluate(_WATCH)
    page.mouse.move(400, 400)
    costs = []
    for _ in range(steps):
        before = spent()
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(50)
        costs.append((spent() - before) * 1000)
    gaps = page.evaluate("gaps")

    scrubber = page.get_by_test_id("scrubber")
    jumps = []
    for share in (0.9, 0.1, 0.5, 0.3, 0.7, 1.0, 0.2, 0.6):
        y = 80 + share * 700
        jumps.append(_seconds(page, lambda y=y: page.mouse.click(1250, y)))  # type: ignore[misc]
    scrubber.press("Home")

    tile = page.get_by_test_id("hit-link").first
    returns = []
    for _ in range(5):
        tile.press("Enter")
        page.get_by_test_id("viewer-close").wait_for()
        returns.append(_seconds(page, lambda: page.keyboard.press("Escape")))
    return {
        "photographs": page.get_by_test_id("summary").inner_text(),
        "elements": page.evaluate("most"),
        "frame_gap_ms": {"p50": round(statistics.median(gaps), 1), "longest": round(max(gaps), 1)},
        "main_thread_ms_a_step": {
            "p50": round(statistics.median(costs), 1),
            "longest": round(max(costs), 1),
        },
        "jump_seconds": {"p50": statistics.median(jumps), "longest": max(jumps)},
        "return_seconds": {"p50": statistics.median(returns), "longest": max(returns)},
    }


def main() -> None:
    """Serve the home and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path, metavar="HOME")
    parser.add_argument("--steps", type=int, default=100, help="of the wheel, 400 pixels each")
    given = parser.parse_args()
    with serving(given.home, "a red bus") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=[*_FLAGS])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(server.url)
        print(json.dumps(_measure(page, given.steps), indent=2))
        browser.close()


if __name__ == "__main__":
    main()
