"""Draw the PNG icons of the installed page from its SVG: `python tests/browser/make_icons.py`."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

_ICONS = Path(__file__).resolve().parents[2] / "api/web/icons"
_COLOURS = 32
# Name, side in pixels, and whether the ground reaches into the corners, which a system then cuts.
_WANTED = (
    ("regard-192.png", 192, False),
    ("regard-512.png", 512, False),
    ("regard-maskable-512.png", 512, True),
    ("regard-touch-180.png", 180, True),
)


def main() -> None:
    """Draw them all."""
    drawing = (_ICONS / "regard.svg").read_text("utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for name, side, is_full in _WANTED:
            page = browser.new_page(viewport={"width": side, "height": side})
            icon = drawing.replace(' rx="8"', "") if is_full else drawing
            page.set_content(f"<style>body {{ margin: 0 }} svg {{ display: block }}</style>{icon}")
            picture = Image.open(io.BytesIO(page.screenshot(omit_background=True)))
            flat = picture.quantize(_COLOURS, Image.Quantize.FASTOCTREE)
            flat.save(_ICONS / name, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
