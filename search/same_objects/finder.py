"""Finds the same object in different photographs by comparing regions.

Things are the best disjoint regions, and their candidates are the nearest things of other
photographs in the vector index (`things.py`). Four signs tell how likely a pair is one object
(`evidence.py`). Pairs become groups by average linkage: the most probable pairs come first, and
two groups merge only if the mean over all pairs between them is high, where pairs that are not
candidates count as 0. So a thing that resembles two others does not chain them together. Ties go
to the lower rows: the result is deterministic.

Each thing takes one index search, and a photograph has two to four things, so that time grows with
the square of the library if the index is exact. Memory is a few kilobytes per thing, whatever the
dimension.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard.core.catalog import ChannelSearch, SearchCatalog
from regard.core.filters import AssetFilter
from regard.core.records import Channel, Float32Array, Int64Array
from regard.core.same_objects import ObjectCatalog, SameObject, Sighting
from regard.search.same_objects.evidence import Candidates, Weights, candidates, probabilities
from regard.search.same_objects.things import Things, find_neighbours, find_things

# The least probability of a pair that starts or joins groups, and the least mean to merge two
# groups.
LEAST_PROBABILITY = 0.7
LEAST_LINKAGE = 0.5

Pairs = Mapping[tuple[int, int], float]


def pairs_of(first: Int64Array, second: Int64Array, probability: Float32Array) -> Pairs:
    """Probabilities by pair, with the lower row first."""
    return {
        (one, other): found
        for one, other, found in zip(
            first.tolist(), second.tolist(), probability.tolist(), strict=True
        )
    }


def groups(
    pairs: Pairs,
    pictures: Sequence[int],
    *,
    least_probability: float = LEAST_PROBABILITY,
    least_linkage: float = LEAST_LINKAGE,
) -> list[list[int]]:
    """Disjoint groups of two or more rows, at most one per picture, each ascending and in order.

    `pictures` has the picture of each row.
    """
    members: dict[int, list[int]] = {}
    group_of: dict[int, int] = {}
    strong = [(-found, pair) for pair, found in pairs.items() if found >= least_probability]
    for _, (one, other) in sorted(strong):
        ours, theirs = group_of.get(one, one), group_of.get(other, other)
        if ours == theirs:
            continue
        left, right = members.get(ours, [one]), members.get(theirs, [other])
        if {pictures[row] for row in left} & {pictures[row] for row in right}:
            continue
        if linkage(pairs, left, right) < least_linkage:
            continue
        kept, gone = (ours, theirs) if len(left) >= len(right) else (theirs, ours)
        members[kept] = left + right
        members.pop(gone, None)
        for row in members[kept]:
            group_of[row] = kept
    return sorted(sorted(found) for found in members.values())


def linkage(pairs: Pairs, left: Sequence[int], right: Sequence[int]) -> float:
    """Mean probability of all pairs between two groups; pairs that are no candidates count 0."""
    found = [pairs.get((min(one, other), max(one, other)), 0.0) for one in left for other in right]
    return float(np.mean(found))


# How many vectors are read at once.
_AT_ONCE = 1000
# Less probable pairs count as 0.
_UNLIKELY = 0.01
# The least mean signs of a group that are given as reasons.
_CLOSE, _THING, _MOVED, _SAME_COLOURS = 0.1, 0.5, 0.7, 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """The channel that knows the colours of regions.

    `of_rows` maps its vectors (n, d) to unit rows (n, c) without negative values.
    """

    channel: Channel
    of_rows: Callable[[Float32Array], Float32Array]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """All things of a selection, and the pairs that may be one object."""

    things: Things
    found: Candidates

    def same_objects(self, weights: Weights | None = None) -> list[SameObject]:
        """Groups, ordered by their lowest region; `weights` replace the fitted ones."""
        probability = probabilities(self.found, weights)
        likely = np.flatnonzero(probability >= _UNLIKELY)
        pairs = pairs_of(self.found.first[likely], self.found.second[likely], probability[likely])
        places = dict(zip(pairs, likely.tolist(), strict=True))
        pictures = self.things.pictures.tolist()
        return [self._object(rows, pairs, places) for rows in groups(pairs, pictures)]

    def _object(
        self, rows: Sequence[int], pairs: Pairs, places: Mapping[tuple[int, int], int]
    ) -> SameObject:
        """`places` are the places of pairs among all candidates."""
        between = [(one, other) for one in rows for other in rows if one < other]
        sums = dict.fromkeys(rows, 0.0)
        for pair in between:
            for row in pair:
                sums[row] += pairs.get(pair, 0.0)
        means = {row: total / (len(rows) - 1) for row, total in sums.items()}
        signs = self.found.signs[[places[pair] for pair in between if pair in places]].mean(axis=0)
        return SameObject(
            sightings=tuple(
                Sighting(int(self.things.contents[row]), int(self.things.regions[row]), means[row])
                for row in sorted(rows, key=lambda row: (-means[row], row))
            ),
            certainty=sum(means.values()) / len(rows),
            reasons=tuple(_reasons(len(rows), signs.tolist())),
        )


class ObjectFinder:
    """Finds objects over one channel of regions; may be called from several threads.

    The last comparison is cached until something changes, so that the pages of a list need it only
    once.
    """

    def __init__(
        self,
        catalog: ObjectCatalog,
        owners: SearchCatalog,
        index: ChannelSearch,
        channel: Channel,
        colours: Colours | None = None,
    ) -> None:
        """Nothing is read yet."""
        self._catalog = catalog
        self._owners = owners
        self._index = index
        self._channel = channel
        self._colours = colours
        self._comparing = threading.Lock()
        self._last: tuple[object, Compared] | None = None

    def compare(
        self,
        chosen: AssetFilter,
        pictures: Mapping[int, int],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Compared | None:
        """Compare the things of all photographs that pass; None if `should_stop` ended it.

        `pictures` maps contents that are copies or one burst to a common number, that of one of
        them: they count as one photograph.
        """
        with self._comparing:
            # Read first, so that changes during the comparison invalidate the cache.
            key = (self._catalog.moment(), chosen, dict(pictures))
            if self._last is not None and self._last[0] == key:
                return self._last[1]
            compared = self._compare(chosen, pictures, should_stop)
            if compared is not None:
                self._last = (key, compared)
            return compared

    def _compare(
        self, chosen: AssetFilter, pictures: Mapping[int, int], should_stop: Callable[[], bool]
    ) -> Compared | None:
        things = find_things(
            self._catalog.content_regions(chosen), lambda content: pictures.get(content, content)
        )
        if self._colours is not None:
            things = replace(things, colours=self._read_colours(self._colours, things))
        neighbours = find_neighbours(
            things, self._catalog, self._owners, self._index, self._channel, chosen, should_stop
        )
        return None if neighbours is None else Compared(things, candidates(things, neighbours))

    def _read_colours(self, colours: Colours, things: Things) -> Float32Array:
        """The colours of all things (n, c)."""
        found = []
        for start in range(0, len(things), _AT_ONCE) or (0,):
            ids = things.regions[start : start + _AT_ONCE].tolist()
            rows = self._catalog.vectors_of_regions([colours.channel], ids)[colours.channel]
            # Things deleted meanwhile have no neighbours either.
            found.append(colours.of_rows(np.nan_to_num(rows)))
        return np.concatenate(found)


def _reasons(count: int, signs: Sequence[float]) -> Iterator[str]:
    """The reasons for a group, from the means of its signs."""
    closeness, objectness, displacement, *colours = signs
    yield f"alike in {count} photographs"
    if closeness >= _CLOSE:
        yield "closer to each other than to what else is like them"
    if objectness >= _THING:
        yield f"more like things than {math.floor(100 * objectness)} % of all regions"
    if colours and colours[0] >= _SAME_COLOURS:
        yield "of the same colours"
    if displacement >= _MOVED:
        yield "in other places of the pictures"
