"""What an indexing run did, and how it tells of its progress."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Protocol

from regard.core.catalog import Failure


@dataclass(slots=True)
class IndexReport:
    """Counts of one run. `failures` also holds those that stand from before under the same roots.

    `unseen` are those of them that no asset stands for: folders that could not be looked into, and files
    that were seen before and can't be now.
    """

    indexed: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    regions: int = 0
    captions: int = 0
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
            "failed": len(self.failures),
            "regions": self.regions,
            "captions": self.captions,
            "seconds": round(self.seconds, 3),
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
        }


class Progress(Protocol):
    """Told how far a run is; called from several threads."""

    def expect(self, total: int) -> None:
        """So many files need work."""

    def advance(self) -> None:
        """One of them is done."""
