"""The formulas of the parity folder's README: weights and images that files need not hold."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt


def hashed(key: str, salt: int, start: int, stop: int) -> npt.NDArray[np.float64]:
    """u of the elements `start` to `stop` - 1, in [-1, 1)."""
    x = np.arange(start + 1, stop + 1, dtype=np.uint32)
    x *= np.uint32(0x9E3779B9)
    x += np.uint32(zlib.crc32(key.encode()) ^ salt)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x * 2.0**-31 - 1


def scale(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """a and b of the value a + b · u."""
    if key.endswith("running_var"):
        return 1.0, 0.5
    if key.endswith(("running_mean", "bias")):
        return 0.0, 0.1
    if key in {"encoder.pos_embed", "encoder.pos_embed_window"}:
        return 0.0, 0.5
    if len(shape) == 1:
        return 1.0, 0.25
    gain = {4: 6.0, 2: 3.0}[len(shape)]
    if key.startswith(("side1.", "side2.", "head.")):
        gain = 0.1
    if "prompt_learn" in key:
        gain = 0.75
    return 0.0, math.sqrt(gain / math.prod(shape[1:]))


def formula_tensor(key: str, shape: tuple[int, ...], salt: int) -> npt.NDArray[Any]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    offset, factor = scale(key, shape)
    flat = np.empty(math.prod(shape), np.float32)
    chunk = 1 << 17
    for start in range(0, flat.size, chunk):
        u = hashed(key, salt, start, min(start + chunk, flat.size))
        u *= factor
        if offset:
            u += offset
        flat[start : start + chunk] = u
    return flat.reshape(shape)


def formula_image(width: int, height: int, salt: int) -> npt.NDArray[np.uint8]:
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    phase = salt % 1000 / 1000
    s = 127.5 + 55 * np.sin(2 * np.pi * (1.5 * x / width + 0.5 * y / height + c / 3 + phase))
    s += 45 * np.cos(2 * np.pi * (2.5 * y / height - (x / width) * (c + 1) / 2 + 2 * phase))
    near = (x - 0.6 * width) ** 2 + (y - 0.4 * height) ** 2 < (0.25 * min(width, height)) ** 2
    u = hashed("image", salt, 0, s.size).reshape(s.shape)
    return np.clip(np.floor(s + 40 * near + 20 * u + 0.5), 0, 255).astype(np.uint8)
