"""Bursts: photographs that one camera took within seconds and that look alike.

Runs of exposures come off the catalog in the order of time, so that only what is close in time is ever
compared. A run is cut where the picture changes: each member was compared with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from regard.core.duplicates import Exposure

# Between one exposure and the next, and between the first and the last.
_GAP = timedelta(seconds=2)
_SPAN = timedelta(seconds=30)


def runs(exposures: Iterable[Exposure]) -> Iterator[list[Exposure]]:
    """Exposures of one camera, each within seconds of the one before; of a content the first alone.

    They come in the order of camera and time; runs of one exposure are left out.
    """
    run: list[Exposure] = []
    for exposure in exposures:
        follows = (
            bool(run)
            and run[-1].camera == exposure.camera
            and exposure.taken_at - run[-1].taken_at <= _GAP
            and exposure.taken_at - run[0].taken_at <= _SPAN
        )
        if not follows:
            if len(run) > 1:
                yield run
            run = []
        if all(known.content != exposure.content for known in run):
            run.append(exposure)
    if len(run) > 1:
        yield run


def cut(
    run: list[Exposure],
    likeness: Callable[[int, int], float | None],
    is_copy: Callable[[Exposure, Exposure], bool],
) -> Iterator[dict[int, float]]:
    """The bursts of a run: contents and how alike each is to its first one, which has 1.

    Copies of an exposure that is in the burst already are left out.
    """
    burst: list[Exposure] = []
    found: dict[int, float] = {}
    for exposure in run:
        if any(is_copy(known, exposure) for known in burst):
            continue
        alike = likeness(burst[0].content, exposure.content) if burst else None
        if alike is None:
            if len(found) > 1:
                yield found
            burst, found = [], {}
        burst.append(exposure)
        found[exposure.content] = 1.0 if alike is None else alike
    if len(found) > 1:
        yield found


def are_separate_exposures(first: Exposure, second: Exposure) -> bool:
    """Whether two photographs of one camera were taken at different times, however alike they are.

    Clocks that were corrected by whole quarters of an hour, as zones differ, tell nothing.
    """
    apart = abs(first.taken_at - second.taken_at)
    return first.camera == second.camera and bool(apart % timedelta(minutes=15))
