"""Countries and cities of positions: known places, and distances against brute force."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.core.facts import Place
from regard.photos.countries import country_code, country_name
from regard.photos.geonames import CITY_KM, COUNTRY_KM, data_file, find_place, find_places


@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [
        (52.5163, 13.3777, Place("DE", "Berlin")),
        # A quarter of Berlin, and a city beside it.
        (52.4986, 13.3918, Place("DE", "Berlin")),
        (52.4042, 13.0385, Place("DE", "Potsdam")),
        # Two states, two countries.
        (40.758, -73.9855, Place("US", "New York City")),
        (40.745, -74.03, Place("US", "Hoboken")),
        (48.573, 7.81, Place("DE", "Kehl")),
        (48.5734, 7.7521, Place("FR", "Strasbourg")),
        (-33.8915, 151.2767, Place("AU", "Sydney")),
        # A village is the city of mountains; far from it, only the country is known.
        (45.9766, 7.6585, Place("CH", "Zermatt")),
        (-16.8, 180.0, Place("FJ", None)),
        (45.0, -30.0, None),
        (90.0, 0.0, None),
    ],
)
def test_known_places(latitude: float, longitude: float, place: Place | None) -> None:
    assert find_place(latitude, longitude) == place


@cache
def listed() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[str], list[str]]:
    with gzip.open(data_file("geocode.gz")) as file:
        rows = json.loads(file.read())
    degrees = np.radians([(row["latitude"], row["longitude"]) for row in rows])
    return (
        *degrees.T,
        [row["country_code"] for row in rows],
        [row["city"] for row in rows],
    )


@settings(max_examples=25)
@given(
    st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 66.5, 90.0]),
    st.floats(-180, 180) | st.sampled_from([-180.0, 0.0, 179.99, 180.0]),
)
def test_places_are_as_near_as_said_everywhere(latitude: float, longitude: float) -> None:
    """By haversine over all places, also across the date line and beside the poles."""
    north, east, countries, cities = listed()
    here, there = np.radians(latitude), np.radians(longitude)
    half = np.sin((north - here) / 2) ** 2
    half += np.cos(here) * np.cos(north) * np.sin((east - there) / 2) ** 2
    km = 2 * 6371.0088 * np.arcsin(np.sqrt(half))
    nearest = int(np.argmin(km))
    place = find_place(latitude, longitude)
    if km[nearest] > COUNTRY_KM:
        assert place is None
        return
    assert place is not None
    assert place.country == countries[nearest]
    near = {cities[number] for number in np.flatnonzero(km <= CITY_KM)}
    assert (place.city in near) if near else (place.city is None)


def test_many_positions_give_the_places_of_each() -> None:
    positions = [(52.5, 13.4), (45.0, -30.0), (48.86, 2.35)] * 500
    assert find_places(positions) == [find_place(*position) for position in positions[:3]] * 500
    assert find_places([]) == []


def test_countries_are_named_in_many_ways() -> None:
    for names in (
        ("DE", "de", "Germany", "GERMANY"), ("KR", "South Korea", "Korea, Republic of"),
        ("GB", "uk", "United Kingdom"), ("US", "usa", "United States"), ("CI", "Côte d'Ivoire"),
    ):  # fmt: skip
        assert {country_code(name) for name in names} == {names[0]}
    assert country_code("Atlantis") is country_code("") is None
    assert {country_name(code) for code in ("DE", "RU", "QQ")} == {"Germany", "Russia", "QQ"}
    # Every country of a place has a name that stands for it.
    for code in set(listed()[2]):
        assert country_code(country_name(code)) == code, code
