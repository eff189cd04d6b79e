"""Screens pairs of signatures: drops those that cannot show one picture, in large batches.

The middle of one picture is slid over the other at all scales, as in `alignment.py`, but with
Fourier transforms of many pairs together. In copies the middle fits well somewhere: cropping a fifth
from any side still leaves it. Few other pictures fit as well, so that few pairs remain to be
aligned, which takes a hundred times longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from regard.core.records import Float32Array, Int64Array, Signature
from regard.search.duplicates.alignment import (
    LEAST_CONTRAST,
    LEAST_TEMPLATE,
    REDUCED,
    SCALES,
    middle_of,
    resize_steps,
)

# The middle of copies of the labelled photographs by 12 edits correlates by at least 0.76; of 20
# random pairs one correlates by as much as this.
_LEAST_FIT = 0.7
# At the scales that come first, copies by random crops, sizes and qualities correlate by at least
# 0.66, and one in five random pairs by 0.6.
_FIRST_SCALES = range(2, len(SCALES), 3)
_LEAST_FIRST_FIT = 0.6

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fit:
    """A pair of contents, and where the middle of the first fits best in the second.

    `size` and `place` are those of the middle at this scale, in rows and columns of the reduced
    second picture; both are 0 if the middle is too low or narrow to be compared at all scales.
    """

    first: int
    second: int
    scale: float
    size: tuple[int, int]
    place: tuple[int, int]


def screen(signatures: Mapping[int, Signature], pairs: Sequence[tuple[int, int]]) -> list[Fit]:
    """The pairs that may show one picture, in their order; those without signatures are dropped.

    Fastest if few different contents come first in the pairs.
    """
    known = [pair for pair in pairs if pair[0] in signatures and pair[1] in signatures]
    by_shapes: defaultdict[tuple[Shape, Shape], list[int]] = defaultdict(list)
    for place, (first, second) in enumerate(known):
        by_shapes[signatures[first].grey.shape, signatures[second].grey.shape].append(place)
    found: dict[int, Fit] = {}
    for places in by_shapes.values():
        firsts, owners = np.unique([known[place][0] for place in places], return_inverse=True)
        seconds, others = np.unique([known[place][1] for place in places], return_inverse=True)
        best, where = _best_fits(
            _reduced([signatures[one] for one in firsts.tolist()]),
            _reduced([signatures[one] for one in seconds.tolist()]),
            owners,
            others,
        )
        for row in np.flatnonzero((best >= _LEAST_FIT) | np.isneginf(best)).tolist():
            step, height, width, top, left = where[row].tolist()
            pair = known[places[row]]
            found[places[row]] = Fit(*pair, SCALES[step], (height, width), (top, left))
    return [found[place] for place in sorted(found)]


def _best_fits(
    firsts: Float32Array, seconds: Float32Array, owners: Int64Array, others: Int64Array
) -> tuple[Float32Array, Int64Array]:
    """The best correlation of the middle of `firsts[owners]` in `seconds[others]`, (pairs,).

    And its scale's number, height, width, top and left, (pairs, 5). Pictures are stacks (n, h, w).
    -inf where the middle is not compared.
    """
    rows, columns = seconds.shape[1:]
    seconds = seconds - seconds.mean(axis=(1, 2), keepdims=True)
    sums, powers = _integral(seconds), _integral(seconds * seconds)
    transformed = fft.rfft2(seconds)
    middles = middle_of(firsts)
    best = np.full(len(owners), -np.inf, np.float32)
    where = np.zeros((len(owners), 5), np.int64)

    def compare(number: int, chosen: Int64Array) -> None:
        """Compare the chosen pairs at one scale."""
        height, width = (round(size * SCALES[number]) for size in middles.shape[1:])
        if height > rows or width > columns or not len(chosen):
            return
        down, across = (
            resize_steps(size, to)
            for size, to in zip(middles.shape[1:], (height, width), strict=True)
        )
        templates = down @ middles @ across.T
        templates -= templates.mean(axis=(1, 2), keepdims=True)
        norms = np.sqrt(np.einsum("nij,nij->n", templates, templates))[:, None, None]
        templates = np.where(norms > LEAST_CONTRAST, templates / np.maximum(norms, 1e-9), np.nan)
        spectra = np.conj(fft.rfft2(templates, s=(rows, columns)))
        of = others[chosen]
        products = fft.irfft2(transformed[of] * spectra[owners[chosen]], s=(rows, columns))
        # Where the whole template lies inside, nothing wraps around.
        products = products[:, : rows - height + 1, : columns - width + 1]
        size = height * width
        variance = _window(powers, height, width) - _window(sums, height, width) ** 2 / size
        inverse = 1 / np.sqrt(np.maximum(variance, LEAST_CONTRAST))
        fits = products * inverse[of]
        places = fits.reshape(len(chosen), -1).argmax(axis=1)
        top, left = np.divmod(places, fits.shape[2])
        found = fits[np.arange(len(chosen)), top, left]
        is_better = found > best[chosen]
        better = chosen[is_better]
        best[better] = found[is_better]
        where[better, :3] = number, height, width
        where[better, 3], where[better, 4] = top[is_better], left[is_better]

    # Of panoramas most scales can't be compared.
    if round(min(middles.shape[1:]) * SCALES[0]) >= LEAST_TEMPLATE:
        for number in _FIRST_SCALES:
            compare(number, np.arange(len(owners)))
        may_fit = np.flatnonzero(best >= _LEAST_FIRST_FIT)
        for number in range(len(SCALES)):
            if number not in _FIRST_SCALES:
                compare(number, may_fit)
    return best, where


def _reduced(signatures: Sequence[Signature]) -> Float32Array:
    """Signatures of one shape as in `Picture.reduced`, (n, h / 3, w / 3)."""
    grey = np.stack([signature.grey for signature in signatures]).astype(np.float32)
    rows, columns = grey.shape[1] // REDUCED, grey.shape[2] // REDUCED
    # `mean` takes ten times as long to add up neighbours in a row.
    across = np.repeat(np.eye(columns, dtype=np.float32), REDUCED, axis=0)
    sums = grey[:, : rows * REDUCED, : columns * REDUCED] @ across
    means: Float32Array = sums.reshape(-1, rows, REDUCED, columns).sum(axis=2) / REDUCED**2
    return means


def _integral(pictures: Float32Array) -> Float32Array:
    """Integral images (n, h + 1, w + 1)."""
    total = np.zeros((len(pictures), pictures.shape[1] + 1, pictures.shape[2] + 1), np.float64)
    np.cumsum(np.cumsum(pictures, 1, dtype=np.float64), 2, out=total[:, 1:, 1:])
    return total


def _window(total: Float32Array, height: int, width: int) -> Float32Array:
    """Sums over all windows of a size."""
    inner = total[:, height:, width:] + total[:, :-height, :-width]
    return (inner - total[:, :-height, width:] - total[:, height:, :-width]).astype(np.float32)
