"""A query's text to what it says. Whatever the text: a query, or an error that points into it.

Words without quotes that stand side by side are one text; everything else ends it, a weight after its
last word too.
"""

from __future__ import annotations

import itertools

from regard.core.errors import MalformedQuery, UsageError
from regard.search.identifiers import Reference, parse_identifier
from regard.search.language.names import (
    BOX,
    CUSTOM,
    FIELDS,
    IMAGE,
    LIKE,
    reads_as_field,
    suggestion,
)
from regard.search.language.scanning import Chunk, Scanner
from regard.search.language.syntax import (
    MAX_CONDITIONS,
    MAX_LENGTH,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
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
)
from regard.search.language.values import read_box, read_custom, read_value

_SHOWN = 40


def parse_query(source: str) -> WrittenQuery:
    """What a text says; raises MalformedQuery, which tells where. A blank text says nothing."""
    _require_text(source)
    scanner = Scanner(source, reads_as_field)
    reading = _Reading(source)
    while (chunk := scanner.next()) is not None:
        reading.take(chunk)
    return reading.query()


def _require_text(source: str) -> None:
    if len(source) > MAX_LENGTH:
        raise MalformedQuery(
            f"the query has more than {MAX_LENGTH} characters",
            position=MAX_LENGTH,
            length=len(source) - MAX_LENGTH,
            remedy="make it shorter",
        )
    for place, character in enumerate(source):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise MalformedQuery("this character is no text", position=place, length=1)


class _Reading:
    """Terms and conditions so far, and the words that a next one may join."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._terms: list[WrittenTerm] = []
        self._conditions: list[Condition] = []
        self._words: list[Chunk] = []

    def query(self) -> WrittenQuery:
        """All that was read."""
        self._end_words()
        return WrittenQuery(tuple(self._terms), tuple(self._conditions))

    def take(self, chunk: Chunk) -> None:
        """Read one more; raises MalformedQuery."""
        if chunk.field is None and not chunk.quoted and not chunk.negative:
            self._words.append(chunk)
            if chunk.weight is not None:
                self._end_words()
            return
        self._end_words()
        if chunk.field is None:
            self._add_term(chunk, WrittenText(_not_blank(chunk), chunk.quoted))
        elif chunk.field.lower() in {LIKE, IMAGE, BOX}:
            self._add_term(chunk, _thing(chunk))
        else:
            self._add_condition(chunk)

    def _end_words(self) -> None:
        """Make the words one text, with the spaces between them as they were written."""
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
        usual = NEGATIVE_WEIGHT if chunk.negative else WEIGHT
        weight = usual if chunk.weight is None else chunk.weight
        self._terms.append(WrittenTerm(what, weight, chunk.negative, chunk.at))
        if len(self._terms) > MAX_TERMS:
            raise _wrong(chunk, f"the query has more than {MAX_TERMS} terms")
        pictures = sum(isinstance(term.what, WrittenPicture) for term in self._terms)
        if pictures > MAX_PICTURE_TERMS:
            raise _wrong(chunk, f"the query has more than {MAX_PICTURE_TERMS} pictures and boxes")

    def _add_condition(self, chunk: Chunk) -> None:
        name, text = _known(chunk), _not_blank(chunk)
        if chunk.weight_at is not None:
            raise MalformedQuery(
                "a field that filters has no weight",
                position=chunk.weight_at.position,
                length=chunk.weight_at.length,
                remedy="leave it out, or write \\^ for the character itself",
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
            raise _wrong(chunk, error.message, error.remedy, chunk.value_at) from error
        self._conditions.append(
            Condition(field, value, text, chunk.negative, chunk.quoted, custom, chunk.at)
        )
        if len(self._conditions) > MAX_CONDITIONS:
            raise _wrong(chunk, f"the query has more than {MAX_CONDITIONS} filters")


def _known(chunk: Chunk) -> str:
    """The field's name as written; raises MalformedQuery when it is only nearly one."""
    assert chunk.field is not None
    name = chunk.field
    lower = name.lower()
    if lower in FIELDS or (lower.startswith(CUSTOM) and len(lower) > len(CUSTOM)):
        return name
    begin = chunk.at.position + chunk.negative
    at = Span(begin, chunk.value_at.position - begin)
    meant = "custom.NAME:" if lower.startswith(CUSTOM) else suggestion(name)
    raise _wrong(
        chunk,
        f"no field is called {name[:_SHOWN]}",
        f"write {meant}, or put quotes around what is meant as text",
        at,
    )


def _thing(chunk: Chunk) -> WrittenPicture | Reference:
    """What `like:`, `image:` and `box:` name; raises MalformedQuery."""
    text = _not_blank(chunk)
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
        raise _wrong(chunk, error.message, error.remedy, chunk.value_at) from error


def _not_blank(chunk: Chunk) -> str:
    """The chunk's text; raises MalformedQuery when there is none."""
    if chunk.text.strip():
        return chunk.text
    if chunk.field is None:
        raise _wrong(chunk, "there is nothing between the quotes", "put a text there")
    raise _wrong(
        chunk,
        f"{chunk.field[:_SHOWN]}: has no value",
        "write it right after the colon, or put quotes around what is meant as text",
    )


def _between(first: Span, last: Span) -> Span:
    return Span(first.position, last.end - first.position)


def _wrong(
    chunk: Chunk, message: str, remedy: str | None = None, at: Span | None = None
) -> MalformedQuery:
    at = at or chunk.at
    return MalformedQuery(message, position=at.position, length=at.length, remedy=remedy)
