"""Counts over assets, kept in memory until assets change: counting takes longer than all else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from regard.storage.database.change_log import assets_version

# Of each kind.
_KEPT = 64
_Counts = TypeVar("_Counts")


class KeptCounts:
    """What was counted last, by kind and key; any number of threads may use one.

    Each kind has room of its own: a map that is moved counts by boxes that are not asked for again.
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._lock = threading.Lock()
        self._kept: dict[str, OrderedDict[Hashable, tuple[int, Any]]] = {}

    def read(
        self, connection: Connection, kind: str, key: Hashable, count: Callable[[], _Counts]
    ) -> _Counts:
        """What `count` returns, or what it returned for this key since assets last changed."""
        version = assets_version(connection)
        with self._lock:
            of_kind = self._kept.setdefault(kind, OrderedDict())
            kept = of_kind.get(key)
            if kept is not None and kept[0] == version:
                of_kind.move_to_end(key)
                return cast(_Counts, kept[1])
        counts = count()
        with self._lock:
            of_kind[key] = version, counts
            of_kind.move_to_end(key)
            if len(of_kind) > _KEPT:
                of_kind.popitem(last=False)
        return counts
