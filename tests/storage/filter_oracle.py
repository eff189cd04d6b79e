"""Assets made for filters, filters to draw, and what passes: in plain Python, as the docs word
it."""

from __future__ import annotations

import datetime
import math
import os
import random
import string
import unicodedata
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from regard.core.facts import DatePrecision
from regard.core.filters import (
    EVERYTHING,
    AssetFilter,
    CustomValue,
    Fact,
    GpsBox,
    GpsCircle,
    Orientation,
    PathPart,
)

EARTH_KM = 6371.0088
DAY = datetime.datetime(2024, 5, 17)
TIMES = [
    None,
    DAY,
    DAY + datetime.timedelta(microseconds=1),
    DAY - datetime.timedelta(microseconds=1),
    datetime.datetime(999, 1, 1),
    datetime.datetime(2024, 5, 17, 23, 59, 59, 999999),
    datetime.datetime(2024, 5, 1),
    datetime.datetime(2024, 5, 31, 23, 59, 59, 999999),
    datetime.datetime(2024, 1, 1),
    datetime.datetime(2024, 12, 31, 23, 59, 59),
]
CAMERAS = [
    (None, None),
    ("Canon", "Canon EOS 5D"),
    ("CANON", "eos 5d"),
    ("Nikon", "D90"),
    ("Nikon", None),
    (None, "D90"),
    ("Éclair", "ÉCLAIR 1"),
    ("Éclair", "Éclair 1"),
    ("50%", "_x"),
]
NAMES = [
    "canon eos 5d",
    "EOS 5D",
    "D90",
    "nikon d90",
    "Nikon",
    "éclair 1",
    "Éclair 1",
    "ÉCLAIR 1",
    "Éclair ÉCLAIR 1",
    "5_ _x",
    "50% _X",
    "",
]
PLACES: list[tuple[float | None, float | None]] = [
    (None, None),
    (0.0, 0.0),
    (52.5, 13.4),
    (52.6, 13.5),
    (-17.0, 179.5),
    (-17.0, -179.5),
    (-17.0, 180.0),
    (-17.0, -180.0),
    (90.0, 0.0),
    (90.0, 120.0),
    (-90.0, 5.0),
    (-52.5, -166.6),
]
SIZES = [(40, 30), (30, 40), (30, 30), (1, 5000)]
TAGS = ["red", "Red", "r\u00e9d", "re\u0301d", "a b", "50%", "_"]
VALUES: list[CustomValue] = [1, 1.0, True, False, "1", "true", "x", "é", 1.5, 10**20, 1e20, "a\0b"]
COMPOSED, IN_PARTS = "\u00fc".encode(), "u\u0308".encode()
PATHS = [
    *(b"/p/a", b"/p/a/1.jpg", b"/p/a-b/2.jpg", b"/p/a0", b"/p/\xff\xfe/3.jpg", b"/q.jpg"),
    *(b"/p/%b/4.jpg" % COMPOSED, b"/p/%b/5.jpg" % IN_PARTS, b"/%b\xff/6.jpg" % IN_PARTS),
]
PREFIXES = [
    *(b"/", b"/p", b"/p/", b"/p/a", b"/p/a/", b"/p/\xff\xfe", b"/p/%", b"/nowhere"),
    *(b"/p/%b" % COMPOSED, b"/p/%b" % IN_PARTS),
]
DIVIDING_PARTS = [
    PathPart(b"p"),
    PathPart(b"a"),
    PathPart(b"/p/a/"),
    PathPart(b"1.jpg"),
    PathPart(b"a/1.jpg"),
    PathPart(b"\xff\xfe/3.jpg"),
    PathPart(b"p/\xff\xfe"),
    PathPart(b"a-b"),
    PathPart(b"q.jpg"),
    PathPart(b"a", below=(b"/p/", b"/nowhere")),
    PathPart(b"1.jpg", below=(b"/p/a",)),
    PathPart(b"a", below=(), at=(b"/p/a-b",)),
    PathPart(IN_PARTS),
    PathPart(b"%b/5.jpg" % COMPOSED, below=(b"/p",)),
    PathPart(b"5.jpg", below=(b"/p/%b" % COMPOSED,)),
    PathPart(b"%b\xff" % COMPOSED),
]
PARTS = [
    *DIVIDING_PARTS,
    PathPart(b".jpg"),
    PathPart(b"p", below=(b"/p",)),
    PathPart(b"a/1.jpg", below=(b"/p/a",)),
    PathPart(b"a", below=()),
]
LENSES = ["50 mm", "50mm É", "50mm é"]
COLLECTIONS = ["one", "two", "empty"]
EXTERNAL_IDS = ["x", "X", "é", "a b", "7", "50%", "_"]


