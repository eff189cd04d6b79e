"""Groups out of pairs, the photograph to keep, and bursts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_home import NOON, make_asset

from regard.core.assets import Asset
from regard.core.duplicates import CopyPair, DuplicateCatalog, DuplicateKind, Exposure, Place
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Channel, Kind, Signature, signature_shape
from regard.search.duplicates.finder import DuplicateFinder
from regard.search.duplicates.groups import (
    are_separate_exposures,
    by_preference,
    choose_keeper,
    components,
    cut,
    runs,
    stars,
)

edges = st.sets(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda pair: pair[0] < pair[1])
)


@given(edges)
def test_every_member_was_verified_against_the_first_of_its_group(
    pairs: set[tuple[int, int]],
) -> None:
    def similarity(first: int, second: int) -> float | None:
        return 0.9 if (min(first, second), max(first, second)) in pairs else None

    seen: list[int] = []
    for contents in components(CopyPair(*pair, 0.9) for pair in sorted(pairs)):
        groups = stars(contents, similarity)
        for group in groups:
            centre, *others = group
            assert others
            assert group[centre] == 1.0
            assert all(similarity(centre, other) == group[other] for other in others)
            seen += group
        # No two of the remaining contents belong together.
        left = [content for content in contents if not any(content in group for group in groups)]
        assert all(similarity(one, other) is None for one in left for other in left if one < other)
    assert len(seen) == len(set(seen))


@given(edges)
def test_components_are_what_pairs_connect(pairs: set[tuple[int, int]]) -> None:
    found = components(CopyPair(*pair, 1.0) for pair in sorted(pairs))
    assert found == sorted(sorted(group) for group in found)
    place = {content: number for number, group in enumerate(found) for content in group}
    assert set(place) == {content for pair in pairs for content in pair}
    assert all(place[first] == place[second] for first, second in pairs)
    for group in found:
        reached = {group[0]}
        while more := {b for a, b in pairs if a in reached} | {a for a, b in pairs if b in reached}:
            if more <= reached:
                break
            reached |= more
        assert reached == set(group)


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        ({"width": 4000, "height": 3000}, "most pixels: 4000 × 3000"),
        ({"camera": "Leica M6"}, "what the camera wrote"),
        ({"format": "RAW"}, "without loss"),
        ({"title": "Harbour"}, "a title or other fields"),
        ({"tags": ("harbour",)}, "has tags"),
        ({"size": 2_500_000}, "largest file: 2.5 MB"),
        ({"mtime_ns": 4}, "the oldest file"),
    ],
)
def test_the_better_one_is_kept_and_why(better: dict[str, Any], reason: str) -> None:
    for place in (0, 1):
        assets = [make_asset(1), make_asset(1)]
        assets[place] = make_asset(1, **better)
        keeper, reasons = choose_keeper(assets)
        assert keeper == place
        assert len(reasons) == 1
        assert reason in reasons[0]


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1 (1).jpg",
        "IMG_1 - Copy.jpg",
        "IMG_1_edited.jpg",
        "IMG-20240501-WA0001.jpg",
        "a_thumb.png",
        "FB_IMG_1576012345678.jpg",
        "received_1576012345678.jpeg",
        "IMG_1~2.jpg",
    ],
)
def test_the_name_of_a_copy_tells(name: str) -> None:
    keeper, reasons = choose_keeper(
        [make_asset(1, file_name=name), make_asset(2, file_name="IMG_1.jpg")]
    )
    assert (keeper, reasons) == (1, ("its name is not that of a copy",))


def test_what_merging_moves_decides_last() -> None:
    tagged = make_asset(1, file_name="red copy.png", tags=("harbour", "dawn"))
    named = make_asset(2, file_name="red.png")
    assert choose_keeper([tagged, named]) == (1, ("its name is not that of a copy",))
    older = make_asset(3, mtime_ns=tagged.mtime_ns - 1, file_name=tagged.file_name)
    assert by_preference([tagged, older]) == [1, 0]


def test_reasons_come_in_order_and_leave_out_what_all_have() -> None:
    assets = [
        make_asset(1, width=200),
        make_asset(2, camera="A", taken_at=NOON),
        make_asset(3, camera="A"),
    ]
    keeper, reasons = choose_keeper(assets)
    assert keeper == 1
    assert [reason.partition(":")[0] for reason in reasons] == [
        "most pixels",
        "has what the camera wrote",
    ]
    assert by_preference(assets) == [1, 2, 0]
    assert choose_keeper([make_asset(1), make_asset(2)]) == (0, ("the first that was indexed",))
    with pytest.raises(ValueError, match="nothing"):
        choose_keeper([])


def exposures(*seconds: float, camera: str = "A") -> list[Exposure]:
    return [
        Exposure(number, number, camera, NOON + timedelta(seconds=value))
        for number, value in enumerate(seconds, 1)
    ]


def test_a_run_is_of_one_camera_and_a_few_seconds() -> None:
    assert [len(run) for run in runs(exposures(0, 0.5, 2, 10, 11, 60))] == [3, 2, 1]
    assert [len(run) for run in runs(exposures(0, 3, 6))] == [1, 1, 1]
    mixed = exposures(0, 1) + exposures(0, 1, camera="B")
    assert [[shot.camera for shot in run] for run in runs(mixed)] == [["A", "A"], ["B", "B"]]
    # A camera that goes on and on makes bursts of half a minute.
    assert [len(run) for run in runs(exposures(*range(0, 60)))] == [31, 29]
    twice = [Exposure(1, 7, "A", NOON), Exposure(2, 7, "A", NOON)]
    assert list(runs(twice)) == [twice[:1]]


def test_a_burst_ends_where_the_picture_changes_and_holds_no_copies() -> None:
    run = exposures(0, 1, 2, 3, 4, 5)

    def alike(first: int, second: int) -> float | None:
        return 0.8 if (first <= 3) == (second <= 3) else None

    assert [list(found) for found in cut(run, alike, lambda *_: False)] == [[1, 2, 3], [4, 5, 6]]
    of_two = [list(found) for found in cut(run, alike, lambda _, new: new.content == 2)]
    assert of_two == [[1, 3], [4, 5, 6]]
    assert list(cut(run, lambda *_: None, lambda *_: False)) == []


@pytest.mark.parametrize(
    ("seconds", "separate"),
    [(0, False), (1, True), (0.2, True), (3600, False), (3601, True), (7200, False)],
)
def test_another_time_is_another_exposure_unless_the_clock_was_set(
    seconds: float, separate: bool
) -> None:
    first, second = exposures(0, seconds)
    assert are_separate_exposures(first, second) is separate
    other = Exposure(3, 3, "B", second.taken_at)
    assert not are_separate_exposures(first, other)


class _Shots(DuplicateCatalog):
    """Exposures of contents with the same numbers; each ten of these look alike."""

    def __init__(self, shots: list[Exposure]) -> None:
        self._shots = shots
        self.read = 0

    def exposures(self, asset_filter: AssetFilter, first: int) -> Iterator[Exposure]:
        for shot in self._shots:
            if shot.asset >= first:
                self.read += 1
                yield shot

    def distinct_pairs(self) -> set[tuple[int, int]]:
        return set()

    def pairs_among(self, contents: Collection[int]) -> set[tuple[int, int]]:
        return set()

    def signatures(self, contents: Collection[int]) -> dict[int, Signature]:
        return {content: _signature(content // 10) for content in contents}

    def records(
        self, contents: Collection[int], asset_filter: AssetFilter
    ) -> Mapping[int, Sequence[Asset]]:
        return {content: [make_asset(content)] for content in contents}


def _signature(seed: int) -> Signature:
    width, height = 1600, 1200
    grey = np.random.default_rng(seed).integers(0, 256, signature_shape(width, height))
    return Signature(grey.astype(np.uint8), width, height)


def _finder(shots: list[Exposure]) -> tuple[_Shots, DuplicateFinder]:
    catalog, unused = _Shots(shots), cast(Any, None)
    channel = Channel("s", Kind.IMAGE)
    return catalog, DuplicateFinder(catalog, unused, channel, unused, unused)


def _pages(finder: DuplicateFinder, limit: int) -> Iterator[list[Place]]:
    after: Place | None = None
    while True:
        found, after = finder.page(DuplicateKind.BURST, EVERYTHING, after, limit)
        yield [group.place for group in found]
        if after is None:
            return


def test_a_page_of_bursts_ends_where_no_burst_is_near() -> None:
    catalog, finder = _finder(exposures(*range(0, 60 * 7000, 60)))
    assert finder.page(DuplicateKind.BURST, EVERYTHING, None, 20)[0] == []
    assert catalog.read < 2200
    assert list(_pages(finder, 20)) == [[]] * 4


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_of_bursts_list_each_once(limit: int) -> None:
    times = [60.0 * (number // 3) + number % 3 for number in range(300)]
    _, finder = _finder(exposures(*times))
    expected = [group.place for group in finder.groups(DuplicateKind.BURST, EVERYTHING)]
    assert len(expected) == 100
    found = list(_pages(finder, limit))
    assert [place for page in found for place in page] == expected
    assert all(len(page) <= limit for page in found)
