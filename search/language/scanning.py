"""Splits the text of a query into words, quoted texts, fields with values, and brackets.

Brackets around nothing but words are a part of the words.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from regard.core.errors import MalformedQuery
from regard.search.language.syntax import MAX_WEIGHT, Span, reads_as_field

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
_OPENING = re.compile(r"-?\(")
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
    is_or: bool

    @property
    def is_word(self) -> bool:
        """Whether it is a word without quotes or a sign, which joins those beside it."""
        return self.field is None and not self.quoted and not self.negative


@dataclass(frozen=True, slots=True)
class Bracket:
    """A bracket around more than words; one that opens a group may be `negative`."""

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
        # Before this place, brackets outside of groups are a part of words.
        self._words_end = 0

    def next(self) -> Chunk | Bracket | None:
        """The next chunk or bracket, or None at the end; raises MalformedQuery."""
        source = self._source
        while self._position < len(source) and source[self._position].isspace():
            self._position += 1
        start = self._position
        if start == len(source):
            return None
        if source[start] in "-()" and (bracket := self._take_bracket()) is not None:
            return bracket
        negative = source[start] == "-" and self._take_sign()
        field = self._take_field()
        begin = self._position
        quoted = begin < len(source) and source[begin] in QUOTES
        if quoted:
            text, end, weight_at = self._take_quoted()
        else:
            text, end, weight_at = self._take_bare()
            if field is not None and unmatched_bracket(source, begin, end) is not None:
                raise MalformedQuery(
                    "the brackets in this value do not match",
                    position=begin,
                    length=end - begin,
                    remedy="quote the value, or add the missing bracket",
                )
        weight = None if weight_at is None else self._weight(weight_at)
        at, value_at = Span(start, self._position - start), Span(begin, end - begin)
        is_or = source[start : self._position] == OR
        return Chunk(text, quoted, negative, field, weight, at, value_at, weight_at, is_or)

    def _take_bracket(self) -> Bracket | None:
        """A bracket that opens or closes a group."""
        source, start = self._source, self._position
        if self._depth and source[start] == ")":
            self._position += 1
            self._depth -= 1
            return Bracket(opens=False, negative=False, at=Span(start, 1))
        opening = _OPENING.match(source, start)
        if opening is None:
            return None
        negative = source[start] == "-"
        if not (self._depth or negative or self._holds_more_than_words(start)):
            return None
        self._position = opening.end()
        self._depth += 1
        return Bracket(opens=True, negative=negative, at=Span(start, 1 + negative))

    def _holds_more_than_words(self, start: int) -> bool:
        """Whether the bracket at `start` has more than words before the one that closes it."""
        if start < self._words_end:
            return False
        ahead = Scanner(self._source, depth=1)
        ahead._position = start + 1
        try:
            while ahead._depth and (part := ahead.next()) is not None:
                if isinstance(part, Bracket):
                    if part.negative:
                        return True
                elif not part.is_word or part.weight_at is not None or self._is_inner_or(part):
                    return True
        except MalformedQuery:
            return True
        self._words_end = ahead._position
        return False

    def _is_inner_or(self, chunk: Chunk) -> bool:
        """Whether it is an OR with spaces around it: `(OR` and `OR)` are words."""
        source, at = self._source, chunk.at
        around = source[at.position - 1] + source[at.end : at.end + 1]
        return chunk.is_or and (around + " ").isspace()

    def _take_sign(self) -> bool:
        """Whether a minus precedes a word or a quote; a dash between spaces is text."""
        after = self._source[self._position + 1 : self._position + 2]
        if not after or after == "-" or after.isspace():
            return False
        self._position += 1
        return True

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


def unmatched_bracket(source: str, begin: int, end: int) -> int | None:
    """The place of a bracket that has no other half between `begin` and `end`."""
    opened: list[int] = []
    for mark in _BRACKET.finditer(source, begin, end):
        if mark[0] == "(":
            opened.append(mark.start())
        elif mark[0] == ")":
            if not opened:
                return mark.start()
            opened.pop()
    return opened[0] if opened else None


def _unescaped(text: str) -> str:
    return re.sub(_ESCAPE, lambda escape: escape[0][1], text)
