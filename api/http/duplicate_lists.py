"""Lists duplicates for requests. Each request compares new assets for a limited time, then lists.

Comparing all new assets can take longer than a request may, so an answer says whether the
comparison is complete; the next request continues it. One request compares at a time; others only
list.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regard.api.library.duplicates import HomeDuplicates
from regard.api.library.home import Home
from regard.core.duplicates import DuplicateGroup, DuplicateKind, Place
from regard.core.filters import AssetFilter
from regard.storage.database.change_log import Moment

_COMPARING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DuplicatePage:
    """One page of groups; `next` is the kind and place of its last group if more follow.

    `waiting` means that another request continues the comparison. `left_out` counts assets in the
    filter without a signature. When nothing is waiting, no readable file has their bytes.
    """

    groups: Sequence[DuplicateGroup]
    next: tuple[DuplicateKind, Place] | None
    waiting: bool
    left_out: int

    @property
    def complete(self) -> bool:
        """Whether all analysed photographs were compared."""
        return not self.waiting and not self.left_out


class DuplicateLists:
    """Lists the duplicates of a service's home. Thread-safe."""

    def __init__(self) -> None:
        self._comparing = threading.Lock()
        # Checking for uncompared assets scans the catalog, so check only after a change.
        self._all_compared: tuple[int, Moment] | None = None
        self._objects_found: (
            tuple[tuple[int, AssetFilter, Moment, bool], list[DuplicateGroup]] | None
        ) = None

    def page(
        self,
        library: Home,
        kinds: Sequence[DuplicateKind],
        chosen: AssetFilter,
        after: tuple[DuplicateKind, Place] | None,
        limit: int,
    ) -> DuplicatePage:
        """The groups of these kinds after a position; raises UsageError if that group no longer
        exists."""
        parts = HomeDuplicates(library)
        waiting, unsigned = self._compare(parts, library.pipeline.id)
        left_out = parts.store.count_unsigned(chosen) if unsigned else 0
        groups: list[DuplicateGroup] = []
        if after is not None:
            # Earlier kinds were on previous pages.
            kinds = kinds[kinds.index(after[0]) :]
        for kind in kinds:
            place = after[1] if after is not None and kind is after[0] else None
            found = (
                self._objects(parts, library.pipeline.id, chosen, place, waiting=waiting)
                if kind is DuplicateKind.OBJECT
                else parts.finder.groups(kind, chosen, place)
            )
            for group in found:
                if len(groups) == limit:
                    last = groups[-1]
                    return DuplicatePage(groups, (last.kind, last.place), waiting, left_out)
                groups.append(group)
        return DuplicatePage(groups, None, waiting, left_out)

    def _objects(
        self,
        parts: HomeDuplicates,
        pipeline: int,
        chosen: AssetFilter,
        after: Place | None,
        *,
        waiting: bool,
    ) -> Iterator[DuplicateGroup]:
        """Object groups after a place. All are computed at once and cached for the next pages."""
        # Comparing finds copies without advancing the change log, so `waiting` is part of the key.
        key = pipeline, chosen, parts.store.moment(), waiting
        kept = self._objects_found
        if kept is None or kept[0] != key:
            kept = key, list(parts.finder.groups(DuplicateKind.OBJECT, chosen))
            self._objects_found = kept
        return (group for group in kept[1] if after is None or group.place > after)

    def _compare(self, parts: HomeDuplicates, pipeline: int) -> tuple[bool, bool]:
        """Compare for a limited time, unless another request is comparing.

        Returns whether assets are still uncompared, and whether any have no signature.
        """
        now = pipeline, parts.store.moment()
        if self._all_compared == now:
            return False, False
        if not self._comparing.acquire(blocking=False):
            return True, True
        try:
            deadline = time.monotonic() + _COMPARING_SECONDS
            parts.finder.compare(should_stop=lambda: time.monotonic() >= deadline)
            unsigned = parts.store.count_unsigned() > 0
            # The worker adds signatures to assets of older homes whose files are available.
            waiting = parts.finder.waiting() > 0 or (unsigned and parts.store.has_untried())
            if not waiting and not unsigned:
                # The moment was read before comparing, so later changes differ from it.
                self._all_compared = now
            return waiting, unsigned
        finally:
            self._comparing.release()
