"""The same object in different photographs: what is grouped, and what only looks like it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.catalog import ChannelQuery, Neighbours
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.records import Channel, Float32Array, Kind, Region
from regard.core.same_objects import ContentRegions, ContentThings, SameObject
from regard.photos.masks import decode_mask, mask_from_box
from regard.search.same_objects.evidence import Candidates, Weights, probabilities
from regard.search.same_objects.finder import ObjectComparison, ThingComparer, reasons
from regard.search.same_objects.groups import groups
from regard.search.same_objects.things import Colours, best_disjoint, find_things, gather

CHANNEL = Channel("s", Kind.REGION)
COLOURS = Channel("c", Kind.REGION)
SIDE = 100
DIMENSION = 512
# Boxes that hardly meet, so that nothing stays in its place unless a test wants it to.
PLACES = [Box(x, y, 30, 30) for x in (0, 35, 70) for y in (0, 35, 70)]


def region(box: Box, score: float) -> Region:
    return Region(box, mask_from_box(SIDE, SIDE, box), box.area, score)


def direction(seed: int) -> Float32Array:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Shelf:
    """Photographs of things, stored and searched exactly as a home does."""

    def __init__(self) -> None:
        self.contents: list[ContentRegions] = []
        self.rows: dict[int, Float32Array] = {}
        self.colours: dict[int, Float32Array] = {}
        self.content_of: dict[int, int] = {}
        self.stored: dict[int, ContentThings] = {}
        self.compared: list[int] = []
        self.saved = self.grouped = 0
        self.found: Sequence[SameObject] = ()

    def photograph(self, *shown: tuple[int, Box, float]) -> int:
        """Add things by number, with their places and objectness; the content's id."""
        content = len(self.contents) + 1
        ids = []
        for number, _, _ in shown:
            name = len(self.rows) + 1
            noise = direction(10_000 + name)
            row = direction(number) + 0.5 * noise
            self.rows[name] = row / np.linalg.norm(row)
            # Things of other numbers are of other colours; a little differs each time.
            colour = np.full(11, 0.02, np.float32)
            colour[number % 11] = 1
            colour += 0.02 * np.abs(noise[:11])
            self.colours[name] = colour / np.linalg.norm(colour)
            self.content_of[name] = content
            ids.append(name)
        regions = tuple(region(box, score) for _, box, score in shown)
        self.contents.append(ContentRegions(content, SIDE, SIDE, tuple(ids), regions))
        return content

    def background(self, seed: int) -> tuple[tuple[int, Box, float], ...]:
        """Scraps that look like nothing, each like no other."""
        return tuple((1000 + 10 * seed + n, PLACES[n], 0.1 + 0.01 * n) for n in range(3))

    def find(
        self,
        *,
        pictures: Mapping[int, int] | None = None,
        colours: bool = True,
    ) -> list[SameObject]:
        comparison = self.comparison(pictures, colours=colours)
        assert comparison.run(should_stop=lambda: False)
        assert not comparison.waiting()
        return list(self.found)

    def comparison(
        self, pictures: Mapping[int, int] | None = None, *, colours: bool = True
    ) -> ObjectComparison:
        of_rows = Colours(COLOURS, lambda rows: rows) if colours else None
        comparer = ThingComparer(self, self, CHANNEL, of_rows)  # type: ignore[arg-type]
        return ObjectComparison(self, comparer, lambda: pictures or {})  # type: ignore[arg-type]

    def count_without_things(self) -> int:
        return len(self.contents) - len(self.stored)

    def count_due(self) -> int:
        return sum(2 * one.among <= len(self.stored) for one in self.stored.values())

    def without_things(self, after: int, limit: int) -> list[int]:
        return [
            one.content
            for one in self.contents
            if one.content > after and one.content not in self.stored
        ][:limit]

    def regions_of(self, contents: Collection[int]) -> list[ContentRegions]:
        return [one for one in self.contents if one.content in contents]

    def save_things(self, contents: Sequence[ContentThings]) -> None:
        self.stored |= {one.content: one for one in contents}

    def stored_things(self, contents: Collection[int] | None = None) -> Iterator[ContentThings]:
        return (one for one in self.stored.values() if contents is None or one.content in contents)

    def save_comparisons(self, compared: Sequence[ContentThings]) -> None:
        self.stored |= {one.content: one for one in compared}
        self.compared += [one.content for one in compared]
        self.saved += 1

    def comparisons(self) -> int:
        return self.saved

    def grouped_comparisons(self) -> int:
        return self.grouped

    def save_groups(self, groups: Sequence[SameObject], comparisons: int) -> None:
        self.found, self.grouped = groups, comparisons

    def vectors_of_regions(
        self, channels: Collection[Channel], regions: Sequence[int]
    ) -> Mapping[Channel, Float32Array]:
        of = {CHANNEL: self.rows, COLOURS: self.colours}
        width = {CHANNEL: DIMENSION, COLOURS: 11}
        return {
            channel: np.asarray([of[channel][one] for one in regions], dtype=np.float32).reshape(
                -1, width[channel]
            )
            for channel in channels
        }

    def search(self, asked: Sequence[ChannelQuery], _chosen: AssetFilter) -> list[Neighbours]:
        (query,) = asked
        names = np.asarray(list(self.rows), np.int64)
        similar = query.vectors @ np.stack(list(self.rows.values())).T
        width = min(query.k, len(names) + 1)
        found = Neighbours.empty(len(similar), width)
        order = np.argsort(-similar, axis=1, kind="stable")[:, :width]
        contents = np.asarray([self.content_of.get(one, 0) for one in names.tolist()])
        found.scores[:, : order.shape[1]] = np.take_along_axis(similar, order, axis=1)
        for column, values in zip(found[1:], (names, contents, names), strict=True):
            column[:, : order.shape[1]] = values[order]
        return [found]


