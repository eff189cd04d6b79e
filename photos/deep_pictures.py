"""Pictures of more than 8 bits a sample that Pillow alone would not show rightly."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from regard.photos.colour import Raster
from regard.photos.containers import Parts


def grey_png_raster(image: Image.Image, key: tuple[int, ...] | None) -> Raster:
    """Grey of 16 bits, whose `key` is transparent."""
    image.load()

    def strip(top: int, bottom: int) -> tuple[Image.Image, Image.Image | None]:
        samples = np.asarray(image.crop((0, top, image.width, bottom)))
        grey = Image.fromarray(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))
        return grey, None if key is None else Image.fromarray(samples != key[0]).convert("L")

    return Raster(*image.size, strip)


def avif_raster(data: bytes, bits: int) -> Raster:
    """AVIF of 10 or 12 bits, RGB or RGBA."""
    import imagecodecs

    samples = imagecodecs.avif_decode(data)
    white = (1 << bits) - 1
    table = (np.arange(white + 1) * (255 / white) + 0.5).astype(np.uint8)

    def strip(top: int, bottom: int) -> tuple[Image.Image, Image.Image | None]:
        pixels = table[np.minimum(samples[top:bottom], white)]
        alpha = Image.fromarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
        return Image.fromarray(pixels[..., :3]), alpha

    height, width = samples.shape[:2]
    return Raster(width, height, strip)


def keyed_png_raster(image: Image.Image, parts: Parts) -> Raster:
    """RGB of 16 bits, whose key is transparent. Pillow gives 8 bits: the upper, then the lower."""
    assert parts.key is not None
    lower = PngImageFile(io.BytesIO(parts.picture))
    lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
    keys = [tuple(value >> shift & 0xFF for value in parts.key) for shift in (8, 0)]
    for half in (image, lower):
        half.load()

    def strip(top: int, bottom: int) -> tuple[Image.Image, Image.Image]:
        box = (0, top, image.width, bottom)
        differs = [np.asarray(h.crop(box)) != k for h, k in zip((image, lower), keys, strict=True)]
        alpha = (differs[0] | differs[1]).any(axis=-1)
        return image.crop(box), Image.fromarray(alpha).convert("L")

    return Raster(*image.size, strip)
