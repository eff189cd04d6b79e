"""Photographs that every machine has: scikit-image's samples."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from regard.core.records import Image


@pytest.fixture(scope="session")
def sample_images() -> list[Image]:
    """Photographs of several shapes: 600 × 400, 512 × 512, 640 × 427, 451 × 300, and a tall
    crop."""
    coffee, rocket = skimage.data.coffee(), skimage.data.rocket()
    shown = [coffee, skimage.data.astronaut(), rocket, skimage.data.cat(), rocket[:, 250:340]]
    return [Image(np.ascontiguousarray(pixels)) for pixels in shown]
