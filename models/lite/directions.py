"""The directions that rows of `lite` are projected on, so that they have fewer numbers.

`directions.npz` holds orthonormal rows, little-endian float16: `joint` (604, 1384) for the blocks
of meanings and classes, and `visual` (256, 1280) for the classifier's features. `fit_directions`
makes the file.
"""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np

from regard.core.errors import ModelError
from regard.core.records import Float32Array

FILE = "directions.npz"
JOINT_DIRECTIONS = 604
VISUAL_DIRECTIONS = 256


@functools.cache
def joint_directions() -> Float32Array:
    """Load those of the joint space, (604, 1384); raises as `_load` does."""
    return _load("joint")


@functools.cache
def visual_directions() -> Float32Array:
    """Load those of the visual space, (256, 1280); raises as `_load` does."""
    return _load("visual")


def _load(name: str) -> Float32Array:
    """Load an array of the shipped file; raises ModelError when it is missing or damaged."""
    file = resources.files(__package__).joinpath(FILE)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return np.asarray(arrays[name], dtype=np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the lite profile's {FILE} is missing or damaged", remedy="reinstall regard"
        ) from error
