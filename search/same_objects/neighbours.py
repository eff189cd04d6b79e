"""Each thing's nearest things in other photographs, through the vector index.

The index holds every region, so it is asked for more than is needed, and for more still where parts and
the photograph's own regions took all places. What is kept is a few neighbours a thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import ChannelQuery, ChannelSearch, SearchCatalog
from regard.core.filters import AssetFilter
from regard.core.records import Channel, Float32Array, Int64Array
from regard.core.same_objects import ObjectCatalog
from regard.search.same_objects.things import Things

# Neighbours kept of a thing.
NEIGHBOURS = 40
_AT_ONCE = 128
_ASKED = (200, 800, 3200)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest things in other pictures, nearest first.

    `rows` (n, 40) are rows of the things, -1 where there are no more; `similarities` (n, 40) cosines, -1
    there.
    """

    rows: Int64Array
    similarities: Float32Array


def find_neighbours(
    things: Things,
    catalog: ObjectCatalog,
    owners: SearchCatalog,
    index: ChannelSearch,
    channel: Channel,
    chosen: AssetFilter,
    should_stop: Callable[[], bool] = lambda: False,
) -> Neighbours | None:
    """Ask the index for each thing; None where `should_stop` turned true."""
    rows = np.full((len(things), NEIGHBOURS), -1, dtype=np.int64)
    similarities = np.full((len(things), NEIGHBOURS), -1.0, dtype=np.float32)
    for start in range(0, len(things), _AT_ONCE):
        waiting = np.arange(start, min(start + _AT_ONCE, len(things)))
        ids = things.regions[waiting].tolist()
        vectors = catalog.vectors_of_regions([channel], ids)[channel]
        there = np.isfinite(vectors).all(axis=1)
        waiting, vectors = waiting[there], vectors[there]
        for asked in _ASKED:
            if not len(waiting):
                break
            if should_stop():
                return None
            scores, embeddings = index.search([ChannelQuery(channel, vectors, asked)], chosen)[0]
            found = things.rows_of(owners.owners(embeddings.ravel()).regions)
            found = found.reshape(embeddings.shape)
            short = []
            for place, thing in enumerate(waiting.tolist()):
                usable = found[place] >= 0
                usable &= things.pictures[found[place]] != things.pictures[thing]
                nearest = np.flatnonzero(usable)[:NEIGHBOURS]
                rows[thing, : len(nearest)] = found[place, nearest]
                similarities[thing, : len(nearest)] = scores[place, nearest]
                # A row of the answer that ends before its last column holds all there are.
                has_more = embeddings.shape[1] > 0 and embeddings[place, -1] >= 0
                if len(nearest) < NEIGHBOURS and has_more:
                    short.append(place)
            waiting, vectors = waiting[short], vectors[short]
    return Neighbours(rows, similarities)
