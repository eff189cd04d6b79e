"""Draw the world of the page's map: land and borders, as one SVG in Mercator's projection.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python tests/browser/make_world.py package/countries-50m.json

The data are Natural Earth's countries of 1:50 million, which are in the public domain, as TopoJSON
by the npm package world-atlas. Lines are simplified where that moves them by less than
five kilometres; points are whole units of 1/65536 of the equator.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

_TARGET = Path(__file__).resolve().parents[2] / "api" / "web" / "icons" / "world.svg"
_UNITS = 65536
# Where Mercator's projection of the world is as high as wide.
_LAST_LATITUDE = 85.05112878
_TOLERANCE = 8.0

Point = tuple[int, int]


def main() -> None:
    """Write the file, and tell its size."""
    world = json.loads(Path(sys.argv[1]).read_text())
    arcs = [_simplified(_projected(world, arc)) for arc in world["arcs"]]
    countries = world["objects"]["countries"]["geometries"]
    used = Counter(_plain(number) for ring in _rings(countries) for number in ring)
    land = "".join(
        _path(part, closed=True)
        for ring in _rings(_land(world))
        for part in _uncut(_joined(arcs, ring))
    )
    shared = [number for number, times in sorted(used.items()) if times > 1]
    borders = "".join(_path(arcs[number], closed=False) for number in shared)
    _TARGET.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg">\n'
        "<!-- Natural Earth, public domain; drawn by tests/browser/make_world.py -->\n"
        f'<path id="land" vector-effect="non-scaling-stroke" d="{land}"/>\n'
        f'<path id="borders" fill="none" vector-effect="non-scaling-stroke" d="{borders}"/>\n'
        "</svg>\n"
    )
    print(f"{_TARGET}: {_TARGET.stat().st_size} bytes")


def _land(world: dict[str, Any]) -> Sequence[Any]:
    geometries: Sequence[Any] = world["objects"]["land"]["geometries"]
    return geometries


def _plain(number: int) -> int:
    """An arc's number; one that is passed backwards has its complement."""
    return number if number >= 0 else ~number


def _rings(geometries: Sequence[Any]) -> Iterator[Sequence[int]]:
    for geometry in geometries:
        match geometry.get("type"):
            case "Polygon":
                yield from geometry["arcs"]
            case "MultiPolygon":
                for polygon in geometry["arcs"]:
                    yield from polygon


def _projected(world: dict[str, Any], arc: Sequence[Sequence[int]]) -> list[Point]:
    (wide, high), (west, south) = world["transform"]["scale"], world["transform"]["translate"]
    x = y = 0
    points: list[Point] = []
    for right, up in arc:
        x, y = x + right, y + up
        latitude = min(_LAST_LATITUDE, max(-_LAST_LATITUDE, south + y * high))
        mercator = math.asinh(math.tan(math.radians(latitude)))
        points.append(
            (
                round((west + x * wide + 180) / 360 * _UNITS),
                round((math.pi - mercator) / (2 * math.pi) * _UNITS),
            )
        )
    return points


def _simplified(points: list[Point]) -> list[Point]:
    """Douglas and Peucker's: without the points that are near the line between those that stay.

    A ring keeps a corner besides its ends, so that small islands stay.
    """
    if len(points) < 3:
        return points
    (x, y), (to_x, to_y) = points[0], points[-1]
    length = math.hypot(to_x - x, to_y - y)
    distances = [
        abs((to_x - x) * (y - at_y) - (x - at_x) * (to_y - y)) / length
        if length
        else math.hypot(at_x - x, at_y - y)
        for at_x, at_y in points
    ]
    furthest = max(range(1, len(points) - 1), key=distances.__getitem__)
    if distances[furthest] < _TOLERANCE and length:
        return [points[0], points[-1]]
    return _simplified(points[: furthest + 1])[:-1] + _simplified(points[furthest:])


def _joined(arcs: Sequence[list[Point]], ring: Sequence[int]) -> list[Point]:
    points: list[Point] = []
    for number in ring:
        arc = arcs[_plain(number)]
        points += (arc if number >= 0 else arc[::-1])[1 if points else 0 :]
    return points


def _uncut(ring: list[Point]) -> Iterator[list[Point]]:
    """A ring that crosses the date line, in one piece at each side of the world."""
    shift, whole = 0, ring[:1]
    for at, to in pairwise(ring):
        if abs(to[0] - at[0]) > _UNITS / 2:
            shift += _UNITS if to[0] < at[0] else -_UNITS
        whole.append((to[0] + shift, to[1]))
    if whole[-1] != whole[0]:
        # Around the south pole.
        whole += [(whole[-1][0], _UNITS), (whole[0][0], _UNITS), whole[0]]
    yield whole
    reach = {(x < 0) - (x > _UNITS) for x, _ in whole} - {0}
    for side in reach:
        yield [(x + side * _UNITS, y) for x, y in whole]


def _path(points: Sequence[Point], *, closed: bool) -> str:
    steps = [(to[0] - at[0], to[1] - at[1]) for at, to in pairwise(points) if at != to]
    if closed:
        # The last point is the first.
        steps = steps[:-1]
        if len(steps) < 2:
            return ""
    if not steps:
        return ""
    drawn = "l" + " ".join(f"{x} {y}" for x, y in steps).replace(" -", "-")
    return f"M{points[0][0]} {points[0][1]}{drawn}" + ("z" if closed else "")


if __name__ == "__main__":
    main()
