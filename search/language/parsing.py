"""Parses the query language: any text is a query, or an error with its place.

    [-] WORD [^WEIGHT]             [-] "TEXT" [^WEIGHT]
    [-] FIELD: VALUE [^WEIGHT]     [-] FIELD: "VALUE" [^WEIGHT]

A backslash removes the special meaning of a quote, a backslash, `^`, `:` or `-`; before any other
character it is a plain backslash. Unquoted words side by side are one text, which ends at anything
else or after a weight.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

from regard.core.errors import MalformedQuery, UsageError
from regard.search.answers import Reference, parse_identifier
from regard.search.language.syntax import (
    BOX,
    CUSTOM,
    FIELDS,
    IMAGE,
    LIKE,
    MAX_CONDITIONS,
    MAX_LENGTH,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    MAX_WEIGHT,
    NEGATIVE_WEIGHT,
    WEIGHT,
    Condition,
    CustomField,
    Field,
    Span,
    Value,
    WrittenPicture,
    WrittenQuery,
    WrittenTerm,
    WrittenText,
    reads_as_field,
    suggestion,
)
from regard.search.language.values import read_box, read_custom, read_value

QUOTES = '"“”„'
ESCAPABLE = QUOTES + "\\^:-"
_SHOWN = 40
_ESCAPE = rf"\\[{re.escape(ESCAPABLE)}]"
_ESCAPE_IN_QUOTES = rf"\\[{QUOTES}\\]"
# Possessive, so that the end of an escape is not taken for the end of a name.
_NAME = re.compile(rf"((?:{_ESCAPE}|[^\s:{QUOTES}])*+):")
_QUOTED = re.compile(rf"(?:{_ESCAPE_IN_QUOTES}|[^{QUOTES}])*+")
_UNSPACED = re.compile(r"\S*")
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


class Scanner:
    """Splits a text into chunks."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0

    def next(self) -> Chunk | None:
        """The next chunk, or None at the end; raises MalformedQuery."""
        source = self._source
        while self._position < len(source) and source[self._position].isspace():
            self._position += 1
        start = self._position
        if start == len(source):
            return None
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
        rest = self._position = _end_of_chunk(source, end)
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
        end = self._position = _end_of_chunk(source, start)
        marks = [m.start() for m in _MARK.finditer(source, start, end) if m[0] == "^"]
        mark = marks[-1] if marks else start
        if mark > start and _LIKE_A_NUMBER.match(source, mark + 1):
            return _unescaped(source[start:mark]), mark, Span(mark, end - mark)
        return _unescaped(source[start:end]), end, None

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


def _end_of_chunk(source: str, start: int) -> int:
    """The place of the next space, or the end."""
    match = _UNSPACED.match(source, start)
    assert match is not None
    return match.end()


def _unescaped(text: str) -> str:
    return re.sub(_ESCAPE, lambda escape: escape[0][1], text)


def parse_query(source: str) -> WrittenQuery:
    """Parse a text, which may be blank; raises MalformedQuery with the place of the error."""
    _check_characters(source)
    scanner = Scanner(source)
    parser = _Parser(source)
    while (chunk := scanner.next()) is not None:
        parser.add(chunk)
    return parser.query()


def _check_characters(source: str) -> None:
    if len(source) > MAX_LENGTH:
        raise MalformedQuery(
            f"the query has more than {MAX_LENGTH} characters",
            position=MAX_LENGTH,
            length=len(source) - MAX_LENGTH,
            remedy="shorten it",
        )
    for place, character in enumerate(source):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise MalformedQuery("this character is not text", position=place, length=1)


