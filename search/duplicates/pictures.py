"""Signatures made ready to be compared, with what their comparisons share."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter, zoom

from regard.core.records import Float32Array
from regard.core.signatures import Signature

REDUCED = 3
# The middle that is slid: what a crop of a fifth on any side still shows.
_MIDDLE = 0.6
# A step of 6 % leaves an error that the refinement gets over.
_SCALES = tuple(float(scale) for scale in 1.06 ** np.arange(-8, 9))
_LEAST_TEMPLATE = 5
# In pixels of the signature: what two ways of shrinking a picture differ by.
_BLUR = 1.0
# Scales of the blur this near to each other are one, so that a blurred signature serves many comparisons.
_BLUR_STEP = 0.03
# Time has said already that they belong together. Of pairs drawn at random among labelled photographs, of
# which about as many share a background, one in thirteen is as much alike.
_LEAST_LIKENESS = 0.6
_LEAST_CONTRAST = 1e-3


class Picture:
    """A signature made ready: what its comparisons share."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.grey: Float32Array = signature.grey.astype(np.float32)
        self._blurred: dict[tuple[int, int], Float32Array] = {}
        self._spreads: dict[tuple[int, int], Float32Array] = {}

    @cached_property
    def reduced(self) -> Float32Array:
        """The signature reduced three times, (h / 3, w / 3)."""
        return _shrink(self.grey, REDUCED)

    @cached_property
    def templates(self) -> tuple[tuple[float, Float32Array], ...]:
        """The middle at each scale, of mean 0 and norm 1; scales at which it shows nothing left out."""
        rows, columns = self.reduced.shape
        top, left = round(rows * (1 - _MIDDLE) / 2), round(columns * (1 - _MIDDLE) / 2)
        middle = self.reduced[top : rows - top, left : columns - left]
        found = []
        for scale in _SCALES:
            size = round(middle.shape[0] * scale), round(middle.shape[1] * scale)
            if min(size) < _LEAST_TEMPLATE:
                continue
            scaled = _resize(middle, size)
            scaled = scaled - scaled.mean()
            norm = float(np.linalg.norm(scaled))
            if norm > _LEAST_CONTRAST:
                found.append((scale, scaled / norm))
        return tuple(found)

    def spread(self, height: int, width: int) -> Float32Array:
        """Standard deviation times root of size of each window of the reduced signature, flat."""
        key = height, width
        if key not in self._spreads:
            whole = self.reduced
            sums = _window_sums(whole, height, width)
            powers = _window_sums(whole * whole, height, width)
            variance = np.maximum(powers - sums * sums / (height * width), _LEAST_CONTRAST)
            self._spreads[key] = np.sqrt(variance).ravel()
        return self._spreads[key]

    def blurred(self, step: int, scale: float = 1.0) -> Float32Array:
        """The signature shrunk by whole steps, and blurred as much as a pixel of `scale` hides."""
        level = round(math.log(scale) / _BLUR_STEP)
        key = step, level
        if key not in self._blurred:
            grey = self.grey if step == 1 else _shrink(self.grey, step)
            sigma = _BLUR * math.exp(level * _BLUR_STEP)
            self._blurred[key] = gaussian_filter(grey, sigma, mode="nearest")
        return self._blurred[key]


def likeness(first: Picture, second: Picture) -> float | None:
    """How alike two pictures of a burst are, 0.6 to 1; None for others, and for other shapes.

    By what either shows as a whole or, where the camera moved a little, in its middle.
    """
    ours, theirs = first.reduced, second.reduced
    if ours.shape != theirs.shape:
        return None
    best = correlation(ours.ravel(), theirs.ravel())
    template = dict(first.templates).get(1.0)
    if template is not None:
        windows = sliding_window_view(theirs, template.shape)
        fits = (windows.reshape(-1, template.size) @ template.ravel()) / second.spread(
            *template.shape
        )
        best = max(best, float(fits.max()))
    return best if best >= _LEAST_LIKENESS else None


def correlation(first: Float32Array, second: Float32Array) -> float:
    """Of grey levels (n,) that lie over each other, -1 to 1; 0 where either shows nothing."""
    if not first.size:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > _LEAST_CONTRAST else 0.0


def _shrink(grey: Float32Array, step: int) -> Float32Array:
    """Means of whole blocks; a remainder at the end is left out."""
    rows, columns = grey.shape[0] // step, grey.shape[1] // step
    blocks = grey[: rows * step, : columns * step].reshape(rows, step, columns, step)
    means: Float32Array = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


def _resize(grey: Float32Array, size: tuple[int, int]) -> Float32Array:
    factors = size[0] / grey.shape[0], size[1] / grey.shape[1]
    resized: Float32Array = zoom(grey, factors, order=1, grid_mode=True, mode="nearest")
    return resized


def _window_sums(grey: Float32Array, height: int, width: int) -> Float32Array:
    """Sums over all windows of a size, (rows, columns), by an integral image."""
    total = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1), np.float64)
    np.cumsum(np.cumsum(grey, 0, dtype=np.float64), 1, out=total[1:, 1:])
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width]
    return (sums + total[:-height, :-width]).astype(np.float32)
