"""Text to chunks: a chunk is what stands between two spaces, or a quoted text, with its sign and weight.

    [-] WORD [^WEIGHT]             [-] "TEXT" [^WEIGHT]
    [-] FIELD: VALUE [^WEIGHT]     [-] FIELD: "VALUE" [^WEIGHT]

A backslash takes away what the next character means: a quote, a backslash, `^`, `:` or `-`; before
any other it is itself. What looks like a field is decided by the caller, who knows their names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from regard.core.errors import MalformedQuery
from regard.search.language.syntax import MAX_WEIGHT, Span

QUOTES = '"“”„'
ESCAPABLE = QUOTES + "\\^:-"
_ESCAPED_IN_QUOTES = QUOTES + "\\"
# What stands after ^ is a weight if it begins like one.
_LIKE_A_NUMBER = re.compile(r"[+-]?\.?[0-9]")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a query; `field` is None for a text.

    `at` is where it stands, sign and weight included; `value_at` is the text or value without them.
    """

    text: str
    quoted: bool
    negative: bool
    field: str | None
    weight: float | None
    at: Span
    value_at: Span
    weight_at: Span | None


class Scanner:
    """Reads chunks from a text, one after another."""

    def __init__(self, source: str, is_field: Callable[[str, str], bool]) -> None:
        """`is_field` tells of a name before a colon and of what follows whether it is a field."""
        self._source = source
        self._is_field = is_field
        self._position = 0

    def next(self) -> Chunk | None:
        """The next chunk, None at the end; raises MalformedQuery."""
        source = self._source
        while self._position < len(source) and source[self._position].isspace():
            self._position += 1
        start = self._position
        if start == len(source):
            return None
        negative = self._takes_sign()
        field = self._take_field()
        begin = self._position
        quoted = begin < len(source) and source[begin] in QUOTES
        if quoted:
            text, end, weight_at = self._take_quoted()
        else:
            text, end, weight_at = self._take_bare()
        weight = None if weight_at is None else self._weight(weight_at)
        at = Span(start, self._position - start)
        return Chunk(text, quoted, negative, field, weight, at, Span(begin, end - begin), weight_at)

    def _takes_sign(self) -> bool:
        """Whether a minus says that this is not wanted: one before a word, not a dash on its own."""
        rest = self._source[self._position : self._position + 2]
        if len(rest) == 2 and rest[0] == "-" and rest[1] != "-" and not rest[1].isspace():
            self._position += 1
            return True
        return False

    def _take_field(self) -> str | None:
        """The name before the first colon, when it is that of a field."""
        source, start = self._source, self._position
        end = start
        name = []
        while end < len(source) and not source[end].isspace() and source[end] != ":":
            if source[end] in QUOTES:
                return None
            step = 2 if _is_escape(source, end) else 1
            name.append(source[end + step - 1])
            end += step
        if end >= len(source) or source[end] != ":":
            return None
        after = source[end + 1 : end + 3]
        found = "".join(name)
        if not self._is_field(found, after):
            return None
        self._position = end + 1
        return found

    def _take_quoted(self) -> tuple[str, int, Span | None]:
        source, start = self._source, self._position
        place = start + 1
        text = []
        while place < len(source) and source[place] not in QUOTES:
            if _is_escape(source, place, _ESCAPED_IN_QUOTES):
                place += 1
            text.append(source[place])
            place += 1
        if place == len(source):
            raise MalformedQuery(
                "the quote that begins here has no end",
                position=start,
                length=1,
                remedy='close it, or write \\" for the character itself',
            )
        end = place + 1
        rest = end
        while rest < len(source) and not source[rest].isspace():
            rest += 1
        self._position = rest
        if rest == end:
            return "".join(text), end, None
        if source[end] != "^":
            raise MalformedQuery(
                "after a closing quote comes a space or a weight",
                position=end,
                length=rest - end,
                remedy="put a space between them",
            )
        return "".join(text), end, Span(end, rest - end)

    def _take_bare(self) -> tuple[str, int, Span | None]:
        source, start = self._source, self._position
        place = start
        text: list[str] = []
        # Where the last ^ that is not escaped stands, and how much text is before it.
        mark: tuple[int, int] | None = None
        while place < len(source) and not source[place].isspace():
            if _is_escape(source, place):
                place += 1
            elif source[place] == "^":
                mark = place, len(text)
            text.append(source[place])
            place += 1
        self._position = place
        if mark is not None and mark[0] > start and _LIKE_A_NUMBER.match(source, mark[0] + 1):
            return "".join(text[: mark[1]]), mark[0], Span(mark[0], place - mark[0])
        return "".join(text), place, None

    def _weight(self, at: Span) -> float:
        text = self._source[at.position + 1 : at.end]
        weight = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not 0 < weight <= MAX_WEIGHT:
            raise MalformedQuery(
                f"the weight is no number above 0 up to {MAX_WEIGHT:g}",
                position=at.position,
                length=at.length,
                remedy="write it as ^2 or ^0.5, and \\^ for the character itself",
            )
        return weight


def _is_escape(source: str, place: int, escapable: str = ESCAPABLE) -> bool:
    return source[place] == "\\" and place + 1 < len(source) and source[place + 1] in escapable
