"""Finds duplicates: compares new contents, and lists groups of each kind.

Each list is computed from the stored comparisons and the current assets, so that collections,
filters, the trash and edits take effect at once. Groups are generated one by one, and only their
assets are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from regard.core.assets import Asset
from regard.core.catalog import ChannelSearch
from regard.core.duplicates import (
    Duplicate,
    DuplicateCatalog,
    DuplicateGroup,
    DuplicateKind,
    Exposure,
    Place,
)
from regard.core.facts import DatePrecision
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Channel
from regard.core.same_objects import ObjectCatalog, Sighting
from regard.search.duplicates.alignment import likeness
from regard.search.duplicates.copies import Comparer, NeighbourComparison
from regard.search.duplicates.groups import (
    are_separate_exposures,
    by_preference,
    choose_keeper,
    components,
    cut,
    never,
    runs,
    stars,
)
from regard.search.same_objects.finder import ObjectComparison, ThingComparer, reasons

START: Place = (0, 0)
# Exposures that are read and compared together, and how many a page of bursts looks at.
_EXPOSURES_AT_ONCE = 128
_EXPOSURES_A_PAGE = 2000


@dataclass(frozen=True, slots=True)
class _Portion:
    """Consecutive groups; `end` is the place after them, reached by looking at so many exposures."""

    groups: Iterable[DuplicateGroup]
    exposures: int = 0
    end: Place = START


# The groups of one kind from a place on, including it.
FindGroups = Callable[[AssetFilter, Place], Iterable[_Portion]]


class DuplicateFinder:
    """Finds duplicates over one channel of whole images; for one thread at a time.

    `load_things` makes the comparer of things when it is first needed; it raises CannotWork if no
    channel has regions.
    """

    def __init__(
        self,
        catalog: DuplicateCatalog,
        index: ChannelSearch,
        channel: Channel,
        objects: ObjectCatalog,
        load_things: Callable[[], ThingComparer],
    ) -> None:
        self._catalog = catalog
        self._channel = channel
        self._objects = objects
        self._load_things = load_things
        self._comparer = Comparer(catalog)
        self._neighbours = NeighbourComparison(catalog, index, channel, self._comparer)
        self._finders: dict[DuplicateKind, FindGroups] = {
            DuplicateKind.EXACT: lambda *place: [_Portion(self._exact(*place))],
            DuplicateKind.EDITED: lambda *place: [_Portion(self._edited(*place))],
            DuplicateKind.BURST: self._burst_portions,
            DuplicateKind.OBJECT: lambda *place: [_Portion(self._object_groups(*place))],
        }

    def waiting(self, kinds: Collection[DuplicateKind] = ()) -> int:
        """How many contents have to be compared before these kinds are complete.

        Copies are compared first, since copies count as one photograph.
        """
        waiting = self._catalog.count_uncompared(self._channel)
        if DuplicateKind.OBJECT in kinds:
            waiting += self._object_comparison().waiting()
        return waiting

    def compare(
        self,
        kinds: Collection[DuplicateKind] = (),
        *,
        should_stop: Callable[[], bool] = lambda: False,
        advance: Callable[[int], None] = lambda done: None,
    ) -> bool:
        """Compare new contents, with `object` their things too; returns whether none is left.

        Results are stored as they come. At least one portion is compared. Raises CannotWork for
        objects if no channel has regions.
        """
        if not self._neighbours.run(should_stop=should_stop, advance=advance):
            return False
        if DuplicateKind.OBJECT not in kinds:
            return True
        return self._object_comparison().run(should_stop=should_stop, advance=advance)

    def groups(
        self, kind: DuplicateKind, chosen: AssetFilter, after: Place | None = None
    ) -> Iterator[DuplicateGroup]:
        """Groups of two or more assets that pass the filter, of one kind, after a place.

        Only what was compared is in groups. Raises UsageError if the place no longer exists.
        """
        for portion in self._portions(kind, chosen, after):
            yield from portion.groups

    def page(
        self, kind: DuplicateKind, chosen: AssetFilter, after: Place | None, limit: int
    ) -> tuple[list[DuplicateGroup], Place | None]:
        """Up to `limit` of the same groups, and the place to continue from if more may follow.

        A page of bursts has fewer where few of the photographs it looks at are in one.
        """
        found: list[DuplicateGroup] = []
        looked_at = 0
        for portion in self._portions(kind, chosen, after):
            for group in portion.groups:
                if len(found) == limit:
                    return found, found[-1].place if found else (after or START)
                found.append(group)
            looked_at += portion.exposures
            if looked_at >= _EXPOSURES_A_PAGE:
                return found, portion.end
        return found, None

    def _portions(
        self, kind: DuplicateKind, chosen: AssetFilter, after: Place | None
    ) -> Iterator[_Portion]:
        def is_after(group: DuplicateGroup) -> bool:
            return after is None or group.place > after or group.place[0] != after[0]

        for portion in self._finders[kind](chosen, START if after is None else after):
            yield _Portion(filter(is_after, portion.groups), portion.exposures, portion.end)

    def _exact(self, chosen: AssetFilter, start: Place) -> Iterator[DuplicateGroup]:
        distinct = self._catalog.distinct_pairs()
        for content in self._catalog.repeated_contents(chosen, start[0]):
            if (content, content) in distinct:
                continue
            assets = self._catalog.records([content], chosen).get(content, [])
            # An asset may have been deleted since.
            if len(assets) > 1:
                members = [(asset, 1.0) for asset in assets]
                yield _group(DuplicateKind.EXACT, (content, 0), members)

    def _edited(self, chosen: AssetFilter, start: Place) -> Iterator[DuplicateGroup]:
        pairs = {(pair.first, pair.second): pair for pair in self._catalog.copy_pairs()}
        are_distinct = self._are_distinct()
        for contents in components(pairs.values()):
            if contents[0] < start[0]:
                continue
            assets = _representatives(self._catalog.records(contents, chosen))
            order = list(assets)
            preferred = [order[place] for place in by_preference(list(assets.values()))]
            exposures = {content: _exposure(asset) for content, asset in assets.items()}

            def similarity(
                first: int, second: int, shots: Mapping[int, Exposure | None] = exposures
            ) -> float | None:
                one, other = shots[first], shots[second]
                if one is not None and other is not None and are_separate_exposures(one, other):
                    return None
                known = pairs.get(_ordered(first, second))
                # Not all of many copies are neighbours.
                return known.similarity if known else self._comparer.similarity(first, second)

            for number, found in enumerate(stars(preferred, similarity, are_distinct)):
                members = [(assets[content], alike) for content, alike in found.items()]
                yield _group(DuplicateKind.EDITED, (contents[0], number), members)

    def _burst_portions(self, chosen: AssetFilter, start: Place) -> Iterator[_Portion]:
        some: list[list[Exposure]] = []
        count = 0
        for run in runs(self._catalog.exposures(chosen, start[0])):
            some.append(run)
            count += len(run)
            if count >= _EXPOSURES_AT_ONCE:
                # No group of a run has a number as high as this.
                yield _Portion(self._bursts(chosen, some), count, (run[0].asset, len(run)))
                some, count = [], 0
        yield _Portion(self._bursts(chosen, some))

    def _bursts(
        self, chosen: AssetFilter, all_runs: Sequence[list[Exposure]]
    ) -> Iterator[DuplicateGroup]:
        some = [run for run in all_runs if len(run) > 1]
        contents = [exposure.content for run in some for exposure in run]
        pairs = self._catalog.pairs_among(contents)
        self._comparer.prepare(contents)

        def is_copy(first: Exposure, second: Exposure) -> bool:
            pair = _ordered(first.content, second.content)
            return pair in pairs and not are_separate_exposures(first, second)

        are_distinct = self._are_distinct()
        bursts = [
            ((run[0].asset, number), found)
            for run in some
            for number, found in enumerate(cut(run, self._likeness, is_copy, are_distinct))
        ]
        shown = {content for _, found in bursts for content in found}
        assets = _representatives(self._catalog.records(shown, chosen))
        for place, found in bursts:
            members = [(assets[item], alike) for item, alike in found.items() if item in assets]
            if len(members) > 1:
                yield _group(DuplicateKind.BURST, place, members)

    def _object_groups(self, chosen: AssetFilter, start: Place) -> Iterator[DuplicateGroup]:
        for thing in self._objects.groups(chosen, start[0]):
            # The most certain sighting stands for each picture.
            shown: dict[int, Sighting] = {}
            for seen in thing.sightings:
                shown.setdefault(seen.picture, seen)
            if len(shown) < 2:
                continue
            assets = _representatives(
                self._catalog.records([seen.content for seen in shown.values()], chosen)
            )
            members = tuple(
                Duplicate(assets[seen.content], round(seen.certainty, 4), seen.region)
                for seen in shown.values()
                if seen.content in assets
            )
            if len(members) > 1:
                keeper, _ = choose_keeper([member.asset for member in members])
                # No member is superfluous, so the reasons tell why they belong together.
                yield DuplicateGroup(
                    DuplicateKind.OBJECT,
                    (thing.number, 0),
                    members,
                    keeper,
                    tuple(reasons(thing.signs, len(members))),
                )

    def _object_comparison(self) -> ObjectComparison:
        return ObjectComparison(self._objects, self._load_things(), self._pictures)

    def _pictures(self) -> dict[int, int]:
        """Maps contents that count as one photograph to a common number, that of one of them.

        These are copies, and what one camera took within seconds: comparing these by their looks,
        as bursts are, would take longer than it is worth here.
        """
        numbers = {
            content: group[0]
            for group in components(self._catalog.copy_pairs())
            for content in group
        }
        for run in runs(self._catalog.exposures(EVERYTHING, START[0])):
            if len(run) == 1:
                continue
            first = numbers.get(run[0].content, run[0].content)
            for exposure in run:
                numbers.setdefault(exposure.content, first)
        return numbers

    def _are_distinct(self) -> Callable[[int, int], bool]:
        distinct = self._catalog.distinct_pairs()
        return (lambda *pair: _ordered(*pair) in distinct) if distinct else never

    def _likeness(self, first: int, second: int) -> float | None:
        ours, theirs = self._comparer.picture(first), self._comparer.picture(second)
        return None if ours is None or theirs is None else likeness(ours, theirs)


def _ordered(first: int, second: int) -> tuple[int, int]:
    return (first, second) if first < second else (second, first)


def _group(
    kind: DuplicateKind, place: Place, members: Sequence[tuple[Asset, float]]
) -> DuplicateGroup:
    keeper, reasons = choose_keeper([asset for asset, _ in members])
    found = tuple(Duplicate(asset, round(min(alike, 1.0), 4)) for asset, alike in members)
    return DuplicateGroup(kind, place, found, keeper, reasons)


def _representatives(assets: Mapping[int, Sequence[Asset]]) -> dict[int, Asset]:
    """One asset of each content, the one to keep; exact duplicates are a separate kind."""
    return {content: found[choose_keeper(found)[0]] for content, found in sorted(assets.items())}


def _exposure(asset: Asset) -> Exposure | None:
    if asset.camera is None or asset.taken_at is None:
        return None
    if asset.taken_precision is not DatePrecision.TIME:
        return None
    return Exposure(asset.id, asset.content_id or 0, asset.camera, asset.taken_at)
