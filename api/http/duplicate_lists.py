"""Duplicates for requests: each does a bounded share of what is still to be compared, then lists.

Comparing what a library has gained takes longer than a request may, so an answer says whether all was
compared; whoever asks again gets further. One request at a time compares, the others list meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from regard.api.duplicates import LibraryDuplicates
from regard.api.wiring import Library
from regard.core.decoding import DecodeLimits
from regard.core.duplicates import DuplicateGroup, DuplicateKind, Place
from regard.core.filters import AssetFilter

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
        if self._comparing.acquire(blocking=False):
            try:
                self._go_on(parts)
            finally:
                self._comparing.release()
        groups: list[DuplicateGroup] = []
        if after is not None:
            # Those before it were shown.
            kinds = kinds[kinds.index(after[0]) :]
        for kind in kinds:
            place = after[1] if after is not None and kind is after[0] else None
            for group in parts.finder.groups(kind, chosen, place):
                if len(groups) == limit:
                    last = groups[-1]
                    return DuplicatePage(groups, (last.kind, last.place), self._is_complete(parts))
                groups.append(group)
        return DuplicatePage(groups, None, self._is_complete(parts))

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
        parts.finder.compare(should_stop=is_over)

    def _is_complete(self, parts: LibraryDuplicates) -> bool:
        return not parts.store.has_unsigned(self._signed_through) and not parts.finder.waiting()
