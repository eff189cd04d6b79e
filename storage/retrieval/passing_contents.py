"""The contents that pass a filter, cached: those that have an asset that passes.

They are kept for the last filters until assets change. Either the contents that pass or those that
do not are listed, whichever are fewer, so that neither a narrow filter nor a wide one reads much.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from sqlalchemy import Connection, Select, func, select

from regard.core.errors import NotFound
from regard.core.filters import AssetFilter
from regard.core.idset import IdSet
from regard.core.records import Int64Array
from regard.storage.assets.filters import hidden_contents, passing_contents
from regard.storage.database import schema

_CACHED_FILTERS = 32
_content = schema.content.c


class PassingContents:
    """Sets of contents by filter; any number of threads may use one."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._lock = threading.Lock()
        self._cache: OrderedDict[AssetFilter, tuple[int, IdSet | None]] = OrderedDict()

    def read(self, connection: Connection, asset_filter: AssetFilter, version: int) -> IdSet | None:
        """The contents that pass, None for all, as the connection sees them.

        `version` is that of the assets it sees. Raises NotFound for an unknown collection.
        """
        allowed = _read(connection, asset_filter)
        with self._lock:
            # Another thread may have read a later version.
            if asset_filter not in self._cache or self._cache[asset_filter][0] <= version:
                self._cache[asset_filter] = (version, allowed)
                self._cache.move_to_end(asset_filter)
            if len(self._cache) > _CACHED_FILTERS:
                self._cache.popitem(last=False)
        return allowed

    def cached(self, asset_filter: AssetFilter, version: int) -> tuple[IdSet | None] | None:
        """What was read at this version of the assets, as a tuple of one, or None."""
        with self._lock:
            cached = self._cache.get(asset_filter)
            if cached is None or cached[0] != version:
                return None
            self._cache.move_to_end(asset_filter)
            return (cached[1],)


def _read(connection: Connection, asset_filter: AssetFilter) -> IdSet | None:
    require_collections(connection, asset_filter)
    if asset_filter.is_everything:
        hidden = _ids(connection, hidden_contents())
        return IdSet(hidden, complement=True) if hidden.size else None
    ids = _ids(connection, passing_contents(asset_filter))
    total = connection.execute(select(func.count()).select_from(schema.content)).scalar_one()
    if len(ids) == total:
        return None
    if 2 * len(ids) <= total:
        return IdSet(ids)
    return IdSet(np.setdiff1d(_ids(connection, select(_content.id)), ids), complement=True)


def _ids(connection: Connection, contents: Select[tuple[int]]) -> Int64Array:
    """The ids that a query selects, ascending, each once."""
    return np.unique(np.fromiter(connection.execute(contents).scalars(), np.int64))


def require_collections(connection: Connection, asset_filter: AssetFilter) -> None:
    """Raise NotFound for a collection that the filter names and that does not exist."""
    named = asset_filter.named_collections
    if not named:
        return
    names = set(connection.execute(select(schema.collection.c.name)).scalars())
    for name in named:
        if name not in names:
            raise NotFound(
                f"no collection is named {name}",
                remedy="the collections are: " + (", ".join(sorted(names)) or "none"),
            )
