"""Parses the query language: any text is a query, or an error with its place.

    [-] WORD [^WEIGHT]             [-] "TEXT" [^WEIGHT]
    [-] FIELD: VALUE [^WEIGHT]     [-] FIELD: "VALUE" [^WEIGHT]

A backslash removes the special meaning of a quote, a backslash, `^`, `:` or `-`; before any other
character it is a plain backslash. Unquoted words side by side are one text, which ends at anything
else or after a weight. An OR in capitals joins what stands on both sides of it, unless one side is
empty. Brackets around words alone are a part of the text.

    CONDITION OR CONDITION         [-] ( CONDITION ... )
    TERM OR TERM                   ( TERM OR TERM ... )
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from regard.core.errors import MalformedQuery, UsageError
from regard.search.answers import Reference, parse_identifier
from regard.search.language.scanning import Bracket, Chunk, Scanner, unmatched_bracket
from regard.search.language.syntax import (
    BOX,
    CUSTOM,
    FIELDS,
    IMAGE,
    LIKE,
    MAX_CONDITIONS,
    MAX_LENGTH,
    MAX_NESTING,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    NEGATIVE_WEIGHT,
    WEIGHT,
    Condition,
    CustomField,
    Field,
    Group,
    Span,
    Value,
    WrittenPicture,
    WrittenQuery,
    WrittenTerm,
    WrittenText,
    suggestion,
)
from regard.search.language.values import read_box, read_custom, read_value

_SHOWN = 40


def parse_query(source: str) -> WrittenQuery:
    """Parse a text, which may be blank; raises MalformedQuery with the place of the error."""
    _check_characters(source)
    scanner = Scanner(source)
    parts: list[Chunk | Bracket] = []
    while (part := scanner.next()) is not None:
        parts.append(part)
    parser = _Parser(source)
    was_or = False
    for place, part in enumerate(parts):
        is_or = False
        if isinstance(part, Bracket):
            parser.add_bracket(part)
        elif part.is_or and (
            (is_or := not was_or and 0 < place < len(parts) - 1) or _is_alone(place, parts)
        ):
            parser.add_or(part.at)
        else:
            parser.add(part)
        was_or = is_or
    return parser.query()


def _is_alone(place: int, parts: Sequence[Chunk | Bracket]) -> bool:
    """Whether there are other parts, but no other word beside this one."""
    beside = [*parts[max(place - 1, 0) : place], *parts[place + 1 : place + 2]]
    return bool(beside) and not any(
        isinstance(one, Chunk) and one.is_word and not one.is_or for one in beside
    )


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


@dataclass(slots=True)
class _OpenGroup:
    """The conditions or terms since a bracket; None for those outside of all brackets."""

    bracket: Bracket | None
    conditions: list[Condition | Group] = field(default_factory=list)
    # How many terms there were before it, and whether one of them stands right before it.
    terms_before: int = 0
    is_after_term: bool = False
    # Where the OR stands that this group is an alternative of.
    or_at: Span | None = None


class _Parser:
    """Collects terms and conditions, and words that further words may join."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._terms: list[WrittenTerm] = []
        self._groups = [_OpenGroup(None)]
        self._count = 0
        self._words: list[Chunk] = []
        # The OR before the next part, and whether the part before it was a term.
        self._or_at: Span | None = None
        self._was_term = False
        # A bracket in a text that has no other half there.
        self._unmatched: int | None = None

    def query(self) -> WrittenQuery:
        """The query so far; raises MalformedQuery for a bracket without its other half."""
        self._end_words()
        if self._or_at is not None:
            raise _bad_or(self._or_at)
        bracket = self._groups[-1].bracket
        if bracket is not None:
            remedy = "close it, or write \\( for the character itself"
            raise _bad_bracket(bracket.at, "the bracket that starts here is not closed", remedy)
        query = WrittenQuery(tuple(self._terms), tuple(self._groups[0].conditions))
        if self._unmatched is not None and query.plain_text is None:
            remedy = f"add it, or write \\{self._source[self._unmatched]} for the character itself"
            raise _bad_bracket(
                Span(self._unmatched, 1), "this bracket has no other half in its text", remedy
            )
        return query

    def add(self, chunk: Chunk) -> None:
        """Add a chunk; raises MalformedQuery."""
        is_term = chunk.field is None or chunk.field.lower() in {LIKE, IMAGE, BOX}
        if chunk.is_word:
            self._words.append(chunk)
            if chunk.weight is not None:
                self._end_words()
            return
        self._end_words()
        if chunk.field is None:
            self._add_term(chunk, WrittenText(_value(chunk), chunk.quoted))
        elif is_term:
            self._add_term(chunk, _read_reference(chunk))
        else:
            self._add_condition(chunk)

    def add_or(self, at: Span) -> None:
        """Make the next part an alternative of the one before."""
        self._end_words()
        if self._or_at is not None or not (self._was_term or self._groups[-1].conditions):
            raise _bad_or(at)
        self._or_at = at

    def add_bracket(self, bracket: Bracket) -> None:
        """Open or close a group; raises MalformedQuery."""
        self._end_words()
        if bracket.opens:
            if len(self._groups) > MAX_NESTING:
                raise _bad_bracket(bracket.at, f"brackets are more than {MAX_NESTING} deep")
            before = len(self._terms)
            self._groups.append(_OpenGroup(bracket, [], before, self._was_term, self._or_at))
            self._was_term, self._or_at = False, None
            return
        if self._or_at is not None:
            raise _bad_or(self._or_at)
        group = self._groups.pop()
        assert group.bracket is not None
        at = _between(group.bracket.at, bracket.at)
        after = self._source[at.end : at.end + 1].strip()
        if after and not (after == ")" and self._groups[-1].bracket is not None):
            message = "a closing bracket must be followed by a space"
            raise _bad_bracket(Span(at.end, 1), message, "insert a space")
        self._or_at, self._was_term = group.or_at, group.is_after_term
        terms = self._terms[group.terms_before :]
        if terms and group.bracket.negative:
            remedy = "write a minus before each text, in quotes if it has several words"
            raise _bad_bracket(group.bracket.at, "a minus cannot negate texts in brackets", remedy)
        if terms:
            del self._terms[group.terms_before :]
            self._add_terms(terms, at)
        elif group.conditions:
            self._add_conditions(_grouped(group.conditions, group.bracket.negative, at))
        else:
            raise _bad_bracket(at, "there is nothing between the brackets", "write filters there")

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
        at, value_at = _between(first.at, last.at), _between(first.value_at, last.value_at)
        self._add_term(replace(last, text=text, at=at, value_at=value_at), WrittenText(text))

    def _add_term(self, chunk: Chunk, what: WrittenText | WrittenPicture | Reference) -> None:
        weight = chunk.weight or (NEGATIVE_WEIGHT if chunk.negative else WEIGHT)
        if not chunk.quoted and self._unmatched is None:
            at = chunk.value_at
            self._unmatched = unmatched_bracket(self._source, at.position, at.end)
        self._add_terms([WrittenTerm(what, weight, chunk.negative, span=chunk.at)], chunk.at)
        if len(self._terms) > MAX_TERMS:
            raise _error(chunk, f"the query has more than {MAX_TERMS} terms")
        pictures = sum(isinstance(term.what, WrittenPicture) for term in self._terms)
        if pictures > MAX_PICTURE_TERMS:
            raise _error(chunk, f"the query has more than {MAX_PICTURE_TERMS} pictures and boxes")

    def _add_terms(self, terms: Sequence[WrittenTerm], at: Span) -> None:
        """Add a term or those of brackets, after an OR as alternatives of the one before.

        `at` is the place of all. The first and the last one have the brackets in theirs.
        """
        group = self._groups[-1]
        if group.conditions and group.bracket is not None:
            raise _mixed(at)
        first = terms[0]
        if self._or_at is not None:
            if not self._was_term:
                raise _bad_or(self._or_at)
            if first.negative or self._terms[-1].negative:
                raise _bad_or(self._or_at, "a term with a minus cannot be an alternative")
        elif group.bracket is not None and len(self._terms) > group.terms_before:
            message = "texts and other terms in brackets must be joined by OR"
            raise _bad_bracket(at, message, "write OR before this, or leave out the brackets")
        begin = at if self._or_at is None else self._or_at
        is_alternative = self._or_at is not None
        first = replace(first, alternative=is_alternative, span=_between(begin, first.span))
        terms = [first, *terms[1:]]
        terms[-1] = replace(terms[-1], span=_between(terms[-1].span, at))
        self._terms += terms
        self._was_term, self._or_at = True, None

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
        self._count += 1
        if self._count > MAX_CONDITIONS:
            raise _error(chunk, f"the query has more than {MAX_CONDITIONS} filters")
        self._add_conditions(
            Condition(field, value, text, chunk.negative, chunk.quoted, custom, chunk.at)
        )

    def _add_conditions(self, part: Condition | Group) -> None:
        """Add a condition or group, after an OR as an alternative of the one before."""
        group = self._groups[-1]
        conditions = group.conditions
        if group.bracket is not None and len(self._terms) > group.terms_before:
            raise _mixed(part.span)
        if self._or_at is not None:
            if self._was_term or not conditions:
                raise _bad_or(self._or_at)
            before = conditions.pop()
            alternatives = _alternatives(before) + _alternatives(part)
            part = Group(alternatives, span=_between(before.span, part.span))
            self._or_at = None
        self._was_term = False
        conditions.append(part)


def _grouped(conditions: list[Condition | Group], negative: bool, at: Span) -> Condition | Group:
    """What brackets hold; around a single part, they change nothing without a minus."""
    (first, *others) = conditions
    if not others and not negative:
        return replace(first, span=at)
    if not others and isinstance(first, Group) and not first.negative:
        return Group(first.alternatives, negative, at)
    return Group((tuple(conditions),), negative, at)


def _alternatives(part: Condition | Group) -> tuple[tuple[Condition | Group, ...], ...]:
    """The alternatives that a part of an OR stands for."""
    return part.alternatives if isinstance(part, Group) and not part.negative else ((part,),)


def _bad_or(at: Span, message: str | None = None) -> MalformedQuery:
    return MalformedQuery(
        message or "OR must stand between two filters, or between two things to look for",
        position=at.position,
        length=at.length,
        remedy="write \\OR for the word itself",
    )


def _bad_bracket(at: Span, message: str, remedy: str | None = None) -> MalformedQuery:
    return MalformedQuery(message, position=at.position, length=at.length, remedy=remedy)


def _mixed(at: Span) -> MalformedQuery:
    message = "brackets can hold only filters, or only texts and other terms joined by OR"
    return _bad_bracket(at, message, "close the bracket before this")


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
