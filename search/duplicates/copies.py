"""Finds copies: contents that show one picture, verified on their signatures.

The candidates of a content are its few nearest neighbours in the vector index: cropping a tenth
moves a perceptual hash as far as another photograph would, but not an embedding. Where most
neighbours turn out to be copies there may be more, so more are read. Results are stored, so that
only new contents cost time.

Two signatures are of one picture if no local difference remains when one is laid over the other.
Re-encoding, resizing and cropping leave small differences everywhere, and tone changes all pixels
of a grey level alike. Another thing before the same background differs in one place, and in
structure. So after the best overlay and the best tone curve, the largest area counts where both
grey levels and local structure differ by more than a slight shift explains.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy.ndimage import binary_erosion, binary_opening, label, uniform_filter

from regard.core.catalog import ChannelQuery, ChannelSearch
from regard.core.duplicates import CopyPair, DuplicateCatalog
from regard.core.filters import EVERYTHING, AssetFilter, Fact
from regard.core.machine import share_work, usable_cores
from regard.core.records import Channel, Float32Array, Signature
from regard.search.duplicates.alignment import (
    Overlay,
    Picture,
    align,
    may_lie,
    overlay,
    slid_to,
    whole_frame,
)
from regard.search.duplicates.screening import screen

# How far the blur reaches over the edge of a crop.
_EDGE = 2
_LEAST_OVERLAP = 0.4
_TONE_BINS = 16
# A change is a difference beyond what this shift explains, of more than these levels, where the
# structure correlates less than this.
_SHIFT_PIXELS = 0.3
_LEAST_LEVELS, _LEVELS, _SHARE_OF_CONTRAST = 3.0, 6.0, 0.12
_LEAST_STRUCTURE = 0.7
_WINDOW = 7
_STRUCTURE_NOISE = 4.0
# Copies of the 337 labelled photographs by 19 edits correlate by at least 0.987, and at most 0.26
# % of the frame changes. None of 30,330 pairs of neighbours, some of them edited, passes: 4 %
# changes in those that correlate by 0.95, and those with 0.71 % changed correlate by 0.93.
_LEAST_CORRELATION = 0.95
_MOST_CHANGED = 0.0035
# Pages of small print in one layout differ slightly everywhere. They correlate by up to 0.985, and
# their detail by up to 0.89 with 83 lines on a page; the detail of copies correlates by at least
# 0.97.
_LEAST_DETAIL = 0.9
_DETAIL_WINDOW = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of laying one picture over another; all values from 0 to 1.

    `correlation` compares the common area after tone, `detail` its fine structure alone. `overlap`
    is the common area and `changed` its largest difference, as shares of the frame below.
    """

    correlation: float
    detail: float
    changed: float
    overlap: float

    @property
    def is_copy(self) -> bool:
        """Whether both show one picture."""
        return (
            self.correlation >= _LEAST_CORRELATION
            and self.detail >= _LEAST_DETAIL
            and self.changed <= _MOST_CHANGED
            and self.overlap >= _LEAST_OVERLAP
        )


def similarity_of_copies(first: Picture, second: Picture) -> float | None:
    """The correlation of two copies of one picture, 0 to 1; None for other pictures."""
    found = compare(first, second)
    return found.correlation if found is not None and found.is_copy else None


def compare(first: Picture, second: Picture) -> Comparison | None:
    """Lay two pictures over each other; None if no part of one looks like the other."""
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
    """The second picture in the grey levels of the first, by the best monotonic curve."""
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
            # Medians, so that a replaced part does not bend the curve for the rest.
            knots_from.append(float(np.median(theirs[group])))
            knots_to.append(float(np.median(ours[group])))
    levels = np.maximum.accumulate(np.asarray(knots_to))
    starts = np.asarray(knots_from)
    # Beyond the outer knots the curve continues with its mean slope.
    slope = (levels[-1] - levels[0]) / max(starts[-1] - starts[0], 1.0)
    starts = np.concatenate([[starts[0] - 255], starts, [starts[-1] + 255]])
    levels = np.concatenate([[levels[0] - 255 * slope], levels, [levels[-1] + 255 * slope]])
    return np.clip(np.interp(laid.theirs, starts, levels), 0, 255).astype(np.float32)


def _largest_change(laid: Overlay) -> float:
    """The largest connected area whose grey and structure differ, as a share of the frame."""
    down, across = np.gradient(laid.ours)
    steep = np.hypot(down, across)
    shown = laid.ours[laid.inside]
    # Changes in a picture of low contrast have low contrast too.
    levels = float(np.clip(_SHARE_OF_CONTRAST * shown.std(), _LEAST_LEVELS, _LEVELS))
    differs = np.abs(laid.ours - laid.theirs) - _SHIFT_PIXELS * steep > levels
    changed = laid.inside & differs & (_structure(laid) < _LEAST_STRUCTURE)
    # Specks and lines come from codecs and edges.
    areas, count = label(binary_opening(changed, np.ones((3, 3), np.bool_)))
    return float(np.bincount(areas.ravel())[1:].max()) / areas.size if count else 0.0


def _correlation_of_detail(laid: Overlay) -> float:
    """The correlation of detail finer than a few pixels; mere noise counts as equal."""
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
    """Correlation in a window around each pixel (h, w): SSIM's structure (Wang et al. 2004)."""

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


_AT_ONCE = 64
# How many neighbours are compared; the next number if most of them are copies.
_NEIGHBOURS = (16, 64, 256)
_MOST = 0.75
# A video has vectors of up to a thousand moments, which would take the places of copies.
_PHOTOGRAPHS = AssetFilter(without=(AssetFilter(has=(Fact.VIDEO,)),))
# Prepared pictures take up to 300 kB each.
_PICTURES = 256
_REMEMBERED = 1 << 16


