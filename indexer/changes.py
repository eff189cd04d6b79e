"""Paths with recent events, until they are quiet.

A file that is copied makes events as long as it is written, and many files make many events.
`Changes` gives each path once, together with the others that are quiet by then.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from regard.indexer.discover import distinct_roots

# A file is whole once nothing has happened to it for so long.
QUIET_SECONDS = 1.0
# Events come a little later than what they tell of.
_WAIT_SECONDS = QUIET_SECONDS + 0.5
# While some paths are never quiet, the others wait for company no longer than this.
_LONGEST_WAIT_SECONDS = 2.5
_MOST = 10_000
# Of so many paths, each is looked at; of more, their folders, or all of the root.
MOST_PARTS = 200


class Changes:
    """The paths at or below a root that may have changed, and when each was last heard of."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._heard: dict[bytes, float] = {}

    def add(self, paths: Iterable[bytes], now: float) -> None:
        """Something was heard of the paths. Times are those of one steady clock, in seconds."""
        for path in paths:
            self._heard[path] = now
        if len(self._heard) > _MOST:
            self._heard = dict.fromkeys(coarsened(self._heard, _MOST // 2, self._root), now)

    def take(self, now: float) -> list[bytes]:
        """The quiet paths, which are forgotten; none before it is time for a look at them."""
        if not self._heard:
            return []
        times = self._heard.values()
        if max(times) > now - _WAIT_SECONDS and min(times) > now - _LONGEST_WAIT_SECONDS:
            return []
        quiet = [path for path, heard in self._heard.items() if heard <= now - _WAIT_SECONDS]
        for path in quiet:
            del self._heard[path]
        return quiet


def coarsened(paths: Collection[bytes], most: int, root: bytes) -> list[bytes]:
    """At most `most` paths that all of the paths, which lie below the root, lie at or below.

    In byte order, none below another: the paths themselves, or their folders, or the root.
    """
    kept = distinct_roots(paths)
    if len(kept) > most:
        kept = distinct_roots(path if path == root else os.path.dirname(path) for path in kept)
    return kept if len(kept) <= most else [root]
