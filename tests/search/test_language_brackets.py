"""Brackets, OR, signs, quotes and filters mean what the documented grammar says, or are refused.

All short combinations are read by the parser, and by the grammar written down a second time here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from regard.core.errors import MalformedQuery
from regard.search.language.parsing import parse_query
from regard.search.language.printing import describe_query, print_query
from regard.search.language.syntax import Condition, Group, WrittenQuery, WrittenText

PIECES = ("a", "b", "-a", '"q"', "OR", "(", "-(", ")", "tag:x", "-tag:y")
Tags = frozenset[str]
ASSIGNMENTS: list[Tags] = [frozenset(tags) for tags in ("", "x", "y", "xy")]


@dataclass(frozen=True)
class Meaning:
    """Terms as runs of alternatives, each a text with its sign, or what a filter passes."""

    runs: tuple[tuple[str, ...], ...] = ()
    passes: tuple[bool, ...] | None = None


class Refused(Exception):
    """The grammar has no reading."""


def joined(pieces: Sequence[str]) -> str:
    """As people write it: no spaces inside of brackets."""
    return " ".join(pieces).replace("( ", "(").replace(" )", ")")


def both(one: Meaning, other: Meaning, combine: Callable[[bool, bool], bool]) -> Meaning:
    assert one.passes is not None
    assert other.passes is not None
    return Meaning(passes=tuple(map(combine, one.passes, other.passes)))


class Grammar:
    """Reads pieces, one rule a method."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.left = list(pieces)

    def query(self) -> tuple[list[tuple[str, ...]], tuple[bool, ...]]:
        items = self.items(depth=0)
        if self.left:
            raise Refused
        runs = [run for item in items for run in item.runs]
        filters = [item for item in items if item.passes is not None]
        passes = tuple(all(one.passes[n] for one in filters if one.passes) for n in range(4))
        return runs, passes

    def items(self, depth: int) -> list[Meaning]:
        found = []
        while self.left and self.left[0] != ")":
            item = self.unit(depth)
            while self.left[:1] == ["OR"]:
                self.left.pop(0)
                item = self.alternatives(item, self.unit(depth))
            found.append(item)
        return found

    def alternatives(self, one: Meaning, other: Meaning) -> Meaning:
        if one.passes is not None and other.passes is not None:
            return both(one, other, lambda left, right: left or right)
        if one.passes is not None or other.passes is not None:
            raise Refused
        run = one.runs[0] + other.runs[0]
        if any(text.startswith("-") for text in run):
            raise Refused
        return Meaning((run,))

    def unit(self, depth: int) -> Meaning:
        words = list(self.words(depth))
        if words:
            return Meaning(((" ".join(words),),))
        if not self.left:
            raise Refused
        piece = self.left.pop(0)
        if piece in {'"q"', "-a"}:
            return Meaning(((piece.strip('"'),),))
        if piece in {"tag:x", "-tag:y"}:
            return Meaning(
                passes=tuple(("x" in t) if piece == "tag:x" else "y" not in t for t in ASSIGNMENTS)
            )
        if piece in {"(", "-("}:
            return self.group(depth, negative=piece == "-(")
        raise Refused

    def words(self, depth: int) -> Iterator[str]:
        while self.left:
            if self.left[0] in {"a", "b"}:
                yield self.left.pop(0)
                continue
            depths = itertools.accumulate({"(": 1, ")": -1}.get(piece, 0) for piece in self.left)
            end = next((place for place, inside in enumerate(depths, 1) if not inside), 0)
            inner = self.left[:end]
            if depth or not end or self.left[0] != "(" or not set(inner) <= {"a", "b", "(", ")"}:
                return
            del self.left[:end]
            yield joined(inner)

    def group(self, depth: int, *, negative: bool) -> Meaning:
        items = self.items(depth + 1)
        if self.left[:1] != [")"] or not items:
            raise Refused
        self.left.pop(0)
        if all(item.passes is not None for item in items):
            whole = items[0]
            for item in items[1:]:
                whole = both(whole, item, lambda left, right: left and right)
            assert whole.passes is not None
            return Meaning(passes=tuple(one != negative for one in whole.passes))
        if len(items) > 1 or negative:
            raise Refused
        return items[0]


def has_bare_or(pieces: Sequence[str]) -> bool:
    """Whether an OR stands at an edge or beside another one, where it may be a word."""
    edges = {"", "OR", "(", "-(", ")"}
    around = ["", *pieces, ""]
    return any(
        piece == "OR" and (around[place] in edges - {")"} or around[place + 2] in {"", "OR", ")"})
        for place, piece in enumerate(pieces)
    )


def passes(parts: Sequence[Condition | Group], tags: Tags) -> bool:
    return all(
        (
            part.value in tags
            if isinstance(part, Condition)
            else any(passes(items, tags) for items in part.alternatives)
        )
        != part.negative
        for part in parts
    )


