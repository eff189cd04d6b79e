"""What completes the end of a query: the examples of the docs, and queries that read as meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.search.language.completing import Completion, ValueKind, fold_values
from regard.search.language.parsing import parse_query
from regard.search.language.syntax import Condition

VALUES = [
    *fold_values(ValueKind.TAG, ["harbour", "old harbour", "Österreich", "new year"]),
    *fold_values(ValueKind.CITY, ["New York City", "York", "Paris"]),
    *fold_values(ValueKind.COUNTRY, ["France"]),
    *fold_values(ValueKind.CAMERA, ["Canon EOS R5"]),
    *fold_values(ValueKind.SAVED_SEARCH, ["harbours at night"]),
]


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("red boat har", [
            *("red boat tag:harbour", 'red boat album:"harbours at night"'),
            'red boat tag:"old harbour"',
        ]),
        ("new yo", ['city:"New York City"', "new city:York"]),
        ("-camera:can", ['-camera:"Canon EOS R5"']),
        ('camera:"canon  e', []),
        ('camera:"canon e', ['camera:"Canon EOS R5"']),
        ("(tag:ost", ["(tag:Österreich"]),
        ("tag:x OR FRA", ["tag:x OR country:France"]),
        ("city:", ['city:"New York City"', "city:Paris", "city:York"]),
        # A finished word, a phrase, a single letter, another field, an address.
        *((text, []) for text in ("har ", '"har', "h", "like:har", "http://har", "-har", "")),
    ],
)  # fmt: skip
def test_ends_of_queries_are_completed(text: str, queries: list[str]) -> None:
    assert [one.query for one in Completion(text).rank(VALUES, 10)] == queries


# Countries are read by their names.
_NAMED = st.sampled_from([kind for kind in ValueKind if kind is not ValueKind.COUNTRY])


@given(st.text().filter(str.strip), _NAMED, st.sampled_from(["", "a ", "tag:x "]))
def test_a_completed_query_filters_by_the_value(value: str, kind: ValueKind, before: str) -> None:
    (item,) = fold_values(kind, [value])
    for text in (f"{before}{kind.field.value}:", f"{before}-{kind.field.value}:"):
        for one in Completion(text).rank([item], 1):
            last = parse_query(one.query).conditions[-1]
            assert isinstance(last, Condition)
            assert (last.field, last.value) == (kind.field, value)
            assert last.negative == ("-" in text)


@given(st.text())
def test_any_text_can_be_completed_or_not(text: str) -> None:
    for one in Completion(text).rank(VALUES, 10):
        assert one.value in one.query
