"""The time that each stage of a search takes."""

from __future__ import annotations

import time
from collections.abc import Callable

# Receives the seconds of each stage of a call: "encode", "index", "fuse", "hydrate" and "refine".
Observe = Callable[[str, float], None]


class Clock:
    """The time that each stage of a call takes, in seconds."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self.last
        self.last = now

    def stop(self, observe: Observe | None) -> float:
        """Report the stages of a call; its duration in milliseconds."""
        if observe is not None:
            for stage, seconds in self.stages.items():
                observe(stage, seconds)
        return 1000 * (self.last - self.started)