def shown(objects: Sequence[SameObject]) -> list[set[int]]:
    return [{sighting.content for sighting in one.sightings} for one in objects]


def seen(objects: Sequence[SameObject]) -> list[tuple[int, float]]:
    return [(seen.region, seen.certainty) for one in objects for seen in one.sightings]


def a_library(cup_scores: Sequence[float]) -> tuple[Shelf, set[int]]:
    """Forty photographs of other things, and a cup elsewhere in one for each of its scores."""
    shelf, with_cup = Shelf(), set()
    for seed in range(40):
        scraps = shelf.background(seed)
        thing = (100 + seed, PLACES[3 + seed % 6], 0.8)
        if seed < len(cup_scores):
            cup = (7, PLACES[8 - seed], cup_scores[seed])
            thing = (100 + seed, PLACES[3], 0.8)
            with_cup.add(shelf.photograph(cup, thing, *scraps))
        else:
            shelf.photograph(thing, *scraps)
    return shelf, with_cup


def test_an_object_is_found_in_every_photograph_that_shows_it() -> None:
    shelf, with_cup = a_library([0.9, 0.95, 0.85, 0.9, 0.9])
    (cup,) = shelf.find()
    assert {sighting.content for sighting in cup.sightings} == with_cup
    assert all(shelf.content_of[one.region] == one.content for one in cup.sightings)
    certainties = [sighting.certainty for sighting in cup.sightings]
    assert 0.7 <= np.mean(certainties) <= 1
    assert certainties == sorted(certainties, reverse=True)
    said = list(reasons(cup.signs, len(cup.sightings)))
    assert said[0] == "alike in 5 photographs"
    assert "of the same colours" in said


def test_it_is_found_without_colours_too_and_says_nothing_of_them() -> None:
    shelf, with_cup = a_library([0.9, 0.95, 0.85])
    (cup,) = shelf.find(colours=False)
    assert {sighting.content for sighting in cup.sightings} == with_cup
    assert not any("colours" in reason for reason in reasons(cup.signs, 3))


def test_pairs_are_less_likely_where_fewer_are_one_object_and_never_more() -> None:
    rng = np.random.default_rng(5)
    wrong, right = rng.normal(0, 1, 100_000), rng.normal(3, 1, 20_000)
    # The ratio of the two densities is exp(3 x - 4.5); 2 of 100 pairs were one object.
    weights = Weights(math.log(0.02 / 0.98) - 4.5, (3.0,), share=0.02)

    def mean(count: int, weights: Weights) -> float:
        """Estimated share of pairs that are one object: `count` among 100,000 others."""
        signs = np.concatenate([wrong, right[:count]]).astype(np.float32)[:, None]
        rows = np.arange(len(signs))
        once = np.ones_like(rows)
        found = Candidates(rows, rows + 1, signs, once, len(rows))
        return float(probabilities(found, weights).mean())

    assert mean(2000, weights) == pytest.approx(0.02, rel=0.1)
    assert mean(200, weights) == pytest.approx(0.002, rel=0.2)
    as_fitted = replace(weights, share=None)
    assert mean(200, as_fitted) > 0.004
    assert mean(20_000, weights) == mean(20_000, as_fitted)


def test_a_scrap_that_recurs_but_looks_like_no_thing_is_background() -> None:
    shelf, _ = a_library([0.05, 0.06, 0.05, 0.07, 0.06])
    assert shelf.find() == []