@dataclass(frozen=True)
class Made:
    """An asset as the test made it; the oracle looks at nothing else."""

    collection: str
    content: int
    path: bytes
    size: tuple[int, int]
    taken_at: datetime.datetime | None = None
    precision: DatePrecision = DatePrecision.TIME
    camera: tuple[str | None, str | None] = (None, None)
    place: tuple[float | None, float | None] = (None, None)
    tags: frozenset[str] = frozenset()
    custom: dict[str, CustomValue] = field(default_factory=dict)
    trashed: bool = False
    failed: bool = False
    title: str | None = None
    edited_title: str | None = None
    rating: int | None = None
    lens: str | None = None
    description: str | None = None
    # The name of an upload.
    upload: str | None = None
    external_id: str | None = None
    country: str | None = None
    city: str | None = None

    @property
    def duration_ms(self) -> int | None:
        """Some contents are videos."""
        return (None, 59_999, None, 60_000, 0)[self.content % 5]


def lower(text: str) -> str:
    return "".join(
        chr(ord(letter) + 32) if letter in string.ascii_uppercase else letter for letter in text
    )


def full_name(camera: tuple[str | None, str | None]) -> str | None:
    make, model = camera[0] or "", camera[1] or ""
    if lower(model).startswith(lower(make)):
        return model or None
    return f"{make} {model}".strip()


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Along the great circle, by the angle between two unit vectors."""

    def vector(place: tuple[float, float]) -> np.ndarray[Any, Any]:
        latitude, longitude = map(math.radians, place)
        return np.asarray(
            [
                math.cos(latitude) * math.cos(longitude),
                math.cos(latitude) * math.sin(longitude),
                math.sin(latitude),
            ]
        )

    a, b = vector(one), vector(other)
    return EARTH_KM * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def in_box(box: GpsBox, latitude: float, longitude: float) -> bool:
    if not box.south <= latitude <= box.north:
        return False
    # Eastwards from the west edge, on a circle of 360 degrees, without rounding.
    west, east = Fraction(box.west), Fraction(box.east)
    width = east - west if west <= east else east - west + 360
    return any(0 <= Fraction(longitude) + turn - west <= width for turn in (-360, 0, 360))


def same_value(one: CustomValue, other: CustomValue) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def should_pass(asset: Made, chosen: AssetFilter) -> bool:
    """The conditions as the documentation words them."""
    return not asset.trashed and not asset.failed and holds(asset, chosen)


def holds(asset: Made, chosen: AssetFilter) -> bool:
    """All conditions and inner filters, of whatever state the asset is."""
    latitude, longitude = asset.place
    width, height = asset.size
    if not all(holds(asset, inner) for inner in chosen.also):
        return False
    if any(holds(asset, inner) for inner in chosen.without):
        return False
    if chosen.any_of and not any(holds(asset, inner) for inner in chosen.any_of):
        return False
    if chosen.lenses and lower(asset.lens or "") not in map(lower, chosen.lenses):
        return False
    if chosen.countries and asset.country not in chosen.countries:
        return False
    city = asset.city
    if chosen.cities and (city is None or plain(city) not in map(plain, chosen.cities)):
        return False
    # All photographs of the test are in one format.
    if chosen.formats and "PNG" not in chosen.formats:
        return False
    seconds = None if asset.duration_ms is None else asset.duration_ms // 1000
    least, most = chosen.min_duration, chosen.max_duration
    if (least is not None or most is not None) and seconds is None:
        return False
    if least is not None and seconds is not None and seconds < least:
        return False
    if most is not None and seconds is not None and seconds > most:
        return False
    least, most = chosen.min_rating, chosen.max_rating
    if (least is not None or most is not None) and asset.rating is None:
        return False
    if least is not None and asset.rating is not None and asset.rating < least:
        return False
    if most is not None and asset.rating is not None and asset.rating > most:
        return False
    if not all(knows(asset, fact) for fact in chosen.has):
        return False
    if not all(has_part(asset, part) for part in chosen.path_parts):
        return False
    if chosen.collections is not None and asset.collection not in chosen.collections:
        return False
    if (chosen.taken_from or chosen.taken_to) and asset.taken_at is None:
        return False
    if asset.taken_at is not None:
        if chosen.taken_from is not None and asset.taken_at < chosen.taken_from:
            return False
        if chosen.taken_to is not None and last_moment(asset) > chosen.taken_to:
            return False
    if chosen.cameras:
        own = {lower(name) for name in (asset.camera[1], full_name(asset.camera)) if name}
        if not own & {lower(name) for name in chosen.cameras}:
            return False
    if (chosen.gps_box or chosen.gps_near) and (latitude is None or longitude is None):
        return False
    if latitude is not None and longitude is not None:
        if chosen.gps_box is not None and not in_box(chosen.gps_box, latitude, longitude):
            return False
        near = chosen.gps_near
        if near is not None and (
            distance_km((near.latitude, near.longitude), (latitude, longitude)) > near.radius_km
        ):
            return False
    for pixels, fewest, largest in (
        (width, chosen.min_width, chosen.max_width),
        (height, chosen.min_height, chosen.max_height),
    ):
        if (fewest is not None and pixels < fewest) or (largest is not None and pixels > largest):
            return False
    shape = {
        Orientation.LANDSCAPE: width > height,
        Orientation.PORTRAIT: width < height,
        Orientation.SQUARE: width == height,
    }
    if chosen.orientation is not None and not shape[chosen.orientation]:
        return False
    tags = set(map(nfc, asset.tags))
    if not set(map(nfc, chosen.tags)) <= tags or tags & set(map(nfc, chosen.without_tags)):
        return False
    for name, value in chosen.custom:
        if name not in asset.custom or not same_value(asset.custom[name], value):
            return False
    if chosen.external_ids and asset.external_id not in chosen.external_ids:
        return False
    prefixes = chosen.path_prefixes
    return not prefixes or any(is_below(nfc_path(asset.path), folder) for folder in prefixes)


def plain(text: str) -> str:
    """Without case and accents."""
    return "".join(
        letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter)
    ).lower()


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def nfc_path(path: bytes) -> bytes:
    return os.fsencode(nfc(os.fsdecode(path)))


def last_moment(asset: Made) -> datetime.datetime:
    """The last second that a date may mean."""
    date = asset.taken_at
    assert date is not None
    day = datetime.timedelta(days=1)
    match asset.precision:
        case DatePrecision.YEAR:
            end = date.replace(year=date.year + 1)
        case DatePrecision.MONTH:
            end = (date + 31 * day).replace(day=1)
        case DatePrecision.DAY:
            end = date + day
        case _:
            return date
    return end - datetime.timedelta(seconds=1)


def knows(asset: Made, fact: Fact) -> bool:
    return {
        Fact.GPS: asset.place[0] is not None,
        Fact.DATE: asset.taken_at is not None,
        Fact.CAMERA: full_name(asset.camera) is not None,
        Fact.LENS: bool(asset.lens),
        Fact.TITLE: bool(asset.title if asset.edited_title is None else asset.edited_title),
        Fact.DESCRIPTION: bool(asset.description),
        Fact.TAG: bool(asset.tags),
        Fact.RATING: bool(asset.rating),
        Fact.VIDEO: asset.duration_ms is not None,
        # Stacks have tests of their own; none is found here.
        Fact.STACK: False,
    }[fact]


def is_below(path: bytes, folder: bytes) -> bool:
    stem = nfc_path(folder).rstrip(b"/")
    return path == stem or path.startswith(stem + b"/")


def has_part(asset: Made, part: PathPart) -> bool:
    path = nfc_path(asset.path)
    if any(is_below(path, folder) for folder in part.at):
        return True
    wanted = nfc_path(part.part).strip(b"/").split(b"/")
    if asset.upload is not None:
        return [nfc(asset.upload).encode()] == wanted
    for folder in [b"/"] if part.below is None else part.below:
        if is_below(path, folder):
            inside = path[len(nfc_path(folder).rstrip(b"/")) :].split(b"/")[1:]
            runs = (inside[at : at + len(wanted)] for at in range(len(inside)))
            if wanted in runs:
                return True
    return False


def some(values: list[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.just(()) | st.lists(st.sampled_from(values), max_size=most).map(tuple)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.none() | strategy


# Of numbers next to nothing PostgreSQL can't take the square.
_latitudes = st.sampled_from([-90.0, -17.0, 0.0, 1e-200, 52.5, 90.0]) | st.floats(-90, 90)
_longitudes = st.sampled_from([-180.0, -179.5, 0.0, 13.4, 180.0]) | st.floats(-180, 180)
_boxes = st.builds(
    lambda west, east, one, other: GpsBox(west, min(one, other), east, max(one, other)),
    _longitudes,
    _longitudes,
    _latitudes,
    _latitudes,
)
# Not a distance between two of the places, where rounding would decide.
_circles = st.builds(
    GpsCircle, _latitudes, _longitudes, st.sampled_from([1e-9, 0.5, 13.7, 777.7, 20_050.0])
)
_sizes = st.sampled_from([0, 1, 29, 30, 31, 40, 5000, 2**31 - 1])
_FLAT = st.builds(
    AssetFilter,
    collections=maybe(st.lists(st.sampled_from(COLLECTIONS), max_size=2).map(tuple)),
    taken_from=maybe(st.sampled_from(TIMES[1:])),
    taken_to=maybe(st.sampled_from(TIMES[1:])),
    cameras=some(NAMES),
    gps_box=maybe(_boxes),
    gps_near=maybe(_circles),
    min_width=maybe(_sizes),
    max_width=maybe(_sizes),
    min_height=maybe(_sizes),
    max_height=maybe(_sizes),
    orientation=maybe(st.sampled_from(list(Orientation))),
    tags=some(TAGS),
    without_tags=some(TAGS),
    custom=some([(name, value) for name in ("k", "K'") for value in VALUES]),
    external_ids=some([*EXTERNAL_IDS, "nobody's"]),
    path_prefixes=some(PREFIXES),
    path_parts=some(PARTS),
    has=some(list(Fact)),
    min_rating=maybe(st.integers(-1, 5)),
    max_rating=maybe(st.integers(-1, 5)),
    min_duration=maybe(st.integers(0, 61)),
    max_duration=maybe(st.integers(0, 61)),
    lenses=some([*LENSES, "50MM É", "nothing"]),
    formats=some(["JPEG", "PNG"]),
    countries=some(["DE", "FR", "XX"]),
    cities=some(["köln", "KOLN", "ko\u0308ln", "Paris", "Berlin", ""]),
)
# With one condition most filters let some assets through and others not.
SINGLE = st.one_of(
    *(
        st.builds(
            lambda chosen, name=name: replace(EVERYTHING, **{name: getattr(chosen, name)}), _FLAT
        )
        for name in AssetFilter.__dataclass_fields__
        if not name.startswith("_") and name not in {"also", "without", "any_of", "albums"}
    )
)
_INNER = some([EVERYTHING]) | st.lists(SINGLE, max_size=2).map(tuple)
# Three deep, as faces put filters into each other.
FILTERS = st.builds(
    lambda chosen, also, without, any_of: replace(
        chosen, also=also, without=without, any_of=any_of
    ),
    SINGLE | _FLAT,
    _INNER | st.builds(lambda inner: (AssetFilter(also=inner),), _INNER),
    _INNER | st.builds(lambda inner: (AssetFilter(without=inner),), _INNER),
    _INNER | st.builds(lambda inner: (AssetFilter(any_of=inner),), _INNER),
)


def made_assets(rng: random.Random) -> list[Made]:
    """Assets with every value that the filters ask about; contents that have several of them."""
    assets = []
    sizes = {content: rng.choice(SIZES) for content in range(1, 31)}
    for number in range(60):
        content = rng.choice(list(sizes))
        time, precision = rng.choice(TIMES), rng.choice(list(DatePrecision))
        custom = {name: rng.choice(VALUES) for name in ("k", "K'", "other") if rng.random() < 0.5}
        assets.append(
            Made(
                rng.choice(COLLECTIONS[:2]),
                content,
                PATHS[number] if number < len(PATHS) else rng.choice(PATHS) + b"/%d" % number,
                sizes[content],
                time and precision.start_of(time),
                precision,
                rng.choice(CAMERAS),
                rng.choice(PLACES),
                frozenset(tag for tag in TAGS if rng.random() < 0.3),
                custom,
                trashed=rng.random() < 0.15,
                failed=rng.random() < 0.05,
                title=rng.choice([None, "", "a title"]),
                edited_title=rng.choice([None, None, "", "another"]),
                rating=rng.choice([None, -1, 3]),
                lens=rng.choice([None, LENSES[number % len(LENSES)]]),
                description=rng.choice([None, "", "what it shows"]),
                upload=rng.choice([None, None, None, "1.jpg", "p"]),
                external_id=EXTERNAL_IDS[number] if number < len(EXTERNAL_IDS) else None,
                country=(None, "DE", "FR")[number % 3],
                city=(None, "Köln", "Paris", None)[number % 4] if number % 3 else None,
            )
        )
    return assets
