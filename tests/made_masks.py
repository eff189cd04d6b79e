"""Masks with holes and thin pieces, and what outlines of masks hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.measure import grid_points_in_poly

from regard.core.records import BoolArray, Float64Array


def holed() -> BoolArray:
    """A frame with a piece in its hole, a slanting and a level line of single pixels, a dot."""
    pixels = np.zeros((40, 60), np.bool_)
    pixels[0:20, 0:30] = True
    pixels[4:16, 5:25] = False
    pixels[8:11, 10:20] = True
    pixels[range(22, 38), range(20, 36)] = True
    pixels[39, 10:60] = True
    pixels[5, 59] = True
    return pixels


def rings_of_path(path: str) -> list[Float64Array]:
    """The rings of an SVG path in half pixels, in pixels."""
    rings = []
    for ring in path.split("z")[:-1]:
        steps = np.array([step.split(",") for step in ring[1:].replace("l", " ").split()], float)
        points = steps.cumsum(axis=0) / 2
        rings.append(np.concatenate([points, points[:1]]))
    return rings


def filled(rings: Sequence[Float64Array], shape: tuple[int, int]) -> BoolArray:
    """The pixels whose middle lies in an odd number of rings."""
    inside = np.zeros(shape, np.bool_)
    for ring in rings:
        inside ^= grid_points_in_poly(shape, ring[:, ::-1] - 0.5)
    return inside