class _Parser:
    """Collects terms and conditions, and words that further words may join."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._terms: list[WrittenTerm] = []
        self._conditions: list[Condition] = []
        self._words: list[Chunk] = []

    def query(self) -> WrittenQuery:
        """The query so far."""
        self._end_words()
        return WrittenQuery(tuple(self._terms), tuple(self._conditions))

    def add(self, chunk: Chunk) -> None:
        """Add a chunk; raises MalformedQuery."""
        if chunk.field is None and not chunk.quoted and not chunk.negative:
            self._words.append(chunk)
            if chunk.weight is not None:
                self._end_words()
            return
        self._end_words()
        if chunk.field is None:
            self._add_term(chunk, WrittenText(_value(chunk), chunk.quoted))
        elif chunk.field.lower() in {LIKE, IMAGE, BOX}:
            self._add_term(chunk, _read_reference(chunk))
        else:
            self._add_condition(chunk)

    def _end_words(self) -> None:
        """Join the words to one text, with the original spaces between them."""
        words = self._words
        if not words:
            return
        self._words = []
        text = words[0].text
        for before, word in itertools.pairwise(words):
            text += self._source[before.at.end : word.at.position] + word.text
        first, last = words[0], words[-1]
        whole = Chunk(
            text,
            quoted=False,
            negative=False,
            field=None,
            weight=last.weight,
            at=_between(first.at, last.at),
            value_at=_between(first.value_at, last.value_at),
            weight_at=last.weight_at,
        )
        self._add_term(whole, WrittenText(text))

    def _add_term(self, chunk: Chunk, what: WrittenText | WrittenPicture | Reference) -> None:
        weight = chunk.weight or (NEGATIVE_WEIGHT if chunk.negative else WEIGHT)
        self._terms.append(WrittenTerm(what, weight, chunk.negative, chunk.at))
        if len(self._terms) > MAX_TERMS:
            raise _error(chunk, f"the query has more than {MAX_TERMS} terms")
        pictures = sum(isinstance(term.what, WrittenPicture) for term in self._terms)
        if pictures > MAX_PICTURE_TERMS:
            raise _error(chunk, f"the query has more than {MAX_PICTURE_TERMS} pictures and boxes")

    def _add_condition(self, chunk: Chunk) -> None:
        name, text = _field_name(chunk), _value(chunk)
        if chunk.weight_at is not None:
            raise MalformedQuery(
                "a filter cannot have a weight",
                position=chunk.weight_at.position,
                length=chunk.weight_at.length,
                remedy="remove it, or write \\^ for the character itself",
            )
        custom = ""
        try:
            if name.lower().startswith(CUSTOM):
                field, custom = Field.CUSTOM, name[len(CUSTOM) :]
                value: Value = CustomField(custom, read_custom(text, quoted=chunk.quoted))
            else:
                field = Field(name.lower())
                value = read_value(field, text)
        except UsageError as error:
            raise _error(chunk, error.message, error.remedy, chunk.value_at) from error
        self._conditions.append(
            Condition(field, value, text, chunk.negative, chunk.quoted, custom, chunk.at)
        )
        if len(self._conditions) > MAX_CONDITIONS:
            raise _error(chunk, f"the query has more than {MAX_CONDITIONS} filters")


def _field_name(chunk: Chunk) -> str:
    """The name of the field as written; raises MalformedQuery for a near miss."""
    assert chunk.field is not None
    name = chunk.field
    lower = name.lower()
    if lower in FIELDS or (lower.startswith(CUSTOM) and len(lower) > len(CUSTOM)):
        return name
    begin = chunk.at.position + chunk.negative
    at = Span(begin, chunk.value_at.position - begin)
    meant = "custom.NAME:" if lower.startswith(CUSTOM) else suggestion(name)
    raise _error(
        chunk,
        f"there is no field {name[:_SHOWN]}",
        f"write {meant}, or quote it to search for it as text",
        at,
    )


def _read_reference(chunk: Chunk) -> WrittenPicture | Reference:
    """The value of `like:`, `image:` or `box:`; raises MalformedQuery."""
    text = _value(chunk)
    assert chunk.field is not None
    try:
        match chunk.field.lower():
            case "like":
                return parse_identifier(text)
            case "image":
                return WrittenPicture(text)
            case _:
                return read_box(text)
    except UsageError as error:
        raise _error(chunk, error.message, error.remedy, chunk.value_at) from error


def _value(chunk: Chunk) -> str:
    """The text of a chunk; raises MalformedQuery if it is blank."""
    if chunk.text.strip():
        return chunk.text
    if chunk.field is None:
        raise _error(chunk, "there is nothing between the quotes", "write a text there")
    raise _error(
        chunk,
        f"{chunk.field[:_SHOWN]}: has no value",
        "write it directly after the colon, or quote the whole to search for it as text",
    )


def _between(first: Span, last: Span) -> Span:
    return Span(first.position, last.end - first.position)


def _error(
    chunk: Chunk, message: str, remedy: str | None = None, at: Span | None = None
) -> MalformedQuery:
    at = at or chunk.at
    return MalformedQuery(message, position=at.position, length=at.length, remedy=remedy)