def runs_of(query: WrittenQuery) -> list[tuple[str, ...]]:
    runs: list[tuple[str, ...]] = []
    for term in query.terms:
        assert isinstance(term.what, WrittenText)
        text = ("-" if term.negative else "") + term.what.text
        runs[-1:] = [(*runs[-1], text)] if term.alternative else [*runs[-1:], (text,)]
    return runs


def is_read_as_the_grammar_says(pieces: Sequence[str]) -> None:
    source = joined(pieces)
    query = None
    with contextlib.suppress(MalformedQuery):
        query = parse_query(source)
        assert parse_query(print_query(query)) == query
    if has_bare_or(pieces):
        return
    try:
        expected = Grammar(pieces).query()
    except Refused:
        # Words alone are a text, whatever brackets there are.
        assert query is None or query.plain_text == source, source
        return
    assert query is not None, source
    assert runs_of(query) == expected[0], source
    assert tuple(passes(query.conditions, tags) for tags in ASSIGNMENTS) == expected[1], source


def combinations(length: int) -> Iterator[tuple[str, ...]]:
    return itertools.product(PIECES, repeat=length)


def test_all_combinations_of_three_pieces() -> None:
    for length in (1, 2, 3):
        for pieces in combinations(length):
            is_read_as_the_grammar_says(pieces)


@pytest.mark.parametrize("before", ["", "tag:x", "b", "-a", '"q" OR'])
@pytest.mark.parametrize("after", ["", "tag:x", "b", "OR b", "OR tag:x"])
@pytest.mark.parametrize("opening", ["(", "-(", "(("])
def test_groups_beside_all_else(before: str, after: str, opening: str) -> None:
    for inner in ("a", "a OR b", 'a "q"', "a tag:x", "tag:x -tag:y", "tag:x OR -tag:y", "-a"):
        closing = ") " * opening.count("(")
        pieces = f"{before} {opening.replace('((', '( (')} {inner} {closing} {after}".split()
        is_read_as_the_grammar_says(pieces)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("length", [4, 5])
def test_all_combinations(length: int) -> None:
    for pieces in combinations(length):
        is_read_as_the_grammar_says(pieces)


def test_texts_in_brackets_beside_a_filter() -> None:
    query = parse_query("(a cat OR a dog) tag:x")
    assert query == parse_query("a cat OR a dog tag:x")
    source = '😀 (a cat OR "a dog") tag:x'
    _, choice, condition = describe_query(parse_query(source), source)["parts"]
    assert source[choice["position"] :][: choice["length"]] == '(a cat OR "a dog")'
    assert [[part["text"] for part in items] for items in choice["any_of"]] == [
        ["a cat"],
        ["a dog"],
    ]
    assert condition["field"] == "tag"


@pytest.mark.parametrize(
    "text",
    [
        "harbour (old)",
        "Portland (OR)",
        "(Portland OR) at night",
        "Paris (Texas (US))",
        "f(x) (a)b :) (10:30)",
        "1) a red bus (",
        "( ( ( ( a",
    ],
)
def test_words_in_brackets_are_text(text: str) -> None:
    assert parse_query(text).plain_text == text


@pytest.mark.parametrize(
    ("source", "marks", "message"),
    [
        ("(a OR b", "^", "is not closed"),
        ("a (b OR c", "  ^", "is not closed"),
        ("a (b tag:x", "     ^^^^^", "can hold only filters"),
        ("a OR b) tag:x", "      ^", "no other half"),
        ("tag:x (b", "      ^", "no other half"),
        ("tag:x (a OR b)^2", "              ^", "followed by a space"),
        ("tag:x)", "    ^^", "do not match"),
        ("tag:(a b)", "    ^^", "do not match"),
        ("(a tag:x)", "   ^^^^^", "can hold only filters, or only texts"),
        ('(a "b")', "   ^^^", "must be joined by OR"),
        ("(a (b OR c))", "   ^^^^^^^^", "must be joined by OR"),
        ("-(a b) tag:x", "^^", "a minus cannot negate texts in brackets"),
        ("-(a OR b)", "^^", "a minus cannot negate texts in brackets"),
        ("a OR (-b)", "  ^^", "with a minus"),
        ("tag:x OR", "      ^^", "OR must stand between"),
        ("OR tag:x", "^^", "OR must stand between"),
        ('"a" OR OR "b"', "       ^^", "OR must stand between"),
        ("-()", "^^^", "nothing between"),
    ],
)
def test_errors_point_at_the_place(source: str, marks: str, message: str) -> None:
    with pytest.raises(MalformedQuery, match=message) as caught:
        parse_query(source)
    assert " " * caught.value.position + "^" * caught.value.length == marks


def test_many_brackets_take_no_time_to_speak_of() -> None:
    """Were each looked at from each of those before, this would not end."""
    assert parse_query("( " * 1000).plain_text
    with pytest.raises(MalformedQuery):
        parse_query("(a " * 600 + '"b"')
