"""Countries by ISO 3166-1 code and by English name."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping

from regard.core.words import folded
from regard.photos.geonames import data_file

# Where the list has a formal or a former name.
_USUAL = {
    "BN": "Brunei", "BQ": "Caribbean Netherlands", "CD": "DR Congo", "CZ": "Czechia",
    "FK": "Falkland Islands", "FM": "Micronesia", "IR": "Iran", "KP": "North Korea",
    "KR": "South Korea", "LA": "Laos", "LY": "Libya", "MD": "Moldova", "MK": "North Macedonia",
    "RU": "Russia", "SY": "Syria", "SZ": "Eswatini", "TZ": "Tanzania", "VA": "Vatican City",
    "VG": "British Virgin Islands", "VI": "U.S. Virgin Islands",
}  # fmt: skip
_ALSO = {"uk": "GB", "usa": "US", "great britain": "GB", "turkiye": "TR", "ivory coast": "CI"}


def country_name(code: str) -> str:
    """The English name of a country, or the code itself if it is not in the list."""
    return _USUAL.get(code) or _listed().get(code, code)


def country_code(text: str) -> str | None:
    """The ISO 3166-1 alpha-2 code of a country by its code or English name, in any case."""
    return _codes().get(folded(text))


@functools.cache
def _listed() -> Mapping[str, str]:
    with open(data_file("countries.csv"), encoding="utf-8", newline="") as file:
        return dict(csv.reader(file))


@functools.cache
def _codes() -> Mapping[str, str]:
    names = [*_listed().items(), *_USUAL.items()]
    return {
        **{folded(name): code for code, name in names},
        **_ALSO,
        **{folded(code): code for code, _ in names},
    }
