"""Completes the filter at the end of a query that is being typed, from values of the library.

`har` may become `tag:harbour`, `new yo` becomes `city:"New York City"`, `-camera:can` becomes
`-camera:"Canon EOS R5"`. Inside a quoted phrase, nothing is completed.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from regard.core.words import folded
from regard.search.language.printing import print_filter
from regard.search.language.syntax import Field

# A filter whose value has begun, in quotes or without spaces.
_FILTER = re.compile(r"(?:^|(?<=[\s(]))(-?)([A-Za-z]+):(?:\"([^\"]*)|([^\s\"]*))$")
# The last words, before which there is no quote left open.
_WORD = r"[^\s\"“”„():^-][^\s\"“”„():^]*"
_WORDS = re.compile(rf"(?:(?<=[\s(])|^)(?:{_WORD}\s+){{0,3}}{_WORD}$")
_LEAST_LETTERS = 2


class ValueKind(StrEnum):
    """What a value is. Albums with a query are saved searches; both are filters of one field."""

    TAG = "tag"
    ALBUM = "album"
    SAVED_SEARCH = "saved search"
    CITY = "city"
    COUNTRY = "country"
    CAMERA = "camera"
    LENS = "lens"

    @property
    def field(self) -> Field:
        """The field that filters by such values."""
        return Field.ALBUM if self is ValueKind.SAVED_SEARCH else Field(self.value)


class FoldedValue(NamedTuple):
    """A value, and its form for comparing."""

    kind: ValueKind
    value: str
    folded: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value of the library, and the query that has it in place of what was typed last."""

    kind: ValueKind
    value: str
    query: str


class _Reading(NamedTuple):
    """One way to read the end of a query: `fragment` begins a value, of `field` if it is named."""

    before: str
    fragment: str
    field: Field | None = None
    negative: bool = False


class Completion:
    """The end of a query as what it may complete."""

    def __init__(self, text: str) -> None:
        """`text` is the query up to the caret."""
        self._readings = tuple(_readings(text))

    def kinds(self) -> list[ValueKind]:
        """The kinds of values that may complete it; none if nothing can."""
        fields = {reading.field for reading in self._readings}
        return [kind for kind in ValueKind if None in fields or kind.field in fields]

    def rank(self, values: Sequence[FoldedValue], most: int) -> Iterator[Suggestion]:
        """The values that continue what was typed, the best first, `most` of them.

        First come values that continue the most words; among these, values that begin with them
        before values with a later word that does.
        """
        for place, _, _, _, (kind, value, _) in heapq.nsmallest(most, self._matches(values)):
            reading = self._readings[place]
            written = print_filter(kind.field, value, negative=reading.negative)
            yield Suggestion(kind, value, reading.before + written)

    def _matches(
        self, values: Sequence[FoldedValue]
    ) -> Iterator[tuple[int, bool, int, str, FoldedValue]]:
        order = {kind: place for place, kind in enumerate(ValueKind)}
        matched: set[FoldedValue] = set()
        for place, (_, fragment, field, _) in enumerate(self._readings):
            # Most values do not hold it at all.
            for item in [item for item in values if fragment in item.folded]:
                if item in matched or field not in {None, item.kind.field}:
                    continue
                begins = item.folded.startswith(fragment)
                if begins or f" {fragment}" in item.folded:
                    matched.add(item)
                    yield place, not begins, order[item.kind], item.folded, item


def _readings(text: str) -> Iterator[_Reading]:
    """The ways to read the end of a text, those that take most of it first."""
    match = _FILTER.search(text)
    if match is not None:
        sign, name, quoted, bare = match.groups()
        fields = {kind.field for kind in ValueKind}
        if name.lower() in fields:
            fragment = folded(quoted if quoted is not None else bare)
            yield _Reading(text[: match.start()], fragment, Field(name.lower()), bool(sign))
        return
    if len(re.findall('["“”„]', text)) % 2:
        return
    match = _WORDS.search(text)
    if match is None:
        return
    for word in re.finditer(r"\S+", match[0]):
        fragment = folded(" ".join(match[0][word.start() :].split()))
        if len(fragment) >= _LEAST_LETTERS:
            yield _Reading(text[: match.start() + word.start()], fragment)


def fold_values(kind: ValueKind, values: Iterable[str]) -> list[FoldedValue]:
    """Values in the form that `Completion.rank` takes."""
    return [FoldedValue(kind, value, folded(value)) for value in values]