def test_what_stays_in_its_place_needs_more_to_be_an_object() -> None:
    def certainty(places: Sequence[Box]) -> float:
        shelf = Shelf()
        for seed in range(40):
            scraps = shelf.background(seed)[1:]
            if seed < 3:
                shelf.photograph((7, places[seed], 0.9), *scraps)
            else:
                shelf.photograph((100 + seed, PLACES[3 + seed % 6], 0.8), *scraps)
        return max((one.certainty for found in shelf.find() for one in found.sightings), default=0)

    assert certainty([PLACES[0]] * 3) < certainty([PLACES[0], PLACES[5], PLACES[8]])


def test_copies_of_one_picture_are_no_second_photograph() -> None:
    shelf, with_cup = a_library([0.9, 0.95])
    assert shown(shelf.find()) == [with_cup]
    shelf, with_cup = a_library([0.9, 0.95])
    assert shelf.find(pictures=dict.fromkeys(with_cup, min(with_cup))) == []


def test_copies_of_one_picture_stand_for_each_other_in_a_group() -> None:
    shelf, with_cup = a_library([0.9, 0.95, 0.85])
    (found,) = shelf.find(pictures={1: 1, 2: 1})
    assert {one.content for one in found.sightings} == with_cup
    assert {one.picture for one in found.sightings} == {1, 3}
    assert all(one.certainty >= 0.7 for one in found.sightings)


def test_parts_of_an_object_make_no_object_beside_it() -> None:
    shelf = Shelf()
    for seed in range(40):
        place = PLACES[3 + seed % 6]
        whole = (7 if seed < 4 else 100 + seed, place, 0.9)
        part = (8 if seed < 4 else 300 + seed, Box(place.x, place.y, 30, 12), 0.8)
        shelf.photograph(part, whole, *shelf.background(seed))
    (found,) = shelf.find()
    numbers = {shelf.contents[one.content - 1].ids.index(one.region) for one in found.sightings}
    assert numbers == {1}


def test_the_order_of_photographs_changes_nothing() -> None:
    shelf, _ = a_library([0.9, 0.95, 0.85])
    before = shelf.find()
    shelf.rows = dict(reversed(shelf.rows.items()))
    shelf.stored = {}
    # Products of matrices may be added up in another order.
    expected = {region: pytest.approx(certainty, abs=1e-5) for region, certainty in seen(before)}
    assert dict(seen(shelf.find())) == expected


def test_an_empty_library_and_one_photograph_have_no_objects() -> None:
    shelf = Shelf()
    shelf.photograph()
    assert shelf.find() == []
    shelf.photograph((7, PLACES[0], 0.9))
    assert shelf.find() == []


def test_a_comparison_that_is_stopped_continues_where_it_stopped() -> None:
    shelf, _ = a_library([0.9, 0.95, 0.85])
    whole = shelf.find()
    shelf, _ = a_library([0.9, 0.95, 0.85])
    for seed in range(40, 110):
        shelf.photograph((100 + seed, PLACES[3], 0.8), *shelf.background(seed))
    comparison = shelf.comparison()
    steps = 0
    while (left := comparison.waiting()) and not comparison.run(should_stop=lambda: True):
        assert comparison.waiting() < left
        assert not shelf.found
        steps += 1
    assert steps > 4
    assert sorted(shelf.compared) == list(range(1, 111))
    assert shown(shelf.found) == shown(whole)


def test_an_object_in_many_photographs_is_one_group() -> None:
    shelf = Shelf()
    for seed in range(120):
        thing = (100 + seed, PLACES[3 + seed % 6], 0.8)
        cup = [(7, PLACES[seed % 3], 0.9)] if seed < 30 else []
        shelf.photograph(*cup, thing, *shelf.background(seed)[1:])
    assert shown(shelf.find()) == [set(range(1, 31))]


def test_new_photographs_alone_are_compared_until_the_library_has_doubled() -> None:
    shelf, with_cup = a_library([0.9, 0.95])
    shelf.find()
    first = shelf.grouped
    assert shelf.find() == list(shelf.found)
    assert (sorted(shelf.compared), shelf.grouped) == (list(range(1, 41)), first)
    shelf.compared.clear()
    with_cup.add(shelf.photograph((7, PLACES[1], 0.9), *shelf.background(41)))
    assert shown(shelf.find()) == [with_cup]
    assert shelf.compared == [41]
    for seed in range(42, 81):
        shelf.photograph((100 + seed, PLACES[3], 0.8), *shelf.background(seed))
    shelf.compared.clear()
    assert with_cup in shown(shelf.find())
    assert sorted(shelf.compared) == [*range(1, 41), *range(42, 81)]


