"""docs/query-language.md says what is so: its examples are queries, its errors are errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regard.core.errors import MalformedQuery
from regard.core.filters import Fact, Orientation
from regard.search.language.parsing import parse_query
from regard.search.language.printing import print_query
from regard.search.language.syntax import (
    CUSTOM,
    FIELDS,
    MAX_CONDITIONS,
    MAX_LENGTH,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    Condition,
)

_REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (_REPOSITORY / "docs" / "query-language.md").read_text("utf-8")
SCRIPT = (_REPOSITORY / "api" / "web" / "js" / "written.js").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> list[str]:
    rows = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [match[1] for row in rows if (match := re.match(r"\| `(.*?)` ?[|,]", row))]


EXAMPLES = first_cells("In short")


def test_there_are_examples_of_everything() -> None:
    """A field that comes without an example, and an example of a field that went, are noticed."""
    queries = [parse_query(example) for example in EXAMPLES]
    fields = {
        condition.field.value
        for query in queries
        for condition in query.conditions
        if isinstance(condition, Condition)
    }
    documented = "".join(row for row in section("Fields: which photographs").splitlines())
    for field in (*FIELDS, CUSTOM):
        assert f"`{field}" in documented or f"`{field}:" in section("Terms: what is looked for")
    assert fields >= {"taken", "tag", "camera", "near", "path", "has", "width", "custom"}
    assert len(EXAMPLES) > 20


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_queries(example: str) -> None:
    query = parse_query(example)
    assert query.terms or query.conditions
    assert parse_query(print_query(query)) == query


@pytest.mark.parametrize("example", EXAMPLES[-2:])
def test_examples_of_text_are_one_text(example: str) -> None:
    text = parse_query(example).plain_text
    assert text is not None
    assert text == example.replace("\\", "")


def test_the_page_s_examples_are_queries() -> None:
    shown = re.search(r"EXAMPLES = \[\n(.*?)\n\];", SCRIPT, re.DOTALL)
    assert shown is not None
    examples = re.findall(r"""\[(?:"([^"]*)"|'([^']*)'), \"""", shown[1])
    assert len(examples) == shown[1].count("[") > 10
    for one, other in examples:
        query = parse_query(one or other)
        assert parse_query(print_query(query)) == query


@pytest.mark.parametrize("wrong", ["tags:x", "date:2024", "min_width:500", "tag: x"])
def test_errors_are_errors(wrong: str) -> None:
    assert f"`{wrong}`" in section("What is an error, and what is text")
    with pytest.raises(MalformedQuery):
        parse_query(wrong)
    assert parse_query(f'"{wrong}"').terms


@pytest.mark.parametrize("text", ["10:30", "note: dusk", "C:\\photos", "t-shirt", "a - b", "--"])
def test_text_is_text(text: str) -> None:
    assert f"`{text}`" in PAGE
    assert parse_query(text).plain_text == text


def test_the_error_that_is_shown() -> None:
    shown = re.search(r"```\nregard: (.*?); .*\n  (.*)\n  ( *)(\^+)\n```", PAGE)
    assert shown is not None
    with pytest.raises(MalformedQuery, match=re.escape(shown[1])) as caught:
        parse_query(shown[2])
    assert (caught.value.position, caught.value.length) == (len(shown[3]), len(shown[4]))


def test_limits_and_choices() -> None:
    limits = section("Limits").replace(",", "")
    for number in (MAX_LENGTH, MAX_TERMS, MAX_PICTURE_TERMS, MAX_CONDITIONS):
        assert re.search(rf"\b{number}\b", limits), number
    for choice in (*Fact, *Orientation):
        assert f"`{choice}`" in section("Fields: which photographs")
