"""Whether two signatures are of one picture: laid over each other, nothing local may differ.

Re-encoding, resizing and cropping leave small differences everywhere; brightness, contrast and tone
change all pixels of a grey level alike. Another thing before the same background differs in one place
and there in structure. So after the best overlay and the best tone curve, what counts is the area
where the grey levels differ by more than a slight shift explains and the local structure differs too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, binary_opening, label, uniform_filter

from regard.core.records import Float32Array
from regard.search.duplicates.alignment import (
    Overlay,
    align,
    overlay,
)
from regard.search.duplicates.pictures import Picture

# The blur reaches as far over a crop's edge.
_EDGE = 2
_LEAST_OVERLAP = 0.4
_TONE_BINS = 16
# What counts as a change: more than misplacement by this much explains, more than these levels, with a
# structure that correlates less than this.
_SHIFT_PIXELS = 0.3
_LEAST_LEVELS, _LEVELS, _SHARE_OF_CONTRAST = 3.0, 6.0, 0.12
_LEAST_STRUCTURE = 0.7
_WINDOW = 7
_STRUCTURE_NOISE = 4.0
# Of the 337 labelled photographs, copies by 19 edits correlate by 0.987 at the least and change in 0.26 %
# of the frame at the most. Of 30,330 pairs of neighbours, some edited, none passes: those that correlate
# by 0.95 change in 4 %, those that change in 0.71 % correlate by 0.93.
_LEAST_CORRELATION = 0.95
_MOST_CHANGED = 0.0035
# Pages of small print in one layout differ everywhere and nowhere in particular. They correlate by up to
# 0.985, their detail by up to 0.89 where there are 83 lines on a page; that of copies by the 19 edits does
# by 0.97 at the least.
_LEAST_DETAIL = 0.9
_DETAIL_WINDOW = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two pictures have in common once one is laid over the other.

    `correlation` of what both show, after tone, and of its `detail` alone; `changed` is the largest area
    that differs, as a share of the frame that is laid upon, of which `overlap` is what both show. 0 to 1.
    """

    correlation: float
    detail: float
    changed: float
    overlap: float

    @property
    def is_copy(self) -> bool:
        """Whether they are one picture."""
        return (
            self.correlation >= _LEAST_CORRELATION
            and self.detail >= _LEAST_DETAIL
            and self.changed <= _MOST_CHANGED
            and self.overlap >= _LEAST_OVERLAP
        )


def similarity_of_copies(first: Picture, second: Picture) -> float | None:
    """The correlation of two pictures that are one, 0 to 1; None of all others."""
    found = compare(first, second)
    return found.correlation if found is not None and found.is_copy else None


def compare(first: Picture, second: Picture) -> Comparison | None:
    """Lay two pictures over each other; None where no part of one looks like the other."""
    placement = align(first, second)
    if placement is None:
        return None
    if placement.scale_x * placement.scale_y < 1:
        laid = overlay(second, first, placement.inverse())
    else:
        laid = overlay(first, second, placement)
    inside = binary_erosion(laid.inside, iterations=_EDGE, border_value=1)
    if inside.mean() < _LEAST_OVERLAP:
        return None
    laid = Overlay(laid.ours, laid.theirs, inside)
    laid = Overlay(laid.ours, apply_tone(laid), inside)
    overlap = float(inside.mean())
    return Comparison(
        laid.correlation, _correlation_of_detail(laid), _largest_change(laid), overlap
    )


def apply_tone(laid: Overlay) -> Float32Array:
    """Theirs in our grey levels, by the monotonic curve that fits what both show best."""
    ours, theirs = laid.ours[laid.inside], laid.theirs[laid.inside]
    edges = np.unique(np.quantile(theirs, np.linspace(0, 1, _TONE_BINS + 1)))
    if len(edges) < 3:
        moved: Float32Array = (laid.theirs + (ours.mean() - theirs.mean())).astype(np.float32)
        return moved
    places = np.clip(np.searchsorted(edges, theirs, "right") - 1, 0, len(edges) - 2)
    order = np.argsort(places, kind="stable")
    knots_from, knots_to = [], []
    for group in np.split(order, np.cumsum(np.bincount(places, minlength=len(edges) - 1))[:-1]):
        if group.size:
            # Medians: what was replaced must not bend the curve for the rest.
            knots_from.append(float(np.median(theirs[group])))
            knots_to.append(float(np.median(ours[group])))
    levels = np.maximum.accumulate(np.asarray(knots_to))
    starts = np.asarray(knots_from)
    # Beyond the outer knots the curve goes on as it does on the whole.
    slope = (levels[-1] - levels[0]) / max(starts[-1] - starts[0], 1.0)
    starts = np.concatenate([[starts[0] - 255], starts, [starts[-1] + 255]])
    levels = np.concatenate([[levels[0] - 255 * slope], levels, [levels[-1] + 255 * slope]])
    return np.clip(np.interp(laid.theirs, starts, levels), 0, 255).astype(np.float32)


def _largest_change(laid: Overlay) -> float:
    """The largest connected area where grey levels and structure differ, as a share of the frame."""
    down, across = np.gradient(laid.ours)
    steep = np.hypot(down, across)
    shown = laid.ours[laid.inside]
    # A change in a pale picture is pale too.
    levels = float(np.clip(_SHARE_OF_CONTRAST * shown.std(), _LEAST_LEVELS, _LEVELS))
    differs = np.abs(laid.ours - laid.theirs) - _SHIFT_PIXELS * steep > levels
    changed = laid.inside & differs & (_structure(laid) < _LEAST_STRUCTURE)
    # Specks and lines are the work of codecs and of edges.
    areas, count = label(binary_opening(changed, np.ones((3, 3), np.bool_)))
    return float(np.bincount(areas.ravel())[1:].max()) / areas.size if count else 0.0


def _correlation_of_detail(laid: Overlay) -> float:
    """Of what is finer than a few pixels; noise counts as alike where there is little else."""
    ours: Float32Array
    theirs: Float32Array
    ours, theirs = (
        (grey - uniform_filter(grey, _DETAIL_WINDOW, mode="nearest"))[laid.inside]
        for grey in (laid.ours, laid.theirs)
    )
    spread = float(np.linalg.norm(ours)) * float(np.linalg.norm(theirs)) / ours.size
    together = float(ours @ theirs) / ours.size
    return (together + _STRUCTURE_NOISE) / (spread + _STRUCTURE_NOISE)


def _structure(laid: Overlay) -> Float32Array:
    """Correlation in a window around each pixel, (h, w): the structure term of SSIM (Wang et al. 2004)."""

    def mean(values: Float32Array) -> Float32Array:
        filtered: Float32Array = uniform_filter(values, _WINDOW, mode="nearest")
        return filtered

    ours, theirs = laid.ours, laid.theirs
    mean_ours, mean_theirs = mean(ours), mean(theirs)
    spread_ours = np.maximum(mean(ours * ours) - mean_ours**2, 0)
    spread_theirs = np.maximum(mean(theirs * theirs) - mean_theirs**2, 0)
    together = mean(ours * theirs) - mean_ours * mean_theirs
    noise = _STRUCTURE_NOISE
    share: Float32Array = (together + noise) / (np.sqrt(spread_ours * spread_theirs) + noise)
    return share
