"""Photographs of one coloured block on grey, for searches that refine hits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from made_library import COLOURS, Library

SIZE = (120, 80)
# x, y, width and height of the block, which no quadrant is.
PLACE = [30, 20, 40, 30]


def make_blocks(folder: Path, red: int) -> Library:
    """So many photographs of a red block and one of a green one, indexed."""
    made = Library(folder)
    for number in range(red):
        write_block(made.photos / f"red-{number:02}.png", "red", number)
    write_block(made.photos / "green.png", "green", 0)
    made.index()
    return made


def write_block(path: Path, colour: str, seed: int) -> None:
    """A block of a colour at `PLACE`; the seed makes the file unlike others."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    x, y, width, height = PLACE
    pixels[y : y + height, x : x + width] = COLOURS[colour]
    pixels[0, 0] = seed
    PIL.Image.fromarray(pixels).save(path)
