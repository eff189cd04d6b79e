"""Counts over assets, kept in memory until assets change: counting takes longer than all else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from regard.storage.database.change_log import assets_version

_KEPT = 64
_Counts = TypeVar("_Counts")


class KeptCounts:
    """What was counted last, by a key; any number of threads may use one."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    def read(self, connection: Connection, key: Hashable, count: Callable[[], _Counts]) -> _Counts:
        """What `count` returns, or what it returned for this key since assets last changed."""
        version = assets_version(connection)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[0] == version:
            return cast(_Counts, kept[1])
        counts = count()
        with self._lock:
            self._kept[key] = version, counts
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return counts
