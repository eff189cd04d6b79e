"""Any string parses as a query or raises an error that points into it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.core.errors import MalformedQuery
from regard.search.language.parsing import parse_query
from regard.search.language.printing import print_query
from regard.search.language.syntax import (
    FIELDS,
    MAX_CONDITIONS,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    Condition,
    Group,
    WrittenPicture,
    WrittenQuery,
    WrittenText,
)

# Pieces with a meaning, so that random strings exercise the language.
_MARKS = """
    ( ) -( tag:a tag:a) (tag:b -(tag:c OR OR \\OR \\( \\)
    custom.a: custom.: tags: Date: https:// 10:30 taken:2024 near:1,2,3km
    " “ ” \\ ^ ^2 ^.5 ^0 - : , .. >= < a gps r92 a12 2024-05 1,2,3,4,5 é 😀
"""
_SPACED = [" OR ", " (tag:a ", " -(tag:b) ", ") ", "red bus", " -", " ", "  ", "\t", "\n", "\0"]
_PIECES = st.sampled_from([*(f"{field}:" for field in FIELDS), *_MARKS.split(), *_SPACED])
_SOURCES = st.text(max_size=60) | st.lists(_PIECES | st.text(max_size=3), max_size=14).map("".join)


def is_a_query_or_points(source: str) -> None:
    read = parsed(source)
    if isinstance(read, MalformedQuery):
        assert 0 <= read.position < len(source)
        assert 1 <= read.length <= len(source) - read.position
        assert read.message
    else:
        holds(read, source)


def parsed(source: str) -> WrittenQuery | MalformedQuery:
    try:
        return parse_query(source)
    except MalformedQuery as error:
        return error


def holds(query: WrittenQuery, source: str) -> None:
    assert_is_about(query, source)
    printed = print_query(query)
    assert parse_query(printed) == query
    # What is printed is printed alike.
    assert print_query(parse_query(printed)) == printed


def assert_is_about(query: WrittenQuery, source: str) -> None:
    """Parts do not overlap, and only spaces lie between them."""
    spans = sorted(
        (part.span for part in (*query.terms, *query.conditions)), key=lambda span: span.position
    )
    end = 0
    for span in spans:
        assert not source[end : span.position].strip()
        assert span.length > 0
        assert source[span.position : span.end].strip() == source[span.position : span.end]
        end = span.end
    assert not source[end:].strip()
    assert len(query.terms) <= MAX_TERMS
    assert leaves(query.conditions) <= MAX_CONDITIONS
    pictures = [term for term in query.terms if isinstance(term.what, WrittenPicture)]
    assert len(pictures) <= MAX_PICTURE_TERMS
    assert all(0 < term.weight <= 100 for term in query.terms)
    assert all(term.what.text.strip() for term in query.terms if isinstance(term.what, WrittenText))


def leaves(parts: Iterable[Condition | Group]) -> int:
    return sum(
        sum(map(leaves, part.alternatives)) if isinstance(part, Group) else 1 for part in parts
    )


@settings(max_examples=500, deadline=None)
@given(source=_SOURCES)
def test_random_strings(source: str) -> None:
    is_a_query_or_points(source)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@settings(max_examples=100_000, deadline=None)
@given(source=_SOURCES)
def test_a_hundred_thousand_random_strings(source: str) -> None:
    is_a_query_or_points(source)


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1), min_size=1)
)
def test_words_with_escapes_are_one_text(words: list[str]) -> None:
    """Whatever words there are, there is a way to write them as a text."""
    text = " ".join(words)[:500].strip()
    escaped = "".join("\\" + letter if letter in '"“”„\\^:-()' else letter for letter in text)
    assert parse_query(escaped).plain_text == text
