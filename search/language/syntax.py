"""The query language: its fields and limits, and parsed queries as values.

Positions are in characters of the parsed text, and are ignored when queries are compared.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regard.core.filters import CustomValue, Fact, GpsBox, GpsCircle, Orientation
from regard.core.geometry import Box
from regard.search.answers import Reference

MAX_LENGTH = 2000
MAX_TERMS = 16
# Each costs one run of the encoders.
MAX_PICTURE_TERMS = 4
MAX_CONDITIONS = 32
# Each costs a search.
MAX_ALTERNATIVES = 8
MAX_NESTING = 8
MAX_WEIGHT = 100.0
WEIGHT = 1.0
NEGATIVE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the text, in characters."""

    position: int = 0
    length: int = 0

    @property
    def end(self) -> int:
        """The position after its last character."""
        return self.position + self.length


@dataclass(frozen=True, slots=True)
class WrittenText:
    """Words; `quoted` words are also searched as a phrase."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class WrittenPicture:
    """A picture by a name that the caller resolves, or the part of it inside `box`."""

    name: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class WrittenTerm:
    """Something to look for or, if `negative`, to avoid, with its weight.

    An `alternative` may be found in place of the term before it.
    """

    what: WrittenText | WrittenPicture | Reference
    weight: float = WEIGHT
    negative: bool = False
    alternative: bool = False
    span: Span = dataclasses.field(default=Span(), compare=False)


class Field(StrEnum):
    """The fields of conditions."""

    COLLECTION = "collection"
    TAKEN = "taken"
    CAMERA = "camera"
    WITHIN = "within"
    NEAR = "near"
    WIDTH = "width"
    HEIGHT = "height"
    ORIENTATION = "orientation"
    TAG = "tag"
    CUSTOM = "custom"
    PATH = "path"
    HAS = "has"
    RATING = "rating"
    DURATION = "duration"
    LENS = "lens"
    FORMAT = "format"
    ALBUM = "album"
    COUNTRY = "country"
    CITY = "city"
    STACK = "stack"


@dataclass(frozen=True, slots=True)
class Period:
    """A period including both ends; None is an open end."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Pixels:
    """A range of pixels including both ends; None is an open end."""

    least: int | None
    most: int | None


@dataclass(frozen=True, slots=True)
class Stars:
    """A range of ratings including both ends; None is an open end."""

    least: int | None
    most: int | None


@dataclass(frozen=True, slots=True)
class Seconds:
    """A range of whole seconds including both ends; None is an open end."""

    least: int | None
    most: int | None


@dataclass(frozen=True, slots=True)
class CustomField:
    """A custom field and its value."""

    name: str
    value: CustomValue


Value = (
    str | Period | Pixels | Stars | Seconds | GpsBox | GpsCircle | Orientation | Fact | CustomField
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on photographs, or with `negative` its negation.

    `written` is the text of the value without quotes and escapes, `quoted` says whether it had
    quotes, and `value` is its meaning. `name` is the name of a custom field, else empty.
    """

    field: Field
    value: Value
    written: str
    negative: bool = False
    quoted: bool = False
    name: str = ""
    span: Span = dataclasses.field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives: one must hold or, with `negative`, none; each is all its conditions.

    A single alternative is a pair of brackets around several conditions, or a negated one.
    """

    alternatives: tuple[tuple[Condition | Group, ...], ...]
    negative: bool = False
    span: Span = dataclasses.field(default=Span(), compare=False)

    @property
    def is_choice(self) -> bool:
        """Whether it is alternatives joined by OR, without a minus."""
        return len(self.alternatives) > 1 and not self.negative


@dataclass(frozen=True, slots=True)
class WrittenQuery:
    """A parsed query; without terms it lists the photographs that meet its conditions."""

    terms: tuple[WrittenTerm, ...] = ()
    conditions: tuple[Condition | Group, ...] = ()

    @property
    def plain_text(self) -> str | None:
        """Its text, if it consists of unquoted words only."""
        if len(self.terms) != 1 or self.conditions:
            return None
        (term,) = self.terms
        if term.negative or not isinstance(term.what, WrittenText) or term.what.quoted:
            return None
        return term.what.text


LIKE, IMAGE, BOX = "like", "image", "box"
CUSTOM = f"{Field.CUSTOM}."
FIELDS = (*(field.value for field in Field if field is not Field.CUSTOM), LIKE, IMAGE, BOX)

# Names of the fields elsewhere, including regard's HTTP parameters.
_OTHER_NAMES = {
    "tags": "tag:", "keyword": "tag:", "keywords": "tag:", "label": "tag:", "not_tag": "-tag:",
    "date": "taken:", "year": "taken:", "month": "taken:", "taken_from": "taken:2024-05..",
    "taken_to": "taken:..2024-06", "before": "taken:<2024-06", "after": "taken:>2024-05",
    "make": "camera:", "model": "camera:", "cam": "camera:",
    "albums": "album:", "folder": "path:", "dir": "path:", "directory": "path:",
    "path_prefix": "path:", "file": "path:", "filename": "path:",
    "gps": "near:52.5,13.4,10km", "geo": "near:52.5,13.4,10km", "gps_near": "near:52.5,13.4,10km",
    "gps_box": "within:", "bbox": "within:", "min_width": "width:>=", "max_width": "width:<=",
    "min_height": "height:>=", "max_height": "height:<=", "is": "has:", "not": "-",
    "stars": "rating:", "rated": "rating:", "min_rating": "rating:>=", "max_rating": "rating:<=",
    "lenses": "lens:", "type": "format:", "filetype": "format:", "ext": "format:",
    "length": "duration:", "seconds": "duration:", "min_duration": "duration:>=",
    "max_duration": "duration:<=", "video": "has:video", "videos": "has:video",
    "town": "city:", "place": "city:", "nation": "country:",
    "stacks": "has:stack", "stacked": "has:stack", "burst": "has:stack",
    "similar": "like:", "asset": "like:", "region": "like:", "picture": "image:", "photo": "image:",
}  # fmt: skip
# Shorter names differ from too many words by one letter.
_SHORTEST = 4


def reads_as_field(name: str, after: str) -> bool:
    """Whether `name` before a colon is a field, given the two characters after the colon.

    Other words are text, as in 10:30, https://… and "note: dusk". A near miss counts as a field
    only if a value follows directly.
    """
    name = name.lower()
    if name in FIELDS or name.startswith(CUSTOM):
        return True
    return bool(after) and not after[0].isspace() and after != "//" and suggestion(name) is not None


def suggestion(name: str) -> str | None:
    """How a near miss of a field should begin; None for any other word."""
    name = name.lower()
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    if name == Field.CUSTOM:
        return "custom.NAME:"
    if len(name) < _SHORTEST:
        return None
    # One letter more, less, different or elsewhere.
    fields = [field for field in FIELDS if len(field) >= _SHORTEST]
    near = difflib.get_close_matches(name, fields, n=1, cutoff=1 - 1 / len(name))
    return f"{near[0]}:" if near else None
