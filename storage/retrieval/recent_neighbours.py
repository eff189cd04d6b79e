"""The last answers of vector indexes, so that later pages of a query search nothing.

They hold for one moment of the catalog, and all go with the next.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from regard.core.catalog import Neighbours
from regard.core.filters import AssetFilter
from regard.core.records import Channel
from regard.storage.database.change_log import Moment

# Neighbours that are kept, of 28 bytes each.
_KEPT = 1 << 20
# Searches of more queries at once are not made by people who turn pages.
_MOST_QUERIES = 32

# The channel, the filter, whether the search is exact, and the queries' vectors.
QueryKey = tuple[Channel, AssetFilter, bool, bytes]


class RecentNeighbours:
    """Answers by query; any number of threads may use them."""

    def __init__(self, moment: Moment) -> None:
        """Nothing is kept yet."""
        self.moment = moment
        self._lock = threading.Lock()
        self._answers: OrderedDict[QueryKey, Neighbours] = OrderedDict()
        self._count = 0

    def get(self, key: QueryKey, k: int) -> Neighbours | None:
        """An answer with at least `k` neighbours, or all there are, cut to `k`."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return None
            self._answers.move_to_end(key)
        width = found.ids.shape[1]
        is_whole = width == 0 or bool((found.ids[:, -1] < 0).all())
        if width < k and not is_whole:
            return None
        first = slice(None), slice(k)
        return Neighbours(
            found.scores[first], found.ids[first], found.contents[first], found.regions[first]
        )

    def keep(self, key: QueryKey, found: Neighbours) -> None:
        """Keep an answer, in place of those used longest ago."""
        if len(found.ids) > _MOST_QUERIES or found.ids.size > _KEPT:
            return
        with self._lock:
            replaced = self._answers.pop(key, None)
            self._count += found.ids.size - (0 if replaced is None else replaced.ids.size)
            self._answers[key] = found
            while self._count > _KEPT:
                self._count -= self._answers.popitem(last=False)[1].ids.size
