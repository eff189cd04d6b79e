"""The stored form of a vector: little-endian float16, dimension × 2 bytes.

Vectors that an index would refuse are never stored: one would block every index of its channel.
"""

from __future__ import annotations

import numpy as np

from regard.core.errors import HomeError, ModelError
from regard.core.records import BoolArray, Float32Array

# Above 1 by the rounding to float16; the vector indexes use the same bound.
_MAX_NORM = 1.01


def to_bytes(vector: Float32Array, dimension: int) -> bytes:
    """Bytes of one vector of shape (dimension,).

    Raises ModelError for another shape, or if the vector is longer than 1 or not finite.
    """
    if vector.shape != (dimension,):
        raise ModelError(f"a model gave a vector of shape {vector.shape}, not ({dimension},)")
    with np.errstate(over="ignore"):
        stored = vector.astype("<f2")
    if not is_sound(stored[np.newaxis].astype(np.float32))[0]:
        raise ModelError("a model gave a vector that is not normalised")
    return stored.tobytes()


def from_bytes(rows: list[bytes], dimension: int) -> Float32Array:
    """Vectors of shape (n, dimension), float32, from their stored bytes.

    Raises HomeError when one has another length.
    """
    if any(len(row) != 2 * dimension for row in rows):
        raise HomeError("the catalog holds damaged vectors", remedy="see them with: regard verify")
    return np.frombuffer(b"".join(rows), dtype="<f2").reshape(-1, dimension).astype(np.float32)


def is_sound(vectors: Float32Array) -> BoolArray:
    """Which rows (n, d) are finite and not longer than 1."""
    # Written so that NaN fails too.
    sound: BoolArray = np.linalg.norm(vectors, axis=1) <= _MAX_NORM
    return sound
