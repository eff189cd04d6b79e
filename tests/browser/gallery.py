"""A library whose right answers are plain: the fake models see colours, and these pictures have
few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_library import Library
from PIL import Image

_COLOURS = {
    "red": (220, 30, 30),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (240, 220, 50),
    "purple": (130, 50, 160),
    "orange": (240, 140, 30),
    "brown": (120, 75, 40),
    "grey": (128, 128, 128),
}
PLAIN = ("red", "green", "blue", "yellow", "purple")
QUARTERED = "quarters.png"
TALL = "tall.png"
# With these the library is longer than two pages of the grid.
_GREYS = 130
COUNT = len(PLAIN) + 2 + _GREYS
SIZE = (240, 160)


def make_gallery(folder: Path) -> Library:
    """Index one picture a colour, one of four colours, a tall one, and many grey ones."""
    library = Library(folder)
    for number, name in enumerate(PLAIN):
        save(library.photos / f"{name}.png", [name], number)
    save(library.photos / QUARTERED, ["red", "green", "blue", "yellow"], 20)
    save(library.photos / TALL, ["orange"], 21, size=(80, 200))
    for number in range(_GREYS):
        save(library.photos / f"grey-{number:03}.png", ["grey"], 100 + number, size=(24, 16))
    library.index()
    return library


def save(
    path: Path, colours: Sequence[str], seed: int, size: tuple[int, int] = SIZE, noise: int = 8
) -> Path:
    """Write a picture of one colour or, in reading order, four; the seed makes its noise
    differ."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.int16)
    for quarter in range(4):
        rows = slice(height // 2) if quarter < 2 else slice(height // 2, height)
        columns = slice(width // 2) if quarter % 2 == 0 else slice(width // 2, width)
        pixels[rows, columns] = _COLOURS[colours[quarter % len(colours)]]
    pixels += np.random.default_rng(seed).integers(-noise, noise + 1, pixels.shape, np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path
