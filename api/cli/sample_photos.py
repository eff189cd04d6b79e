"""Photographs that an installed package carries, gathered for the demo."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from regard.core.errors import MissingDependency

# The photographs among scikit-image's sample images: no diagrams, microscopy or test patterns. Its
# documentation (`skimage.data`) names the source of each and, for most, the licence.
_SAMPLES = {
    "astronaut.png": "astronaut.png",
    "brick.png": "brick-wall.png",
    "camera.png": "photographer.png",
    "chelsea.png": "cat.png",
    "coffee.png": "coffee.png",
    "coins.png": "coins.png",
    "grass.png": "grass.png",
    "gravel.png": "gravel.png",
    "hubble_deep_field.jpg": "galaxies.jpg",
    "moon.png": "moon.png",
    "motorcycle_left.png": "motorcycle-left.png",
    "motorcycle_right.png": "motorcycle-right.png",
    "rocket.jpg": "rocket.jpg",
}


def gather_sample_photos(folder: Path) -> int:
    """Copy the samples that are installed into a folder; the number there.

    Raises MissingDependency when there are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.find_spec("skimage")
    data = None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"
    count = 0
    for name, target in _SAMPLES.items():
        if data is not None and (data / name).is_file():
            if not (folder / target).exists():
                shutil.copyfile(data / name, folder / target)
            count += 1
    if not count:
        raise MissingDependency(
            "scikit-image and its sample photographs are not installed",
            remedy="run: pip install scikit-image",
        )
    return count
