"""Duplicates for requests: each does a bounded share of what is still to be compared, then lists.

Comparing what a library has gained takes longer than a request may, so an answer says whether all was
compared; whoever asks again gets further. One request at a time compares, the others list meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from regard.api.duplicates import LibraryDuplicates
from regard.api.wiring import Library
from regard.core.decoding import DecodeLimits
from regard.core.duplicates import DuplicateGroup, DuplicateKind, Place
from regard.core.filters import AssetFilter
from regard.storage.change_log import Moment

_COMPARING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DuplicatePage:
    """Some groups; `next` is the kind and place of the last where there are more.

    `complete` says that all photographs that are analysed were compared.
    """

    groups: Sequence[DuplicateGroup]
    next: tuple[DuplicateKind, Place] | None
    complete: bool


class DuplicateLists:
    """Lists the duplicates of a service's library; all methods may be called from several threads."""

    def __init__(self, limits: DecodeLimits, folders: Callable[[], Sequence[bytes]]) -> None:
        """`folders` are those that files may be read from."""
        self._limits = limits
        self._folders = folders
        self._comparing = threading.Lock()
        # New contents come with signatures: older ones are gone through once.
        self._signed_through = 0
        # Looking whether something waits goes through the whole catalog: only when it has changed.
        self._complete_at: tuple[int, Moment] | None = None
        self._objects_found: (
            tuple[tuple[int, AssetFilter, Moment, bool], list[DuplicateGroup]] | None
        ) = None

    def page(
        self,
        library: Library,
        kinds: Sequence[DuplicateKind],
        chosen: AssetFilter,
        after: tuple[DuplicateKind, Place] | None,
        limit: int,
    ) -> DuplicatePage:
        """The next groups, after one of a kind among `kinds`; raises UsageError where that has gone."""
        parts = LibraryDuplicates(library)
        complete = self._compare(parts, library.pipeline.id)
        groups: list[DuplicateGroup] = []
        if after is not None:
            # Those before it were shown.
            kinds = kinds[kinds.index(after[0]) :]
        for kind in kinds:
            place = after[1] if after is not None and kind is after[0] else None
            found = (
                self._objects(parts, library.pipeline.id, chosen, place, complete=complete)
                if kind is DuplicateKind.OBJECT
                else parts.finder.groups(kind, chosen, place)
            )
            for group in found:
                if len(groups) == limit:
                    last = groups[-1]
                    return DuplicatePage(groups, (last.kind, last.place), complete)
                groups.append(group)
        return DuplicatePage(groups, None, complete)

    def _objects(
        self,
        parts: LibraryDuplicates,
        pipeline: int,
        chosen: AssetFilter,
        after: Place | None,
        *,
        complete: bool,
    ) -> Iterator[DuplicateGroup]:
        """Groups of objects after a place; all are found at once, and kept for the pages that follow."""
        # What is a copy is found meanwhile, which changes no moment.
        asked = pipeline, chosen, parts.store.moment(), complete
        kept = self._objects_found
        if kept is None or kept[0] != asked:
            kept = asked, list(parts.finder.groups(DuplicateKind.OBJECT, chosen))
            self._objects_found = kept
        return (group for group in kept[1] if after is None or group.place > after)

    def _compare(self, parts: LibraryDuplicates, pipeline: int) -> bool:
        """Compare a share of what waits, unless another request does; whether nothing waits."""
        now = parts.store.moment()
        if self._complete_at == (pipeline, now):
            return True
        if not self._comparing.acquire(blocking=False):
            return False
        try:
            self._go_on(parts)
            if parts.store.has_unsigned(self._signed_through) or parts.finder.waiting():
                return False
            # As of a moment before: what came since changes it.
            self._complete_at = pipeline, now
            return True
        finally:
            self._comparing.release()

    def _go_on(self, parts: LibraryDuplicates) -> None:
        deadline = time.monotonic() + _COMPARING_SECONDS

        def is_over() -> bool:
            return time.monotonic() >= deadline

        report = parts.sign(
            after=self._signed_through,
            within=self._folders(),
            limits=self._limits,
            should_stop=is_over,
        )
        self._signed_through = report.through
        if not is_over():
            parts.finder.compare(should_stop=is_over)