class Comparer:
    """Compares contents by their signatures with a cache; for one thread at a time."""

    def __init__(self, catalog: DuplicateCatalog) -> None:
        self._catalog = catalog
        self._pictures: OrderedDict[int, Picture] = OrderedDict()
        self._compared = lru_cache(_REMEMBERED)(self._compare)

    def similarity(self, first: int, second: int) -> float | None:
        """The similarity of two contents that show one picture, 0 to 1; None for others."""
        # Always in one order, because the two orders differ by rounding.
        return self._compared(min(first, second), max(first, second))

    def screen(self, near: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
        """For each content those of the others that may be copies of it."""
        named = {*near, *itertools.chain.from_iterable(near.values())}
        signatures = self._catalog.signatures(named)
        pairs = [(content, other) for content, others in near.items() for other in others]
        found: dict[int, list[int]] = {content: [] for content in near}
        size = max(1, -(-len(pairs) // usable_cores()))
        parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        for fit in itertools.chain(*share_work(partial(screen, signatures), parts)):
            first, second = (
                self._keep(content, signatures[content]) for content in (fit.first, fit.second)
            )
            slid = slid_to(first, fit.scale, fit.size, fit.place)
            if (
                fit.size == (0, 0)
                or may_lie(first, second, slid)
                or may_lie(first, second, whole_frame(first, second))
            ):
                found[fit.first].append(fit.second)
        return found

    def prepare(self, contents: Collection[int]) -> None:
        """Read the signatures of contents to compare, with one read."""
        missing = [content for content in contents if content not in self._pictures]
        for content, signature in self._catalog.signatures(missing).items():
            self._keep(content, signature)

    def picture(self, content: int) -> Picture | None:
        """The picture of a content, or None without a signature."""
        if content not in self._pictures:
            self.prepare([content])
        picture = self._pictures.get(content)
        if picture is not None:
            self._pictures.move_to_end(content)
        return picture

    def _keep(self, content: int, signature: Signature) -> Picture:
        picture = self._pictures.pop(content, None) or Picture(signature)
        self._pictures[content] = picture
        while len(self._pictures) > _PICTURES:
            self._pictures.popitem(last=False)
        return picture

    def _compare(self, first: int, second: int) -> float | None:
        ours, theirs = self.picture(first), self.picture(second)
        return None if ours is None or theirs is None else similarity_of_copies(ours, theirs)


class NeighbourComparison:
    """Compares contents with their neighbours in one channel, and stores the results."""

    def __init__(
        self,
        catalog: DuplicateCatalog,
        index: ChannelSearch,
        channel: Channel,
        comparer: Comparer,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._channel = channel
        self._comparer = comparer

    def run(
        self, *, should_stop: Callable[[], bool], advance: Callable[[int], None] = lambda done: None
    ) -> bool:
        """Compare all contents that were not compared yet, and store each portion.

        Returns False if `should_stop` ended it. At least one content is compared, so that repeated
        calls with little time also finish.
        """
        last = 0
        within = _PHOTOGRAPHS if self._catalog.has_videos() else EVERYTHING
        while contents := self._catalog.uncompared(self._channel, last, _AT_ONCE):
            last = contents[-1]
            vectors = self._catalog.image_vectors(self._channel, contents)
            # Contents may have been deleted meanwhile.
            there = [content for content in contents if content in vectors]
            near = self._neighbours(vectors, there, _NEIGHBOURS[0], within)
            done: list[int] = []
            found: list[CopyPair] = []
            stopped = False
            for content in contents:
                # One without a vector has no neighbours.
                copies = self._copies(content, vectors, near.get(content, ()), within)
                found += [
                    CopyPair(min(content, other), max(content, other), similarity)
                    for other, similarity in copies.items()
                ]
                done.append(content)
                stopped = should_stop()
                if stopped:
                    break
            self._catalog.save_comparisons(done, sorted(set(found)))
            advance(len(done))
            if stopped:
                return False
        return True

    def _copies(
        self,
        content: int,
        vectors: Mapping[int, Float32Array],
        near: Sequence[int],
        within: AssetFilter,
    ) -> dict[int, float]:
        """The neighbours of a content that show the same picture, with their similarity."""
        copies = self._compared(content, near)
        for before, count in itertools.pairwise(_NEIGHBOURS):
            if len(copies) < _MOST * (before - 1):
                break
            more = self._neighbours(vectors, [content], count, within)
            copies = self._compared(content, more[content])
        return copies

    def _compared(self, content: int, near: Sequence[int]) -> dict[int, float]:
        self._comparer.prepare([content, *near] if near else [])
        found = {other: self._comparer.similarity(content, other) for other in near}
        return {other: alike for other, alike in found.items() if alike is not None}

    def _neighbours(
        self,
        vectors: Mapping[int, Float32Array],
        contents: Sequence[int],
        count: int,
        within: AssetFilter,
    ) -> dict[int, list[int]]:
        """Those of about `count` nearest other contents that may be copies, nearest first."""
        if not contents:
            return {}
        rows = np.stack([vectors[content] for content in contents])
        of = self._index.search([ChannelQuery(self._channel, rows, count)], within)[0].contents
        return self._comparer.screen(
            {
                content: [
                    other for other in dict.fromkeys(row.tolist()) if other not in {0, content}
                ]
                for content, row in zip(contents, list(of), strict=True)
            }
        )
