"""What an indexing run did, and what follows the progress of long operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from regard.core.catalog import Failure


@dataclass(slots=True)
class IndexReport:
    """The counts of one run.

    `failures` includes earlier ones under the same roots that still stand. `unseen` are those that
    have no asset: unreadable folders, and known files that can't be reached now. `left_out` counts
    the photographs and folders that exclusions leave out, a folder once; if they were indexed
    before, their assets are among the `removed`.
    `damaged_sidecars` counts those of the files read that could not be read, or only in part.
    `skipped_videos` counts those that can't be decoded for want of the package.
    `read` counts the photographs whose text was read after that, and `lines` its lines.
    """

    indexed: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    left_out: int = 0
    regions: int = 0
    captions: int = 0
    damaged_sidecars: int = 0
    skipped_videos: int = 0
    read: int = 0
    lines: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    failures: list[Failure] = field(default_factory=list)
    unseen: list[Failure] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "indexed": self.indexed,
            "unchanged": self.unchanged,
            "moved": self.moved,
            "removed": self.removed,
            "left_out": self.left_out,
            "failed": len(self.failures),
            "regions": self.regions,
            "captions": self.captions,
            "damaged_sidecars": self.damaged_sidecars,
            "skipped_videos": self.skipped_videos,
            "read": self.read,
            "lines": self.lines,
            "seconds": round(self.seconds, 3),
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
        }


class Progress:
    """Follows a long operation, and may stop it. This one does neither; override what is needed.

    All methods but `begin` are called from several threads.
    """

    def begin(self, stage: str) -> None:
        """A stage begins, such as "indexing"."""

    def expect(self, total: int) -> None:
        """The stage has `total` items."""

    def advance(self, count: int = 1) -> None:
        """`count` items more are done."""

    def note(self, sentence: str) -> None:
        """The operation has something to say, such as what it waits for."""

    def should_stop(self) -> bool:
        """Whether to finish what is begun and return; the same call carries on later."""
        return False


SILENT = Progress()


class Stoppable(Progress):
    """Stops the operation once a function says so."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def should_stop(self) -> bool:
        """See `Progress`."""
        return self._should_stop()
