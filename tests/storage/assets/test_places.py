"""Counts of assets by the cells of a grid, against those of every asset."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import pytest
from made_assets import Assets

from regard.core.assets import AssetState
from regard.core.facts import PhotoFacts
from regard.core.filters import AssetFilter, GpsBox

_CORNERS = [(-90.0, -180.0), (90.0, 180.0), (0.0, 0.0), (-0.0, -180.0), (45.0, 180.0)]


@pytest.mark.parametrize("cell", [90.0, 7.5, 0.01])
def test_cells_hold_what_lies_in_them(assets: Assets, cell: float) -> None:
    chance = random.Random(7)
    positions = [*_CORNERS, (None, None)]
    positions += [(chance.uniform(-9, 9), chance.uniform(-9, 9)) for _ in range(20)]
    expected = defaultdict(list)
    for number, (latitude, longitude) in enumerate(positions):
        facts = PhotoFacts(latitude=latitude, longitude=longitude)
        added = assets.upload(f"photo {number}", "one" if number % 2 else "two", facts=facts)
        if latitude is not None and longitude is not None:
            where = math.floor((latitude + 90) / cell), math.floor((longitude + 180) / cell)
            expected[where].append((latitude, longitude, added.asset))
    found = assets.reading.places(cell_degrees=cell, limit=1000)
    assert found.total == len(positions) - 1
    assert {place.newest: place.count for place in found.cells} == {
        max(number for *_, number in members): len(members) for members in expected.values()
    }
    assert sorted(place.count for place in found.cells)[::-1] == [
        place.count for place in found.cells
    ]
    for place in found.cells:
        box = place.box
        assert box.west <= place.longitude <= box.east
        assert box.south <= place.latitude <= box.north
        within = AssetFilter(gps_box=box)
        assert len(assets.reading.page(within, limit=100)) >= place.count
        inside = assets.reading.places(within, cell_degrees=cell, limit=1000)
        assert place.newest in {one.newest for one in inside.cells}
    few = assets.reading.places(cell_degrees=cell, limit=2)
    assert (few.cells, few.total) == (found.cells[:2], found.total)


def test_filters_trash_and_collections_hold(assets: Assets) -> None:
    facts = PhotoFacts(latitude=1.0, longitude=2.0)
    one, two = (assets.upload(name, name, facts=facts) for name in ("one", "two"))
    here, nowhere = GpsBox(1, 0, 3, 2), GpsBox(10, 10, 20, 20)

    def count(box: GpsBox = here, **options: object) -> int:
        found = assets.reading.places(
            AssetFilter(gps_box=box), cell_degrees=1.0, limit=10, **options
        )  # type: ignore[arg-type]
        return found.total

    assert (count(), count(nowhere)) == (2, 0)
    assert count(visible=("one",)) == 1
    assets.editing.trash([two.asset])
    assert count() == 1
    assert count(state=AssetState.TRASHED) == 1
    assert one.asset != two.asset


def test_a_city_is_found_without_its_special_letters(assets: Assets) -> None:
    cologne = PhotoFacts(latitude=50.938, longitude=6.957)
    lodz = PhotoFacts(latitude=51.767, longitude=19.457)
    for name, facts in (("one", cologne), ("two", lodz)):
        assets.upload(name, "photos", facts=facts)
    for written in ("Köln", "koln", "Koeln", "KÖLN", "Łódź", "Lodz", "lódz"):
        assert len(assets.reading.page(AssetFilter(cities=(written,)), limit=9)) == 1, written