def test_where_many_parts_are_nearer_the_index_is_asked_for_more() -> None:
    shelf, with_cup = a_library([0.9, 0.95])
    one = shelf.rows[1]
    nested = Box(PLACES[8].x, PLACES[8].y, 10, 10)
    # Photographs whose parts, not things, are nearer to the cup than the other cup is.
    for seed in range(30):
        ids = []
        for row in [direction(5000 + seed), *[one] * 8]:
            name = len(shelf.rows) + 1
            shelf.rows[name] = row
            shelf.colours[name] = np.full(11, 11**-0.5, np.float32)
            shelf.content_of[name] = len(shelf.contents) + 1
            ids.append(name)
        regions = (region(PLACES[8], 0.5), *[region(nested, 0.2)] * 8)
        shelf.contents.append(
            ContentRegions(len(shelf.contents) + 1, SIDE, SIDE, tuple(ids), regions)
        )
    assert with_cup in shown(shelf.find())


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40)),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_things_are_disjoint_and_each_other_region_overlaps_a_better_one(
    boxes: list[tuple[int, int, int, int]], random: object
) -> None:
    regions = [region(Box(*box), 1 / (1 + place // 2)) for place, box in enumerate(boxes)]

    def overlap(one: Region, other: Region) -> float:
        common = (decode_mask(one.mask) & decode_mask(other.mask)).sum()
        return float(common / min(one.area, other.area))

    kept = best_disjoint(regions)
    for place, one in enumerate(regions):
        better = [other for other in kept if regions[other].score >= one.score and other != place]
        overlapped = any(overlap(one, regions[other]) > 0.5 + 1e-6 for other in better)
        clear = all(overlap(one, regions[other]) < 0.5 - 1e-6 for other in kept if other != place)
        assert overlapped if place not in kept else clear or not overlapped


def test_objectness_is_the_share_of_all_regions_that_score_lower() -> None:
    place = Box(PLACES[0].x, PLACES[0].y, 10, 10)
    stored = [
        ContentRegions(1, SIDE, SIDE, (1, 2), (region(PLACES[0], 5.0), region(place, 1.0))),
        ContentRegions(2, SIDE, SIDE, (3, 4), (region(PLACES[0], 2.0), region(PLACES[8], 9.0))),
    ]
    things = gather(find_things(stored, Shelf(), None), {})  # type: ignore[arg-type]
    assert things.regions.tolist() == [1, 3, 4]
    assert things.objectness.tolist() == [0.5, 0.25, 0.75]
    assert things.boxes[2].tolist() == pytest.approx([0.7, 0.7, 1.0, 1.0])
    assert things.rows_of(np.asarray([[2, 3], [4, -1]])).tolist() == [[-1, 1], [2, -1]]


def test_a_chain_makes_no_group() -> None:
    chain = {(0, 1): 0.95, (1, 2): 0.9, (2, 3): 0.85}
    assert groups(chain, range(4)) == [[0, 1], [2, 3]]


def test_one_photograph_gives_a_group_one_thing() -> None:
    assert groups({(0, 2): 0.9, (1, 2): 0.8}, [1, 1, 2]) == [[0, 2]]
    # Two contents of one picture may both be in it.
    assert groups({(0, 2): 0.9, (1, 2): 0.8}, [1, 1, 2], [1, 3, 2]) == [[0, 1, 2]]
    assert groups({(0, 2): 0.9, (1, 2): 0.4}, [1, 1, 2], [1, 3, 2]) == [[0, 2]]


pair_probabilities = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1]),
    st.sampled_from([0.1, 0.5, 0.72, 0.8, 0.9, 0.99]),
    max_size=30,
)


@given(pair_probabilities, st.lists(st.integers(0, 6), min_size=10, max_size=10))
def test_groups_are_disjoint_of_different_pictures_and_held_together(
    pairs: dict[tuple[int, int], float], pictures: list[int]
) -> None:
    pairs = {pair: one for pair, one in pairs.items() if pictures[pair[0]] != pictures[pair[1]]}
    found = groups(pairs, pictures)
    rows = [row for group in found for row in group]
    assert len(rows) == len(set(rows))
    for group in found:
        assert len({pictures[row] for row in group}) == len(group) >= 2
        # Average linkage: each member is tied to the rest, and nobody by a candidate too weak.
        for row in group:
            beside = [pair for pair in pairs if row in pair and {*pair} <= {*group}]
            assert any(pairs[pair] > 0 for pair in beside)
        assert any(
            pairs.get((one, other), 0) >= 0.7 for one in group for other in group if one < other
        )
    assert found == groups(dict(reversed(pairs.items())), pictures)
