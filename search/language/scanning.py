"""Splits the text of a query into words, quoted texts, fields with values, and brackets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from regard.core.errors import MalformedQuery
from regard.search.language.syntax import MAX_WEIGHT, Span, is_condition, reads_as_field

QUOTES = '"“”„'
ESCAPABLE = QUOTES + "\\^:-()"
OR = "OR"
# The word itself.
ESCAPED_OR = "\\OR"
_ESCAPE = rf"\\[{re.escape(ESCAPABLE)}]"
_ESCAPE_IN_QUOTES = rf"\\[{QUOTES}\\]"
# Possessive, so that the end of an escape is not taken for the end of a name.
_NAME = re.compile(rf"((?:{_ESCAPE}|[^\s:{QUOTES}])*+):")
_QUOTED = re.compile(rf"(?:{_ESCAPE_IN_QUOTES}|[^{QUOTES}])*+")
_UNSPACED = re.compile(r"\S*")
_BRACKET = re.compile(rf"{_ESCAPE}|[()\s]")
# What may stand between a bracket that opens a group and its first field.
_OPENING = re.compile(r"-?\((?:\s*-?\()*\s*-?")
_MARK = re.compile(rf"{_ESCAPE}|\^")
# What follows ^ is a weight if it begins like a number.
_LIKE_A_NUMBER = re.compile(r"[+-]?\.?[0-9]")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a query between spaces; `field` is None for a text.

    `at` is its place including sign and weight; `value_at` is that of the text or value alone.
    """

    text: str
    quoted: bool
    negative: bool
    field: str | None
    weight: float | None
    at: Span
    value_at: Span
    weight_at: Span | None


@dataclass(frozen=True, slots=True)
class Bracket:
    """A bracket around filters; one that opens a group may be `negative`."""

    opens: bool
    negative: bool
    at: Span


class Scanner:
    """Splits a text into chunks and the brackets of groups.

    `depth` is the number of groups around the start of the text.
    """

    def __init__(self, source: str, depth: int = 0) -> None:
        self._source = source
        self._position = 0
        self._depth = depth

    def next(self) -> Chunk | Bracket | None:
        """The next chunk or bracket, or None at the end; raises MalformedQuery."""
        source = self._source
        while self._position < len(source) and source[self._position].isspace():
            self._position += 1
        start = self._position
        if start == len(source):
            return None
        bracket = self._take_bracket()
        if bracket is not None:
            return bracket
        negative = self._take_sign()
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

    def _take_bracket(self) -> Bracket | None:
        """A bracket that opens a group, since a filter follows, or closes one."""
        source, start = self._source, self._position
        if self._depth and source[start] == ")":
            self._position += 1
            self._depth -= 1
            if self._end_of_chunk(self._position) > self._position:
                raise MalformedQuery(
                    "a closing bracket must be followed by a space",
                    position=self._position,
                    length=1,
                    remedy="insert a space",
                )
            return Bracket(opens=False, negative=False, at=Span(start, 1))
        opening = _OPENING.match(source, start)
        if opening is None:
            return None
        name = _NAME.match(source, opening.end())
        if name is None or not is_condition(_unescaped(name[1])):
            return None
        negative = source[start] == "-"
        self._position += 1 + negative
        self._depth += 1
        return Bracket(opens=True, negative=negative, at=Span(start, 1 + negative))

    def _take_sign(self) -> bool:
        """Whether a minus precedes a word or a quote; a dash between spaces is text."""
        rest = self._source[self._position : self._position + 2]
        if len(rest) == 2 and rest[0] == "-" and rest[1] != "-" and not rest[1].isspace():
            self._position += 1
            return True
        return False

    def _take_field(self) -> str | None:
        """The name before the first colon, if it is a field."""
        match = _NAME.match(self._source, self._position)
        if match is None:
            return None
        name = _unescaped(match[1])
        if not reads_as_field(name, self._source[match.end() : match.end() + 2]):
            return None
        self._position = match.end()
        return name

    def _take_quoted(self) -> tuple[str, int, Span | None]:
        source, start = self._source, self._position
        match = _QUOTED.match(source, start + 1)
        assert match is not None
        if match.end() == len(source):
            raise MalformedQuery(
                "the quote that starts here is not closed",
                position=start,
                length=1,
                remedy='close it, or write \\" for the character itself',
            )
        text = re.sub(_ESCAPE_IN_QUOTES, lambda escape: escape[0][1], match[0])
        end = match.end() + 1
        rest = self._position = self._end_of_chunk(end)
        if rest == end:
            return text, end, None
        if source[end] != "^":
            raise MalformedQuery(
                "a closing quote must be followed by a space or a weight",
                position=end,
                length=rest - end,
                remedy="insert a space",
            )
        return text, end, Span(end, rest - end)

    def _take_bare(self) -> tuple[str, int, Span | None]:
        source, start = self._source, self._position
        end = self._position = self._end_of_chunk(start)
        marks = [m.start() for m in _MARK.finditer(source, start, end) if m[0] == "^"]
        mark = marks[-1] if marks else start
        if mark > start and _LIKE_A_NUMBER.match(source, mark + 1):
            return _unescaped(source[start:mark]), mark, Span(mark, end - mark)
        written = source[start:end]
        return OR if written == ESCAPED_OR else _unescaped(written), end, None

    def _end_of_chunk(self, start: int) -> int:
        """The place of the next space, or of the bracket that closes the group, or the end."""
        source = self._source
        if not self._depth:
            match = _UNSPACED.match(source, start)
            assert match is not None
            return match.end()
        inner = 0
        for mark in _BRACKET.finditer(source, start):
            if mark[0].isspace() or (mark[0] == ")" and not inner):
                return mark.start()
            inner += {"(": 1, ")": -1}.get(mark[0], 0)
        return len(source)

    def _weight(self, at: Span) -> float:
        text = self._source[at.position + 1 : at.end]
        weight = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not 0 < weight <= MAX_WEIGHT:
            raise MalformedQuery(
                f"the weight is not a number above 0 and up to {MAX_WEIGHT:g}",
                position=at.position,
                length=at.length,
                remedy="write it as ^2 or ^0.5, and \\^ for the character itself",
            )
        return weight


def _unescaped(text: str) -> str:
    return re.sub(_ESCAPE, lambda escape: escape[0][1], text)
