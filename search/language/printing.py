"""Prints parsed queries as text, and describes their parts as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from regard.core.errors import MalformedQuery
from regard.search.answers import Reference, asset_identifier, region_identifier
from regard.search.language.scanning import (
    ESCAPABLE,
    ESCAPED_OR,
    OR,
    QUOTES,
    Chunk,
    Scanner,
)
from regard.search.language.syntax import (
    BOX,
    CUSTOM,
    IMAGE,
    LIKE,
    NEGATIVE_WEIGHT,
    WEIGHT,
    Condition,
    Field,
    Group,
    WrittenPicture,
    WrittenQuery,
    WrittenTerm,
    WrittenText,
)

# A bracket may belong to one of another text, or open a group.
_BRACKETS = re.compile(r"[()]")
_SPACES = re.compile(r"(\s+)")


def print_query(query: WrittenQuery) -> str:
    """The terms and then the conditions as text; `parse_query` gives the same query back."""
    parts = []
    following: WrittenTerm | None = None
    for term in reversed(query.terms):
        # A weight separates two texts without quotes.
        is_joined = (
            _is_bare(term)
            and following is not None
            and _is_bare(following)
            and not following.alternative
        )
        parts.append(_print_term(term, with_weight=is_joined))
        if term.alternative:
            parts.append(OR)
        following = term
    parts.reverse()
    parts += [_print_part(part, depth=0) for part in query.conditions]
    return " ".join(parts)


def _is_bare(term: WrittenTerm) -> bool:
    """Whether words beside it would become part of it."""
    return isinstance(term.what, WrittenText) and not term.what.quoted and not term.negative


def _print_term(term: WrittenTerm, *, with_weight: bool) -> str:
    sign = "-" if term.negative else ""
    usual = NEGATIVE_WEIGHT if term.negative else WEIGHT
    weight = f"^{_decimal(term.weight)}" if with_weight or term.weight != usual else ""
    match term.what:
        case WrittenText(text, quoted):
            shown = _quoted(text) if quoted else _bare(text, sign, weight)
        case WrittenPicture(name, None):
            shown = f"{IMAGE}:{_value(name)}"
        case WrittenPicture(name, box):
            sides = "" if box is None else ",".join(map(str, box.to_list()))
            shown = f"{BOX}:{_value(f'{name},{sides}')}"
        case Reference(number, is_region):
            shown = f"{LIKE}:{(region_identifier if is_region else asset_identifier)(number)}"
    return sign + shown + weight


def _print_part(part: Condition | Group, depth: int) -> str:
    """A condition or group inside `depth` groups."""
    if isinstance(part, Condition):
        return _print_condition(part, depth)
    if part.is_choice:
        return f" {OR} ".join(_print_alternative(items, depth) for items in part.alternatives)
    sign = "-" if part.negative else ""
    if len(part.alternatives) > 1:
        inner = _print_part(Group(part.alternatives), depth + 1)
    else:
        inner = " ".join(_print_part(item, depth + 1) for item in part.alternatives[0])
    return f"{sign}({inner})"


def _print_alternative(items: tuple[Condition | Group, ...], depth: int) -> str:
    if len(items) == 1:
        return _print_part(items[0], depth)
    return f"({' '.join(_print_part(item, depth + 1) for item in items)})"


def _print_condition(condition: Condition, depth: int) -> str:
    name = condition.field.value
    if condition.field is Field.CUSTOM:
        name = CUSTOM + _escaped(condition.name)
    before = f"{'-' if condition.negative else ''}{name}:"
    written = condition.written
    return before + (_quoted(written) if condition.quoted else _bare(written, before, depth=depth))


def print_filter(field: Field, value: str, *, negative: bool = False) -> str:
    """A filter by a name, as a part of a query."""
    return f"{'-' if negative else ''}{field.value}:{_value(value)}"


def _value(text: str) -> str:
    """A value, quoted if it has spaces or would be read differently."""
    has_spaces = any(letter.isspace() for letter in text)
    # Within brackets too.
    is_plain = not has_spaces and _reads_as_itself(text, f"{IMAGE}:", depth=1)
    return text if is_plain else _quoted(text)


def _quoted(text: str) -> str:
    escaped = "".join("\\" + letter if letter in f"{QUOTES}\\" else letter for letter in text)
    return f'"{escaped}"'


def _bare(text: str, before: str, after: str = "", depth: int = 0) -> str:
    """Words without quotes between `before` and `after`, escaped where necessary."""
    words = _SPACES.split(text)
    last = len(words) // 2
    shown = [
        word
        if not _BRACKETS.search(word)
        and _reads_as_itself(
            word, before if place == 0 else "", after if place == last else "", depth
        )
        else ESCAPED_OR
        if word == OR
        else _escaped(word)
        for place, word in enumerate(words[::2])
    ]
    spaces = [*words[1::2], ""]
    return "".join(word + space for word, space in zip(shown, spaces, strict=True))


def _reads_as_itself(word: str, before: str, after: str = "", depth: int = 0) -> bool:
    if before + word + after == OR:
        return False
    try:
        chunk = Scanner(before + word + after, depth).next()
    except MalformedQuery:
        return False
    return (
        isinstance(chunk, Chunk)
        and (chunk.text, chunk.quoted, chunk.weight is None) == (word, False, not after)
        and (chunk.value_at.position, chunk.value_at.length) == (len(before), len(word))
    )


def _escaped(text: str) -> str:
    return "".join("\\" + letter if letter in ESCAPABLE else letter for letter in text)


def _decimal(weight: float) -> str:
    return f"{weight:.9f}".rstrip("0").rstrip(".")


def describe_query(query: WrittenQuery, source: str) -> dict[str, Any]:
    """The JSON of `query` and its `parts` with their places, in order; empty for a plain text."""
    if query.plain_text is not None:
        return {}
    runs: list[list[WrittenTerm]] = []
    for term in query.terms:
        if term.alternative:
            runs[-1].append(term)
        else:
            runs.append([term])
    parts = [*map(_describe_run, runs), *map(_describe, query.conditions)]
    parts.sort(key=lambda part: part["position"])
    return {"query": source, "parts": parts}


def _describe_run(terms: Sequence[WrittenTerm]) -> dict[str, Any]:
    """A term, or terms joined by OR."""
    first, last = terms[0].span, terms[-1].span
    if len(terms) == 1:
        return _describe(terms[0])
    place = {"position": first.position, "length": last.end - first.position}
    return {"any_of": [[_describe(term)] for term in terms], "negative": False, **place}


def _describe(part: WrittenTerm | Condition | Group) -> dict[str, Any]:
    place = {"position": part.span.position, "length": part.span.length}
    if isinstance(part, Group):
        any_of = [[_describe(item) for item in items] for items in part.alternatives]
        return {"any_of": any_of, "negative": part.negative, **place}
    if isinstance(part, Condition):
        name = f"custom.{part.name}" if part.name else part.field.value
        return {"field": name, "value": part.written, "negative": part.negative, **place}
    return {**_describe_term(part), "weight": part.weight, "negative": part.negative, **place}


def _describe_term(term: WrittenTerm) -> dict[str, Any]:
    match term.what:
        case WrittenText(text, quoted):
            return {"text": text, "phrase": quoted}
        case WrittenPicture(name, box):
            return {"image": name, **({} if box is None else {"box": box.to_list()})}
        case Reference(number, is_region):
            return {"like": (region_identifier if is_region else asset_identifier)(number)}
