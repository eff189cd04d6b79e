"""Pictures made from signatures, and the place of one picture inside another.

A crop, a resized copy and the original show the same things at different places of their frames.
The middle of one is slid over the other at several scales (normalised cross-correlation on reduced
signatures), and the best places are refined to fractions of a pixel by Gauss-Newton on shift,
scale, gain and offset (Lucas & Kanade 1981; Baker & Matthews 2004). Rotation and mirroring are not
searched.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter, zoom

from regard.core.records import Float32Array, Signature

REDUCED = 3
# The part that is slid: cropping a fifth from any side still leaves it.
_MIDDLE = 0.6
# Refinement corrects the error that a step of 6 % leaves.
SCALES = tuple(float(scale) for scale in 1.06 ** np.arange(-8, 9))
LEAST_TEMPLATE = 5
# In pixels of the signature: hides the differences between resampling methods.
_BLUR = 1.0
# Similar blurs are rounded to one, so that a blurred signature serves many comparisons.
_BLUR_STEP = 0.03
# Low, because the photographs are already close in time: one in thirteen random pairs of labelled
# photographs is as similar.
_LEAST_LIKENESS = 0.6
LEAST_CONTRAST = 1e-3


class Picture:
    """A signature with the derived images that its comparisons share."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.grey: Float32Array = signature.grey.astype(np.float32)
        self._blurred: dict[tuple[int, int], Float32Array] = {}
        self._spreads: dict[tuple[int, int], Float32Array] = {}

    @functools.cached_property
    def reduced(self) -> Float32Array:
        """The signature reduced three times, (h / 3, w / 3)."""
        return _shrink(self.grey, REDUCED)

    @functools.cached_property
    def templates(self) -> tuple[tuple[float, Float32Array], ...]:
        """The middle at each scale, with mean 0 and norm 1, except where it has no contrast."""
        middle = middle_of(self.reduced)
        found = []
        for scale in SCALES:
            height, width = (round(size * scale) for size in middle.shape)
            if min(height, width) < LEAST_TEMPLATE:
                continue
            down, across = resize_steps(len(middle), height), resize_steps(middle.shape[1], width)
            scaled = down @ middle @ across.T
            scaled = scaled - scaled.mean()
            norm = float(np.linalg.norm(scaled))
            if norm > LEAST_CONTRAST:
                found.append((scale, scaled / norm))
        return tuple(found)

    def spread(self, height: int, width: int) -> Float32Array:
        """Standard deviation × √size of each window of `reduced`, flattened."""
        key = height, width
        if key not in self._spreads:
            whole = self.reduced
            sums = _window_sums(whole, height, width)
            powers = _window_sums(whole * whole, height, width)
            variance = np.maximum(powers - sums * sums / (height * width), LEAST_CONTRAST)
            self._spreads[key] = np.sqrt(variance).ravel()
        return self._spreads[key]

    def blurred(self, step: int, scale: float = 1.0) -> Float32Array:
        """The signature shrunk by an integer step, blurred for pixels of size `scale`."""
        level = round(math.log(scale) / _BLUR_STEP)
        key = step, level
        if key not in self._blurred:
            grey = self.grey if step == 1 else _shrink(self.grey, step)
            sigma = _BLUR * math.exp(level * _BLUR_STEP)
            self._blurred[key] = gaussian_filter(grey, sigma, mode="nearest")
        return self._blurred[key]


