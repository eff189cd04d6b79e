"""Chooses the moments of a video: the times at which its picture has become another one.

Frames are compared at a low rate by tiny pictures of them, so that nothing large is kept. A moment
begins where the picture differs enough from that of the last moment: at a cut, or after a slow
change. Of a minute with too many, the moments with the most sudden changes are kept, which are the
cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regard.core.records import Float32Array
from regard.photos.formats import MOMENTS_A_MINUTE

# Pixels a side of the pictures that are compared.
SIDE = 16
MOST_MOMENTS = 1000
# The mean difference, 0 to 1, of two pictures that are not alike. Of 1,770 pairs of different
# photographs, one has less than 0.075; the movement of a person changes less than 0.04.
_OTHER_PICTURE = 0.07
# The standard deviation, 0 to 1, of a picture that shows something: less has a black frame.
_LEAST_DETAIL = 0.05
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Moments:
    """The times in ms, ascending; `poster_ms`, one of them, represents the video."""

    times: tuple[int, ...]
    poster_ms: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Where a moment may begin; `change` is how much the picture has changed at once."""

    time_ms: int
    change: float
    detail: float


class MomentChooser:
    """Takes the frames of a video in the order of their times, and chooses its moments."""

    def __init__(self, moments_a_minute: int = MOMENTS_A_MINUTE, most: int = MOST_MOMENTS) -> None:
        """At most `moments_a_minute`, and `most` of all, are chosen."""
        self._a_minute = moments_a_minute
        self._most = most
        self._kept: list[_Candidate] = []
        self._minute: list[_Candidate] = []
        self._last: Float32Array | None = None
        self._begun: Float32Array | None = None

    def add(self, time_ms: int, picture: Float32Array) -> None:
        """A frame at a time, by a picture of shape (SIDE, SIDE, 3) with values from 0 to 1."""
        change = 1.0 if self._last is None else _difference(picture, self._last)
        if self._begun is None or _difference(picture, self._begun) >= _OTHER_PICTURE:
            if self._minute and time_ms // _MINUTE_MS != self._minute[0].time_ms // _MINUTE_MS:
                self._end_minute()
            self._minute.append(_Candidate(time_ms, change, float(picture.std())))
            self._begun = picture
        self._last = picture

    def choose(self, end_ms: int) -> Moments:
        """The moments of a video that ends at `end_ms`; raises ValueError without a frame.

        The poster is the moment that lasts longest, of those that are not almost of one colour.
        """
        self._end_minute()
        chosen = _strongest(self._kept, self._most)
        ends = [*(one.time_ms for one in chosen[1:]), end_ms]
        lasting = {one: end - one.time_ms for one, end in zip(chosen, ends, strict=True)}
        shown = [one for one in chosen if one.detail >= _LEAST_DETAIL] or chosen
        poster = max(shown, key=lambda one: (lasting[one], -one.time_ms))
        return Moments(tuple(one.time_ms for one in chosen), poster.time_ms)

    def _end_minute(self) -> None:
        self._kept += _strongest(self._minute, self._a_minute)
        self._minute = []


def _strongest(candidates: list[_Candidate], most: int) -> list[_Candidate]:
    """Those with the greatest changes, in the order of their times."""
    strongest = sorted(candidates, key=lambda one: (-one.change, one.time_ms))[:most]
    return sorted(strongest, key=lambda one: one.time_ms)


def _difference(first: Float32Array, second: Float32Array) -> float:
    return float(np.abs(first - second).mean())
