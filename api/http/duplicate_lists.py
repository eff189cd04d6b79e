"""Duplicates for requests: each does a bounded share of what is still to be compared, then lists.

Comparing what a library has gained takes longer than a request may, so an answer says whether all was
compared; whoever asks again gets further. One request at a time compares, the others list meanwhile.
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
    """Some groups; `next` is the kind and place of the last where there are more.

    `waiting` says that asking again gets further. `left_out` counts those of the photographs, that pass the
    filter, which have no signature: once nothing waits, since no file with their bytes could be read.
    """

    groups: Sequence[DuplicateGroup]
    next: tuple[DuplicateKind, Place] | None
    waiting: bool
    left_out: int

    @property
    def complete(self) -> bool:
        """Whether all photographs that are analysed were compared."""
        return not self.waiting and not self.left_out


class DuplicateLists:
    """Lists the duplicates of a service's library; all methods may be called from several threads."""

    def __init__(self) -> None:
        """Nothing is looked at yet."""
        self._comparing = threading.Lock()
        # Looking whether something waits goes through the whole catalog: only when it has changed.
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
        """The next groups, after one of a kind among `kinds`; raises UsageError where that has gone."""
        parts = HomeDuplicates(library)
        waiting, unsigned = self._compare(parts, library.pipeline.id)
        left_out = parts.store.count_unsigned(chosen) if unsigned else 0
        groups: list[DuplicateGroup] = []
        if after is not None:
            # Those before it were shown.
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
        """Groups of objects after a place; all are found at once, and kept for the pages that follow."""
        # What is a copy is found meanwhile, which changes no moment.
        asked = pipeline, chosen, parts.store.moment(), waiting
        kept = self._objects_found
        if kept is None or kept[0] != asked:
            kept = asked, list(parts.finder.groups(DuplicateKind.OBJECT, chosen))
            self._objects_found = kept
        return (group for group in kept[1] if after is None or group.place > after)

    def _compare(self, parts: HomeDuplicates, pipeline: int) -> tuple[bool, bool]:
        """Compare a share of what waits, unless another request does.

        Whether something still waits, and whether anything is without signature.
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
            # The worker signs those of older homes, as far as their files are there.
            waiting = parts.finder.waiting() > 0 or (unsigned and parts.store.has_untried())
            if not waiting and not unsigned:
                # As of a moment before: what came since changes it.
                self._all_compared = now
            return waiting, unsigned
        finally:
            self._comparing.release()