def likeness(first: Picture, second: Picture) -> float | None:
    """The likeness of two pictures of a burst, 0.6 to 1; None if less, or if their shapes differ.

    Compares the whole pictures and, in case the camera moved a little, the middle of the first.
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
    """The correlation of grey levels (n,), -1 to 1; 0 if either has no contrast."""
    if not first.size:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > LEAST_CONTRAST else 0.0


def _shrink(grey: Float32Array, step: int) -> Float32Array:
    """Means of whole blocks; a remainder at the end is left out."""
    rows, columns = grey.shape[0] // step, grey.shape[1] // step
    blocks = grey[: rows * step, : columns * step].reshape(rows, step, columns, step)
    means: Float32Array = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


def middle_of(pictures: Float32Array) -> Float32Array:
    """The middle of a picture (h, w), or of each of a stack (n, h, w)."""
    rows, columns = pictures.shape[-2:]
    top, left = round(rows * (1 - _MIDDLE) / 2), round(columns * (1 - _MIDDLE) / 2)
    return pictures[..., top : rows - top, left : columns - left]


@functools.cache
def resize_steps(size: int, to: int) -> Float32Array:
    """The matrix (to, size) that resizes a column of pixels linearly."""
    identity = np.eye(size, dtype=np.float32)
    steps: Float32Array = zoom(identity, (to / size, 1), order=1, grid_mode=True, mode="nearest")
    return steps


def _window_sums(grey: Float32Array, height: int, width: int) -> Float32Array:
    """Sums over all windows of a size, (rows, columns), by an integral image."""
    total = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1), np.float64)
    np.cumsum(np.cumsum(grey, 0, dtype=np.float64), 1, out=total[1:, 1:])
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width]
    return (sums + total[:-height, :-width]).astype(np.float32)


BoolArray = npt.NDArray[np.bool_]

# How many places of the middle are refined, and how well it must fit there.
_PLACES = 2
_LEAST_SLID = 0.5
_COARSE_ROUNDS, _FINE_ROUNDS = 6, 4
_STILL = 0.01
# Before refinement the reduced pictures of copies correlate by at least 0.91 at the best place.
_LEAST_START = 0.75
# Copies reach at least 0.95 after every tested edit.
_LEAST_CORRELATION, _SURE_CORRELATION = 0.8, 0.97
# A larger refinement means that it diverges.
_MOST_PIXELS, _MOST_GROWTH = 3.0, 0.2
_LEAST_GAIN = 0.1


@dataclass(frozen=True, slots=True)
class Placement:
    """Maps places of one picture to another: x ↦ `scale_x`·x + `shift_x`, and y likewise.

    In pixels of the signatures, from their top left corner.
    """

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float

    def inverse(self) -> Placement:
        """The placement of the second picture in the first."""
        return Placement(
            1 / self.scale_x,
            1 / self.scale_y,
            -self.shift_x / self.scale_x,
            -self.shift_y / self.scale_y,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """Two pictures on the grid of the first, float32 (h, w); `inside` is where both exist."""

    ours: Float32Array
    theirs: Float32Array
    inside: BoolArray

    @property
    def correlation(self) -> float:
        """The correlation where both exist, -1 to 1; 0 if either has no contrast."""
        return correlation(self.ours[self.inside], self.theirs[self.inside])


def align(first: Picture, second: Picture) -> Placement | None:
    """The place of the first picture in the second; None if they cannot show the same.

    The second should have the finer grid, so that it is sampled, not enlarged.
    """
    candidates = [whole_frame(first, second), *_slid(first, second)]
    best, best_correlation = None, _LEAST_CORRELATION
    for candidate in candidates:
        if not may_lie(first, second, candidate):
            continue
        placement = _refined(first, second, candidate, step=2, rounds=_COARSE_ROUNDS)
        if placement is None:
            continue
        laid = overlay(first, second, placement, step=2)
        correlation = laid.correlation
        if correlation > best_correlation:
            best, best_correlation = placement, correlation
        if correlation > _SURE_CORRELATION:
            break
    if best is None:
        return None
    return _refined(first, second, best, step=1, rounds=_FINE_ROUNDS)


def may_lie(first: Picture, second: Picture, placement: Placement) -> bool:
    """Whether refining this placement may show that the pictures are one."""
    return overlay(first, second, placement, step=REDUCED).correlation >= _LEAST_START


def slid_to(
    first: Picture, scale: float, size: tuple[int, int], place: tuple[int, int]
) -> Placement:
    """The placement of a picture whose middle, scaled to `size`, lies at `place` of another.

    Size and place are rows and columns of reduced pictures.
    """
    middle_y, middle_x = (side / 2 for side in first.grey.shape)
    centre_y, centre_x = (
        (start + side / 2) * REDUCED for start, side in zip(place, size, strict=True)
    )
    return Placement(scale, scale, centre_x - scale * middle_x, centre_y - scale * middle_y)


def whole_frame(first: Picture, second: Picture) -> Placement:
    """The placement if both show the same frame, as after resizing."""
    rows, columns = first.grey.shape
    other_rows, other_columns = second.grey.shape
    return Placement(other_columns / columns, other_rows / rows, 0.0, 0.0)


def overlay(first: Picture, second: Picture, placement: Placement, *, step: int = 1) -> Overlay:
    """Resample the second picture on the first's grid, both blurred and shrunk by `step`."""
    scale = max(float(np.sqrt(placement.scale_x * placement.scale_y)), 0.5)
    return _lay(first.blurred(step), second.blurred(step, scale), placement, step)


