"""Finds the same object in different photographs by comparing regions.

Things are the best disjoint regions, and their candidates are the nearest things of other
photographs in the vector index. Four signs tell how likely a pair is one object (`evidence.py`),
and pairs become groups by average linkage (`groups.py`).

Each content is compared once, with all contents of the catalog, and its likely pairs are stored:
nothing is compared again when assets change. It is compared again when the number of contents has
doubled, because its nearest neighbours tell how special a likeness is; so a library that grows one
by one compares each content about two and a half times in all. Groups are built from all stored
pairs after each comparison, in time proportional to their number.

The vector index holds every region, not only things. So it is asked for more neighbours than
needed, and for still more if parts and the photograph's own regions took all places.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard.core.catalog import ChannelQuery, ChannelSearch
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Channel, Float32Array, Int64Array
from regard.core.same_objects import (
    PAIR,
    ContentRegions,
    ContentThings,
    ObjectCatalog,
    Rows,
    SameObject,
    Sighting,
)
from regard.search.same_objects.evidence import (
    SIGNS,
    Candidates,
    Weights,
    candidates,
    likelihoods,
    local_mean,
    probabilities,
    signs_of,
    typical_distance,
)
from regard.search.same_objects.groups import groups
from regard.search.same_objects.things import Colours, Things, find_things, gather

# Contents whose things are found, and things that are compared and stored, at once.
_AT_ONCE = 64
# How many neighbours of a thing are its candidates. The index is asked for somewhat more regions
# than hold as many things on average, and for more if these are not enough.
_NEIGHBOURS = 40
_ASKED_MORE = 1.4
_AGAIN, _MOST_ASKED = 4, 3200
# Pairs less likely than this are not stored; less likely than the other count as 0 in groups. The
# first leaves room for what changes as the library grows.
_LEAST_STORED = 0.001
_UNLIKELY = 0.01
# The least mean signs of a group that are given as reasons.
_CLOSE, _THING, _MOVED, _SAME_COLOURS = 0.1, 0.5, 0.7, 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """All things that were compared, and the pairs that may be one object."""

    things: Things
    found: Candidates

    def same_objects(self, weights: Weights | None = None) -> list[SameObject]:
        """Groups, by number; `weights` replace the fitted ones."""
        probability = probabilities(self.found, weights)
        likely = np.flatnonzero(probability >= _UNLIKELY)
        rows = zip(
            self.found.first[likely].tolist(), self.found.second[likely].tolist(), strict=True
        )
        places = dict(zip(rows, likely.tolist(), strict=True))
        pairs = dict(zip(places, probability[likely].tolist(), strict=True))
        pictures, contents = self.things.pictures.tolist(), self.things.contents.tolist()
        return [self._object(rows, pairs, places) for rows in groups(pairs, pictures, contents)]

    def _object(
        self,
        rows: Sequence[int],
        pairs: Mapping[tuple[int, int], float],
        places: Mapping[tuple[int, int], int],
    ) -> SameObject:
        """`places` are the places of pairs among all candidates."""
        things = self.things
        sums, counts = dict.fromkeys(rows, 0.0), dict.fromkeys(rows, 0)
        signs = []
        for pair in itertools.combinations(rows, 2):
            if things.pictures[pair[0]] == things.pictures[pair[1]]:
                continue
            for row in pair:
                sums[row] += pairs.get(pair, 0.0)
                counts[row] += 1
            if pair in places:
                signs.append(places[pair])
        means = {row: sums[row] / counts[row] for row in rows}
        return SameObject(
            number=int(things.regions[rows].min()),
            sightings=tuple(
                Sighting(
                    int(things.contents[row]),
                    int(things.regions[row]),
                    int(things.pictures[row]),
                    means[row],
                )
                for row in sorted(rows, key=lambda row: (-means[row], row))
            ),
            signs=tuple(self.found.signs[signs].mean(axis=0).tolist()),
        )


class ThingComparer:
    """Compares things with their neighbours in one channel of regions."""

    def __init__(
        self,
        catalog: ObjectCatalog,
        index: ChannelSearch,
        channel: Channel,
        colours: Colours | None = None,
    ) -> None:
        """Nothing is read yet."""
        self._catalog = catalog
        self._index = index
        self._channel = channel
        self._colours = colours

    def find_things(self, contents: Sequence[ContentRegions]) -> list[ContentThings]:
        """The things of contents, which are not compared yet."""
        return find_things(contents, self._catalog, self._colours)

    def compare_all(self, contents: Sequence[ContentRegions], chosen: AssetFilter) -> Compared:
        """Compare all things of contents with each other, as a library of these alone.

        `chosen` passes these contents and no others.
        """
        found = [
            thing
            for start in range(0, len(contents), _AT_ONCE)
            for thing in self.find_things(contents[start : start + _AT_ONCE])
        ]
        things = gather(found, {})
        rows = [
            self.compare(things, np.arange(start, min(start + _AT_ONCE, len(things))), chosen, 0.0)
            for start in range(0, len(things), _AT_ONCE)
        ]
        pairs = np.concatenate([np.empty(0, PAIR), *rows])
        return compared_things(things, pairs)

    def compare(
        self,
        things: Things,
        rows: Int64Array,
        chosen: AssetFilter = EVERYTHING,
        least: float = _LEAST_STORED,
    ) -> Rows:
        """The pairs of these rows with candidates, of dtype `PAIR`, that are at least so likely.

        Sets `local` and `neighbours` of the rows.
        """
        found, similarities = self._neighbours(things, rows, chosen)
        there = found >= 0
        things.neighbours[rows] = there.sum(axis=1)
        things.local[rows] = local_mean(np.where(there, similarities, np.nan), len(things))
        places, columns = np.nonzero(there)
        ones, others = rows[places], found[places, columns]
        cosine = similarities[places, columns]
        if least > 0:
            unit = typical_distance(things.local)
            likely = likelihoods(signs_of(things, ones, others, cosine, unit)) >= least
            ones, others, cosine = ones[likely], others[likely], cosine[likely]
        pairs = np.empty(len(ones), PAIR)
        pairs["region"], pairs["other"] = things.regions[ones], things.regions[others]
        pairs["cosine"] = cosine
        return pairs

    def _neighbours(
        self, things: Things, asked: Int64Array, chosen: AssetFilter
    ) -> tuple[Int64Array, Float32Array]:
        """The nearest things in other pictures, nearest first: rows and cosines (n, 40).

        Both are -1 where there are no more.
        """
        rows = np.full((len(asked), _NEIGHBOURS), -1, dtype=np.int64)
        similarities = np.full((len(asked), _NEIGHBOURS), -1.0, dtype=np.float32)
        ids = things.regions[asked].tolist()
        vectors = self._catalog.vectors_of_regions([self._channel], ids)[self._channel]
        waiting = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        count = round(_ASKED_MORE * _NEIGHBOURS / max(things.share_of_regions, 0.1))
        while len(waiting):
            query = ChannelQuery(self._channel, vectors[waiting], count)
            scores, embeddings, _, regions = self._index.search([query], chosen)[0]
            found = things.rows_of(regions.ravel()).reshape(regions.shape)
            pictures = things.pictures[asked[waiting]][:, None]
            usable = (found >= 0) & (things.pictures[found] != pictures)
            # The usable ones first, in their order.
            order = np.argsort(~usable, axis=1, kind="stable")[:, :_NEIGHBOURS]
            is_usable = np.take_along_axis(usable, order, axis=1)
            width = order.shape[1]
            rows[waiting, :width] = np.where(
                is_usable, np.take_along_axis(found, order, axis=1), -1
            )
            similarities[waiting, :width] = np.where(
                is_usable, np.take_along_axis(scores, order, axis=1), -1
            )
            if not embeddings.shape[1] or count >= _MOST_ASKED:
                break
            # A row that does not fill its last column holds everything.
            is_short = (usable.sum(axis=1) < _NEIGHBOURS) & (embeddings[:, -1] >= 0)
            waiting = waiting[is_short]
            count = min(_AGAIN * count, _MOST_ASKED)
        return rows, similarities


def compared_things(things: Things, pairs: Rows) -> Compared:
    """What was compared, from pairs of dtype `PAIR`; those of deleted things are left out."""
    ones, others = things.rows_of(pairs["region"]), things.rows_of(pairs["other"])
    known = (ones >= 0) & (others >= 0)
    # Copies may have been found since.
    known &= things.pictures[ones] != things.pictures[others] if len(things) else known
    return Compared(things, candidates(things, ones[known], others[known], pairs["cosine"][known]))


class ObjectComparison:
    """Keeps the stored pairs and groups up to date; for one thread at a time.

    `load_pictures` maps contents that count as one photograph to a common number, that of one of
    them: copies and what one camera took within seconds.
    """

    def __init__(
        self,
        catalog: ObjectCatalog,
        comparer: ThingComparer,
        load_pictures: Callable[[], Mapping[int, int]],
    ) -> None:
        """Nothing is read yet."""
        self._catalog = catalog
        self._comparer = comparer
        self._load_pictures = load_pictures

    def waiting(self) -> int:
        """How many steps are left: two for a new content, one to compare one again.

        1 if only the groups have to be built.
        """
        waiting = 2 * self._catalog.count_without_things() + self._catalog.count_due()
        return waiting or int(self._catalog.comparisons() != self._catalog.grouped_comparisons())

    def run(
        self, *, should_stop: Callable[[], bool], advance: Callable[[int], None] = lambda done: None
    ) -> bool:
        """Compare all contents that wait and build groups; results are stored as they come.

        Returns False if `should_stop` ended it. At least one portion is compared, so that repeated
        calls with little time also finish.
        """
        if not self._find_things(should_stop, advance):
            return False
        if not self.waiting():
            return True
        is_due = self._catalog.count_due() > 0
        pictures = self._load_pictures()
        if not self._compare(pictures, should_stop, advance):
            return False
        comparisons = self._catalog.comparisons()
        pairs = [np.empty(0, PAIR)]

        def keep_pairs() -> Iterator[ContentThings]:
            for content in self._catalog.stored_things():
                pairs.append(content.pairs)
                yield content

        things = gather(keep_pairs(), pictures)
        objects = compared_things(things, np.concatenate(pairs)).same_objects()
        self._catalog.save_groups(objects, comparisons)
        if not is_due:
            advance(1)
        return True

    def _find_things(self, should_stop: Callable[[], bool], advance: Callable[[int], None]) -> bool:
        last = 0
        while contents := self._catalog.without_things(last, _AT_ONCE):
            last = contents[-1]
            self._catalog.save_things(
                self._comparer.find_things(self._catalog.regions_of(contents))
            )
            advance(len(contents))
            if should_stop():
                return False
        return True

    def _compare(
        self,
        pictures: Mapping[int, int],
        should_stop: Callable[[], bool],
        advance: Callable[[int], None],
    ) -> bool:
        among: dict[int, int] = {}
        counts: dict[int, int] = {}

        def keep_counts() -> Iterator[ContentThings]:
            for content in self._catalog.stored_things():
                among[content.content] = content.among
                counts[content.content] = len(content.things)
                yield content

        things = gather(keep_counts(), pictures)
        due = {
            content: counts[content]
            for content, before in among.items()
            if 2 * before <= len(among)
        }
        for contents in _portions(due):
            portion = [
                content
                for content in self._catalog.stored_things(contents)
                # Another process may have found other things meanwhile.
                if (things.rows_of(content.things["region"]) >= 0).all()
            ]
            regions = [content.things["region"] for content in portion]
            rows = things.rows_of(np.concatenate([np.empty(0, np.int64), *regions]))
            pairs = self._comparer.compare(things, rows)
            self._catalog.save_comparisons(
                [_with_results(content, things, pairs, among=len(among)) for content in portion]
            )
            advance(len(contents))
            if should_stop():
                return False
        return True


def _portions(counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Contents with their numbers of things, in portions of no more things than are searched at
    once if possible."""
    portion: list[int] = []
    things = 0
    for content, count in counts.items():
        if portion and things + count > _AT_ONCE:
            yield portion
            portion, things = [], 0
        portion.append(content)
        things += count
    if portion:
        yield portion


def _with_results(
    content: ContentThings, things: Things, pairs: Rows, *, among: int
) -> ContentThings:
    rows = things.rows_of(content.things["region"])
    compared = content.things.copy()
    compared["local"], compared["neighbours"] = things.local[rows], things.neighbours[rows]
    own = np.isin(pairs["region"], compared["region"])
    return replace(content, things=compared, pairs=pairs[own], among=among)


def reasons(signs: Sequence[float], count: int) -> Iterator[str]:
    """The reasons for a group of so many photographs, from the means of its signs."""
    means = dict(zip(SIGNS, signs, strict=False))
    yield f"alike in {count} photographs"
    if means["closeness"] >= _CLOSE:
        yield "closer to each other than to what else is like them"
    if means["objectness"] >= _THING:
        yield f"more like things than {math.floor(100 * means['objectness'])} % of all regions"
    if means.get("colours", 0.0) >= _SAME_COLOURS:
        yield "of the same colours"
    if means["displacement"] >= _MOVED:
        yield "in other places of the pictures"
