"""How honest probabilities are, and a picture of it.

The reliability diagram (DeGroot & Fienberg 1983) sets what was said beside what came true; the expected
calibration error (Naeini, Cooper & Hauskrecht, AAAI 2015) is the mean distance of the two over ten bins
of equal width, weighted by how many fall into each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

_BINS = 10
# One of each form of query.
_IN_A_ROW = 5


@dataclass(frozen=True, slots=True)
class Bin:
    """Of `count` hits the mean relevance and the share that is right."""

    relevance: float
    right: float
    count: int


def reliability(relevances: Float64Array, right: Float64Array) -> tuple[Bin, ...]:
    """The bins that hold anything, of relevances (n,) in [0, 1] and outcomes (n,), 0 or 1."""
    bins = np.minimum((relevances * _BINS).astype(int), _BINS - 1)
    return tuple(
        Bin(
            float(relevances[bins == place].mean()),
            float(right[bins == place].mean()),
            int((bins == place).sum()),
        )
        for place in np.unique(bins).tolist()
    )


def calibration_error(relevances: Float64Array, right: Float64Array) -> float | None:
    """The expected calibration error, in [0, 1]; None of nothing."""
    if not len(relevances):
        return None
    found = reliability(relevances, right)
    return sum(one.count * abs(one.relevance - one.right) for one in found) / len(relevances)


def area_under_curve(values: Float64Array, right: Float64Array) -> float | None:
    """The AUROC: the chance that a right one has the greater value, ties half; None of one kind alone."""
    positive, negative = values[right > 0], values[right <= 0]
    if not len(positive) or not len(negative):
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def draw_reliability(diagrams: Sequence[tuple[str, Sequence[Bin]]], path: Path) -> None:
    """Draw diagrams in rows as a PNG; a dot's area grows with how many hits its bin holds."""
    from PIL import Image, ImageDraw, ImageFont

    side, margin, scale = 320, 64, 2
    columns = min(len(diagrams), _IN_A_ROW)
    rows = -(-len(diagrams) // _IN_A_ROW)
    width = scale * (columns * (side + margin) + margin)
    height = scale * rows * (side + 2 * margin)
    picture = Image.new("RGB", (width, height), "#FFFFFF")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13 * scale)
    most = max((one.count for _, bins in diagrams for one in bins), default=1)
    for place, (title, bins) in enumerate(diagrams):
        row, column = divmod(place, _IN_A_ROW)
        left = scale * (margin + column * (side + margin))
        bottom = scale * (row * (side + 2 * margin) + margin + side)

        def at(x: float, y: float, left: int = left, bottom: int = bottom) -> tuple[float, float]:
            return left + x * side * scale, bottom - y * side * scale

        for step in range(6):
            value = step / 5
            draw.line([at(value, 0), at(value, 1)], fill="#D5DAE0", width=scale)
            draw.line([at(0, value), at(1, value)], fill="#D5DAE0", width=scale)
            x, y = at(value, 0)
            draw.text((x, y + 6 * scale), f"{value:.1f}", "#5B6570", font, anchor="mt")
            x, y = at(0, value)
            draw.text((x - 8 * scale, y), f"{value:.1f}", "#5B6570", font, anchor="rm")
        draw.line([at(0, 0), at(1, 1)], fill="#5B6570", width=scale)
        points = [at(one.relevance, one.right) for one in bins]
        draw.line(points, fill="#0072B2", width=2 * scale)
        for one, (x, y) in zip(bins, points, strict=True):
            radius = scale * (3 + 9 * (one.count / most) ** 0.5)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="#0072B2")
        x, y = at(0.5, 1)
        draw.text((x, y - 12 * scale), title, "#1B1F24", font, anchor="mb")
        x, y = at(0.5, 0)
        draw.text((x, y + 28 * scale), "relevance (x), share that is right (y)", "#5B6570", font,
                  anchor="mt")  # fmt: skip
    picture.save(path, optimize=True)