def _slid(first: Picture, second: Picture) -> list[Placement]:
    """The best places of the first picture's middle in the second, at most one per scale."""
    whole = second.reduced
    rows, columns = whole.shape
    found: list[tuple[float, float, Placement]] = []
    for scale, template in first.templates:
        height, width = template.shape
        if height > rows or width > columns:
            continue
        windows = sliding_window_view(whole, template.shape)
        spread = second.spread(height, width)
        correlation = (windows.reshape(-1, template.size) @ template.ravel()) / spread
        best = int(correlation.argmax())
        place = divmod(best, windows.shape[1])
        placement = slid_to(first, scale, template.shape, place)
        found.append((-float(correlation[best]), scale, placement))
    found.sort(key=lambda item: item[:2])
    return [placement for cost, _, placement in found[:_PLACES] if -cost > _LEAST_SLID]


def _refined(
    first: Picture, second: Picture, placement: Placement, *, step: int, rounds: int
) -> Placement | None:
    """Refine a placement to a fraction of a pixel; None if the refinement diverges."""
    scale = max(float(np.sqrt(placement.scale_x * placement.scale_y)), 0.5)
    ours, theirs = first.blurred(step), second.blurred(step, scale)
    for _ in range(rounds):
        moved = _improved(ours, theirs, placement, step)
        if moved is None:
            return None
        by = abs(moved.shift_x - placement.shift_x) + abs(moved.shift_y - placement.shift_y)
        placement = moved
        if by < _STILL:
            break
    return placement


def _improved(
    ours: Float32Array, theirs: Float32Array, placement: Placement, step: int
) -> Placement | None:
    laid = _lay(ours, theirs, placement, step)
    inside = laid.inside
    if inside.sum() < inside.size / 4:
        return None
    rows, columns = ours.shape
    gradients: list[Float32Array] = list(np.gradient(laid.theirs))
    down, across = gradients
    # Relative to the middle, so that scale and shift are independent.
    ys = (np.arange(rows, dtype=np.float32) + 0.5 - rows / 2)[:, None]
    xs = (np.arange(columns, dtype=np.float32) + 0.5 - columns / 2)[None, :]
    shades: tuple[Float32Array, ...] = (laid.theirs, np.ones_like(laid.theirs))
    terms: tuple[Float32Array, ...] = (across, down, across * xs, down * ys, *shades)
    design = np.stack([term[inside] for term in terms], axis=1).astype(np.float64)
    target = ours[inside].astype(np.float64)
    normal = design.T @ design
    normal[np.diag_indices_from(normal)] *= 1 + 1e-6
    try:
        solution = np.linalg.solve(normal, design.T @ target)
    except np.linalg.LinAlgError:
        return None
    gain = solution[4]
    if not np.isfinite(solution).all() or gain < _LEAST_GAIN:
        return None
    # ours ≈ gain · theirs(x + dx) + offset, so that the derivatives carry the gain.
    dx, dy, grow_x, grow_y = (float(value) for value in solution[:4] / gain)
    if max(abs(dx), abs(dy)) > _MOST_PIXELS or max(abs(grow_x), abs(grow_y)) > _MOST_GROWTH:
        return None
    middle_x, middle_y = columns * step / 2, rows * step / 2
    scale_x, scale_y = placement.scale_x * (1 + grow_x), placement.scale_y * (1 + grow_y)
    # Where the middle of ours lies in theirs, moved by the solution in pixels of our grid.
    at_x = placement.scale_x * (middle_x + dx * step) + placement.shift_x
    at_y = placement.scale_y * (middle_y + dy * step) + placement.shift_y
    return Placement(scale_x, scale_y, at_x - scale_x * middle_x, at_y - scale_y * middle_y)


def _lay(ours: Float32Array, theirs: Float32Array, placement: Placement, step: int) -> Overlay:
    rows, columns = ours.shape
    ys = placement.scale_y * (np.arange(rows) + 0.5) + placement.shift_y / step - 0.5
    xs = placement.scale_x * (np.arange(columns) + 0.5) + placement.shift_x / step - 0.5
    theirs_rows, theirs_columns = theirs.shape
    inside = ((ys >= -0.25) & (ys <= theirs_rows - 0.75))[:, None] & (
        (xs >= -0.25) & (xs <= theirs_columns - 0.75)
    )[None, :]
    return Overlay(ours, _across(_down(theirs, ys), xs), inside)


def _down(grey: Float32Array, ys: Float32Array) -> Float32Array:
    """Rows at fractional places, interpolated linearly."""
    ys = np.clip(ys, 0, grey.shape[0] - 1)
    lower = np.minimum(ys.astype(np.int64), grey.shape[0] - 2)
    share = (ys - lower).astype(np.float32)[:, None]
    between: Float32Array = grey[lower] * (1 - share) + grey[lower + 1] * share
    return between


def _across(grey: Float32Array, xs: Float32Array) -> Float32Array:
    return np.ascontiguousarray(_down(np.ascontiguousarray(grey.T), xs).T)
