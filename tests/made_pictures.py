"""Pictures with enough in them to be told apart: soft blobs, edges and a gradient, from a seed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIZE = (320, 240)


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture that no other seed gives."""
    rng = np.random.default_rng(seed)
    width, height = size
    layers = []
    for _ in range(3):
        field = gaussian_filter(rng.standard_normal((height, width)), min(size) / 12)
        layers.append(field / np.abs(field).max())
    pixels = 128 + 90 * np.stack(layers, axis=2)
    for _ in range(6):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
        w, h = rng.integers(20, 70, 2)
        pixels[y : y + h, x : x + w] = rng.integers(20, 236, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def with_thing(picture: Image.Image, seed: int, side: int = 48) -> Image.Image:
    """The picture with another thing in front of it, somewhere in its middle."""
    rng = np.random.default_rng(seed)
    changed = picture.copy()
    x = int(rng.integers(picture.width // 4, picture.width // 2))
    y = int(rng.integers(picture.height // 4, picture.height // 2))
    changed.paste(scene(seed + 10_000, (side, side)), (x, y))
    return changed


def cropped(
    picture: Image.Image, left: float, top: float, right: float, bottom: float
) -> Image.Image:
    """Shares of the sides cut off."""
    width, height = picture.size
    return picture.crop(
        (
            round(left * width),
            round(top * height),
            round((1 - right) * width),
            round((1 - bottom) * height),
        )
    )


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def write(path: Path, picture: Image.Image, kind: str = "JPEG", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture, kind, **options))
    return path
