"""How reliable probabilities are, in figures and in a picture.

The reliability diagram (DeGroot & Fienberg 1983) plots the share of right hits over the
probability that was stated; the expected calibration error (Naeini, Cooper & Hauskrecht, AAAI
2015) is the mean distance between the two over ten bins of equal width, weighted by the number of
hits in each bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regard.core.errors import MissingDependency
from regard.evaluation.statistics import Float64Array

_BINS = 10
# Outcomes drawn to see what chance alone does, always the same ones.
_DRAWS, _SEED = 1000, 0
# Diagrams side by side: one of each form of query.
_COLUMNS = 5
_INK, _FAINT_INK, _RULE, _DATA = "#1B1F24", "#5B6570", "#D5DAE0", "#0072B2"


@dataclass(frozen=True, slots=True)
class Bin:
    """The mean relevance of `count` hits, and the share of them that is right."""

    relevance: float
    right: float
    count: int


def reliability_bins(relevances: Float64Array, right: Float64Array) -> tuple[Bin, ...]:
    """The bins that are not empty, of relevances (n,) in [0, 1] and outcomes (n,), 0 or 1."""
    from scipy.stats import binned_statistic

    if not len(relevances):
        return ()
    values = [np.ones_like(right), relevances, right]
    sums = binned_statistic(relevances, values, "sum", _BINS, range=(0, 1)).statistic  # (3, bins)
    counts, *means = sums[0], sums[1] / np.maximum(sums[0], 1), sums[2] / np.maximum(sums[0], 1)
    return tuple(
        Bin(float(relevance), float(share), int(count))
        for count, relevance, share in zip(counts, *means, strict=True)
        if count
    )


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """The expected calibration error, in [0, 1]; None without bins."""
    if not bins:
        return None
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.relevance - one.right) for one in bins) / total


def chance_error(relevances: Float64Array) -> float | None:
    """The calibration error that these relevances (n,) would have on average if all were exact.

    Few hits lie off their probability by chance. None without any.
    """
    if not len(relevances):
        return None
    places = np.minimum((relevances * _BINS).astype(np.int64), _BINS - 1)
    right = np.random.default_rng(_SEED).random((_DRAWS, len(relevances))) < relevances
    sums = (relevances - right) @ np.eye(_BINS)[places]  # (draws, n) → (draws, bins)
    return float(np.abs(sums).sum(axis=1).mean() / len(relevances))


def area_under_curve(values: Float64Array, right: Float64Array) -> float | None:
    """The AUROC of values (n,) for outcomes (n,), 0 or 1; None when all outcomes are the same.

    Raises MissingDependency when scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise MissingDependency(
            "AUROC needs scikit-learn, which is not installed",
            remedy="install it with `pip install 'regard[evaluate]'`",
        ) from None
    return float(roc_auc_score(right, values)) if len(np.unique(right)) > 1 else None


def draw_reliability(diagrams: Sequence[tuple[str, Sequence[Bin]]], path: Path) -> None:
    """Draw titled diagrams as a PNG; a dot's area grows with the number of hits in its bin."""
    from PIL import Image, ImageDraw, ImageFont

    side, margin, scale = 320, 64, 2
    columns = min(len(diagrams), _COLUMNS)
    rows = -(-len(diagrams) // _COLUMNS)
    width = scale * (columns * (side + margin) + margin)
    height = scale * rows * (side + 2 * margin)
    picture = Image.new("RGB", (width, height), "#FFFFFF")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13 * scale)
    highest = max((one.count for _, bins in diagrams for one in bins), default=1)
    for place, (title, bins) in enumerate(diagrams):
        row, column = divmod(place, _COLUMNS)
        left = scale * (margin + column * (side + margin))
        bottom = scale * (row * (side + 2 * margin) + margin + side)

        def at(x: float, y: float, left: int = left, bottom: int = bottom) -> tuple[float, float]:
            return left + x * side * scale, bottom - y * side * scale

        def write(x: float, y: float, dx: int, dy: int, text: str, ink: str, anchor: str) -> None:
            left, bottom = at(x, y)
            draw.text((left + dx * scale, bottom + dy * scale), text, ink, font, anchor=anchor)

        for value in np.linspace(0, 1, 6):
            draw.line([at(value, 0), at(value, 1)], fill=_RULE, width=scale)
            draw.line([at(0, value), at(1, value)], fill=_RULE, width=scale)
            write(value, 0, 0, 6, f"{value:.1f}", _FAINT_INK, "mt")
            write(0, value, -8, 0, f"{value:.1f}", _FAINT_INK, "rm")
        draw.line([at(0, 0), at(1, 1)], fill=_FAINT_INK, width=scale)
        points = [at(one.relevance, one.right) for one in bins]
        draw.line(points, fill=_DATA, width=2 * scale)
        for one, (x, y) in zip(bins, points, strict=True):
            radius = scale * (3 + 9 * (one.count / highest) ** 0.5)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_DATA)
        write(0.5, 1, 0, -12, title, _INK, "mb")
        write(0.5, 0, 0, 28, "relevance (x), share that is right (y)", _FAINT_INK, "mt")
    picture.save(path, optimize=True)
