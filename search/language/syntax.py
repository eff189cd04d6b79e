"""What a query says, as a value: its terms and its conditions, in the order written.

Positions are in characters of the text that was parsed, and count for nothing when queries are compared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from regard.core.filters import CustomValue, Fact, GpsBox, GpsCircle, Orientation
from regard.core.geometry import Box
from regard.search.identifiers import Reference

MAX_LENGTH = 2000
MAX_TERMS = 16
# Each costs a look of the models.
MAX_PICTURE_TERMS = 4
MAX_CONDITIONS = 32
MAX_WEIGHT = 100.0
WEIGHT = 1.0
NEGATIVE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """A place in the text, in characters."""

    position: int = 0
    length: int = 0

    @property
    def end(self) -> int:
        """The first character after it."""
        return self.position + self.length


@dataclass(frozen=True, slots=True)
class WrittenText:
    """Words; `quoted` ones are looked for as a phrase, too."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class WrittenPicture:
    """A picture by the name that the face gives it, or the part of it inside `box`."""

    name: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class WrittenTerm:
    """Something that is looked for, or that is not wanted, and how much it counts."""

    what: WrittenText | WrittenPicture | Reference
    weight: float = WEIGHT
    negative: bool = False
    span: Span = dataclasses.field(default=Span(), compare=False)


class Field(StrEnum):
    """What conditions are about."""

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


@dataclass(frozen=True, slots=True)
class Period:
    """From one moment to another, both included; None is an open end."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Pixels:
    """From one number to another, both included; None is an open end."""

    least: int | None
    most: int | None


@dataclass(frozen=True, slots=True)
class CustomField:
    """A custom field and the value that it has."""

    name: str
    value: CustomValue


Value = str | Period | Pixels | GpsBox | GpsCircle | Orientation | Fact | CustomField


@dataclass(frozen=True, slots=True)
class Condition:
    """What a photograph must be, or with `negative` must not be.

    `written` is the value as it stands in the text without quotes and escapes, `quoted` whether it had
    quotes; `value` is what it means. `name` is that of a custom field, else empty.
    """

    field: Field
    value: Value
    written: str
    negative: bool = False
    quoted: bool = False
    name: str = ""
    span: Span = dataclasses.field(default=Span(), compare=False)


@dataclass(frozen=True, slots=True)
class WrittenQuery:
    """All that a query says; without terms it is a list of what the conditions let through."""

    terms: tuple[WrittenTerm, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def plain_text(self) -> str | None:
        """Its text, when it says nothing but some words without quotes."""
        if len(self.terms) != 1 or self.conditions:
            return None
        (term,) = self.terms
        if term.negative or not isinstance(term.what, WrittenText) or term.what.quoted:
            return None
        return term.what.text
