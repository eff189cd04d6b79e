"""The query language: what texts say, and where errors point."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from regard.core.errors import MalformedQuery
from regard.core.filters import CustomValue, Fact, GpsBox, GpsCircle, Orientation
from regard.core.geometry import Box
from regard.search.answers import Reference
from regard.search.language.parsing import parse_query
from regard.search.language.printing import print_query
from regard.search.language.syntax import (
    MAX_CONDITIONS,
    MAX_LENGTH,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    Condition,
    CustomField,
    Field,
    Group,
    Period,
    Pixels,
    Seconds,
    Stars,
    Value,
    WrittenPicture,
    WrittenQuery,
    WrittenText,
)

Term = tuple[object, float, bool]


def text(words: str, weight: float = 1.0) -> Term:
    return WrittenText(words), weight, False


def phrase(words: str, weight: float = 1.0) -> Term:
    return WrittenText(words, quoted=True), weight, False


def unwanted(term: Term, weight: float = 0.5) -> Term:
    return term[0], weight, True


def terms(source: str) -> list[Term]:
    return [(term.what, term.weight, term.negative) for term in parse_query(source).terms]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a red bus at night", [text("a red bus at night")]),
        ("  a  red\tbus ", [text("a  red\tbus")]),
        ('"red bus" -night', [phrase("red bus"), unwanted(text("night"))]),
        (
            'sunset^2 -"people on a beach"^0.25',
            [text("sunset", 2.0), unwanted(phrase("people on a beach"), 0.25)],
        ),
        # A minus is for one word or one quoted text; a weight is for all words before it.
        ("-night sky", [unwanted(text("night")), text("sky")]),
        ("a red bus^2 sky", [text("a red bus", 2.0), text("sky")]),
        ("bus taken:2024 sky", [text("bus"), text("sky")]),
        ('"red bus" "sky"^.5', [phrase("red bus"), phrase("sky", 0.5)]),
        ("“red bus” „sky“", [phrase("red bus"), phrase("sky")]),
        (
            "like:a12 -like:r92^1",
            [(Reference(12, False), 1, False), (Reference(92, True), 1, True)],
        ),
        (
            "image:1 box:cat,2.jpg,10,20,200,150^3",
            [
                (WrittenPicture("1"), 1, False),
                (WrittenPicture("cat,2.jpg", Box(10, 20, 200, 150)), 3, False),
            ],
        ),
        ('image:"my cat.jpg"', [(WrittenPicture("my cat.jpg"), 1, False)]),
        # What is not a field, sign or weight is text.
        ("10:30 https://x.org/a?b:c note: dusk", [text("10:30 https://x.org/a?b:c note: dusk")]),
        (r"C:\photos\2024 don't", [text(r"C:\photos\2024 don't")]),
        ("date: 5 May", [text("date: 5 May")]),
        ("t-shirt - blue --x -", [text("t-shirt - blue --x -")]),
        ('18" wheel foo^bar ^2 :^)', [text('18" wheel foo^bar ^2 :^)')]),
        ("cats or dogs", [text("cats or dogs")]),
        ("Portland OR", [text("Portland OR")]),
        ("OR nurses", [text("OR nurses")]),
        (r"Portland \OR dusk", [text("Portland OR dusk")]),
        ("(dogs AND birds) (a)", [text("(dogs AND birds) (a)")]),
        ("cats OR (dogs AND birds)", [text("cats"), text("(dogs AND birds)")]),
        # A backslash makes text of it.
        (r"\-night \"a\" tag\:x x\^2 a\\b a\b", [text('-night "a" tag:x x^2 a\\b a\\b')]),
        (r'"a \"b\" \\ \n"', [phrase('a "b" \\ \\n')]),
        ("", []),
        (" \n ", []),
    ],
)
def test_terms(source: str, expected: list[Term]) -> None:
    assert terms(source) == expected
    assert parse_query(print_query(parse_query(source))) == parse_query(source)


def moment(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]


LAST = (23, 59, 59, 999_999)


@pytest.mark.parametrize(
    ("source", "field", "value"),
    [
        ("taken:2024", Field.TAKEN, Period(moment(2024, 1, 1), moment(2024, 12, 31, *LAST))),
        ("taken:2024-2", Field.TAKEN, Period(moment(2024, 2, 1), moment(2024, 2, 29, *LAST))),
        (
            "taken:2024-05-17",
            Field.TAKEN,
            Period(moment(2024, 5, 17), moment(2024, 5, 17, *LAST)),
        ),
        (
            'taken:"2024-05-17 08:30"',
            Field.TAKEN,
            Period(moment(2024, 5, 17, 8, 30), moment(2024, 5, 17, 8, 30, 59, 999_999)),
        ),
        (
            "taken:2024-05..2024-06",
            Field.TAKEN,
            Period(moment(2024, 5, 1), moment(2024, 6, 30, *LAST)),
        ),
        ("taken:2024-05..", Field.TAKEN, Period(moment(2024, 5, 1), None)),
        ("taken:..2024-05", Field.TAKEN, Period(None, moment(2024, 5, 31, *LAST))),
        ("taken:>2024-05", Field.TAKEN, Period(moment(2024, 6, 1), None)),
        ("taken:>=2024-05", Field.TAKEN, Period(moment(2024, 5, 1), None)),
        ("taken:<2024", Field.TAKEN, Period(None, moment(2023, 12, 31, *LAST))),
        ("taken:<=2024", Field.TAKEN, Period(None, moment(2024, 12, 31, *LAST))),
        (
            "taken:2024-05-17T08:30:15.5..2024-05-17T08:30:16",
            Field.TAKEN,
            Period(
                moment(2024, 5, 17, 8, 30, 15, 500_000), moment(2024, 5, 17, 8, 30, 16, 999_999)
            ),
        ),
        ("width:>=2000", Field.WIDTH, Pixels(2000, None)),
        ("width:>2000", Field.WIDTH, Pixels(2001, None)),
        ("height:1000..2000", Field.HEIGHT, Pixels(1000, 2000)),
        ("height:<1000", Field.HEIGHT, Pixels(None, 999)),
        ("height:1000", Field.HEIGHT, Pixels(1000, 1000)),
        ("near:52.5,13.4,10km", Field.NEAR, GpsCircle(52.5, 13.4, 10)),
        ("near:-52.5,-13,500m", Field.NEAR, GpsCircle(-52.5, -13, 0.5)),
        ('near:"52.5, 13.4, 2 mi"', Field.NEAR, GpsCircle(52.5, 13.4, 2 * 1.609344)),
        ("within:13.1,52.3,13.8,52.7", Field.WITHIN, GpsBox(13.1, 52.3, 13.8, 52.7)),
        ("orientation:Portrait", Field.ORIENTATION, Orientation.PORTRAIT),
        ("has:gps", Field.HAS, Fact.GPS),
        ("rating:4", Field.RATING, Stars(4, 4)),
        ("duration:90", Field.DURATION, Seconds(90, 90)),
        ("duration:>1:30", Field.DURATION, Seconds(91, None)),
        ("duration:1:00:00..", Field.DURATION, Seconds(3600, None)),
        ("duration:..0:59", Field.DURATION, Seconds(None, 59)),
        ("has:video", Field.HAS, Fact.VIDEO),
        ("rating:>=4", Field.RATING, Stars(4, None)),
        ("rating:-1", Field.RATING, Stars(-1, -1)),
        ("rating:0..2", Field.RATING, Stars(0, 2)),
        ('lens:"EF 50mm f/1.8"', Field.LENS, "EF 50mm f/1.8"),
        ("format:jpg", Field.FORMAT, "JPEG"),
        ("format:Heic", Field.FORMAT, "HEIF"),
        ("tag:harbour", Field.TAG, "harbour"),
        ('TAG:"a b"', Field.TAG, "a b"),
        ("tag:a:b,c-d", Field.TAG, "a:b,c-d"),
        ('camera:"Canon EOS R5"', Field.CAMERA, "Canon EOS R5"),
        ("collection:holiday", Field.COLLECTION, "holiday"),
        ("path:2024/trip", Field.PATH, "2024/trip"),
        ("path:2024//trip/", Field.PATH, "2024/trip"),
        ("path://photos//2024", Field.PATH, "/photos/2024"),
        ("custom.shoot:harbour", Field.CUSTOM, CustomField("shoot", "harbour")),
    ],
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_conditions(source: str, field: Field, value: Value, sign: str) -> None:
    query = parse_query(sign + source)
    (condition,) = query.conditions
    assert not query.terms
    assert (condition.field, condition.value) == (field, value)
    assert condition.negative == bool(sign)
    assert (condition.span.position, condition.span.length) == (0, len(sign + source))
    assert parse_query(print_query(query)) == query


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", 12),
        ("1.5", 1.5),
        ("true", True),
        ('"12"', "12"),
        ('"true"', "true"),
        ("1e300", "1e300"),
        ("NaN", "NaN"),
        ("[1]", "[1]"),
        ("None", "None"),
    ],
)
def test_values_of_custom_fields(written: str, value: CustomValue) -> None:
    (condition,) = parse_query(f"custom.My-field:{written}").conditions
    assert condition.value == CustomField("My-field", value)
    assert type(condition.value.value) is type(value)


@pytest.mark.parametrize(
    # The place is that of the marks below the query.
    ("source", "marks", "message"),
    [
        ('a "red bus', "  ^", "is not closed"),
        ('"a"b c', "   ^", "by a space or a weight"),
        ('"a", b', "   ^", "by a space or a weight"),
        ('bus ""', "    ^^", "nothing between the quotes"),
        ('bus -" "', "    ^^^^", "nothing between the quotes"),
        ("bus^0", "   ^^", "not a number above 0"),
        ("bus^-1", "   ^^^", "not a number above 0"),
        ("bus^100.5", "   ^^^^^^", "not a number above 0"),
        ("bus^1e2", "   ^^^^", "not a number above 0"),
        ('"bus"^x', "     ^^", "not a number above 0"),
        ("a tags:x", "  ^^^^^", "there is no field tags; write tag:,"),
        ("-tags:x", " ^^^^^", "write tag:"),
        ("Camrea:x", "^^^^^^^", "write camera:"),
        ("colection:x", "^^^^^^^^^^", "write collection:"),
        ("min_width:5", "^^^^^^^^^^", "write width:>="),
        ("taken_from:2024", "^^^^^^^^^^^", "write taken:2024-05.."),
        ("custom:x", "^^^^^^^", "write custom.NAME:"),
        ("custom.:x", "^^^^^^^^", "write custom.NAME:"),
        ("tag: x", "^^^^", "tag: has no value"),
        ('a -tag:""', "  ^^^^^^^", "tag: has no value"),
        ("tag:x^2", "     ^^", "cannot have a weight"),
        ("taken:2024-13", "      ^^^^^^^", "'2024-13' is not a date"),
        ("taken:2023-02-29", "      ^^^^^^^^^^", "is not a date"),
        ("taken:2024..x", "      ^^^^^^^", "'x' is not a date"),
        ("taken:2024..2023", "      ^^^^^^^^^^", "ends before it begins"),
        ("taken:..", "      ^^", "is not a date"),
        ("taken:>", "      ^", "is not a date"),
        ("taken:>9999", "      ^^^^^", "beyond"),
        ("taken:<0001", "      ^^^^^", "beyond"),
        ("width:big", "      ^^^", "is not a number of pixels"),
        ("width:<0", "      ^^", "out of range"),
        ("width:9999999999", "      ^^^^^^^^^^", "out of range"),
        ("near:52.5,13.4", "     ^^^^^^^^^", "a latitude, a longitude and a distance"),
        ("near:91,13.4,1km", "     ^^^^^^^^^^^", "a latitude lies outside"),
        ("near:52,13.4,1yd", "     ^^^^^^^^^^^", "a latitude, a longitude and a distance"),
        ("near:52,13.4,0km", "     ^^^^^^^^^^^", "radius"),
        ("within:1,2,3", "       ^^^^^", "four numbers"),
        ("within:1,5,3,2", "       ^^^^^^^", "south above its north"),
        ("has:wings", "    ^^^^^", "choose one of gps, date"),
        ("orientation:up", "            ^^", "choose one of landscape"),
        ("rating:6", "       ^", "a rating from -1 to 5"),
        ("stars:4", "^^^^^^", "write rating:"),
        ("(tag:x", "^", "is not closed"),
        ("a -(tag:x (tag:y)", "  ^^", "is not closed"),
        ("(tag:x)y", "       ^", "followed by a space"),
        ("(tag:x dog)", "       ^^^", "can hold only filters"),
        ('(tag:x "dog")', "       ^^^^^", "can hold only filters"),
        ("(tag:x tags:y)", "       ^^^^^", "write tag:"),
        ("dog OR tag:x", "    ^^", "two filters, or between two things"),
        ("tag:x OR dog", "      ^^", "two filters, or between two things"),
        ("dog OR (tag:x)", "    ^^", "two filters, or between two things"),
        ("(tag:x OR )", "       ^^", "two filters, or between two things"),
        ("-dog OR cat", "     ^^", "cannot be an alternative"),
        ("dog OR -cat", "    ^^", "cannot be an alternative"),
        ("(tag:x " * 9, " " * 56 + "^", "8 deep"),
        ("path:../x", "     ^^^^", "not a path"),
        ("path:/", "     ^", "not a path"),
        ("a like:12", "       ^^", "not the id"),
        ('like:"a1 2"', "     ^^^^^^", "not the id"),
        ("box:1,2,3", "    ^^^^^", "four integers"),
        ("box:1,2,3,0,5", "    ^^^^^^^^^", "empty"),
        ("box:1,2,3,-4,5", "    ^^^^^^^^^^", "four integers"),
        ("a\0b", " ^", "not text"),
        ("a \ud800", "  ^", "not text"),
    ],
)
def test_errors_point_at_the_place(source: str, marks: str, message: str) -> None:
    with pytest.raises(MalformedQuery, match=message) as caught:
        parse_query(source)
    error = caught.value
    assert " " * error.position + "^" * error.length == marks


TAG = {name: Condition(Field.TAG, name, name) for name in "abcde"}
A, B, C, D = (TAG[name] for name in "abcd")
NOT_A = replace(A, negative=True)


@pytest.mark.parametrize(
    ("source", "conditions"),
    [
        ("tag:a OR tag:b", (Group(((A,), (B,))),)),
        ("tag:a OR tag:b OR tag:c", (Group(((A,), (B,), (C,))),)),
        # OR joins the filters on both sides of it, before those side by side.
        ("tag:a tag:b OR tag:c tag:d", (A, Group(((B,), (C,))), D)),
        ("(tag:a tag:b) OR tag:c", (Group(((A, B), (C,))),)),
        ("(tag:a OR tag:b) OR tag:c", (Group(((A,), (B,), (C,))),)),
        ("(tag:a OR tag:b) tag:c", (Group(((A,), (B,))), C)),
        ("-tag:a OR tag:b", (Group(((NOT_A,), (B,))),)),
        ("-(tag:a tag:b)", (Group(((A, B),), negative=True),)),
        ("-(tag:a OR tag:b)", (Group(((A,), (B,)), negative=True),)),
        ("-(-tag:a)", (Group(((NOT_A,),), negative=True),)),
        ("(tag:a)", (A,)),
        ("( tag:a (tag:b OR tag:c) )", (Group(((A, Group(((B,), (C,)))),)),)),
        ("(tag:a (tag:b tag:c)) tag:d", (Group(((A, Group(((B, C),))),)), D)),
        ("tag:a -(tag:b OR (tag:c tag:d))", (A, Group(((B,), (C, D)), negative=True))),
    ],
)
def test_choices_and_brackets(source: str, conditions: tuple[Condition | Group, ...]) -> None:
    query = parse_query(source)
    assert query == WrittenQuery((), conditions)
    assert parse_query(print_query(query)) == query


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("(path:a(b)c tag:x)", "a(b)c"),
        (r"(path:a\)c tag:x)", "a)c"),
        ('(path:"a)c" tag:x)', "a)c"),
    ],
)
def test_brackets_in_values(source: str, value: str) -> None:
    query = parse_query(source)
    (group,) = query.conditions
    assert isinstance(group, Group)
    assert [part.written for part in group.alternatives[0] if isinstance(part, Condition)] == [
        value,
        "x",
    ]
    assert parse_query(print_query(query)) == query


def test_alternatives_among_texts() -> None:
    query = parse_query('a red bus OR "a blue car"^2 OR like:a1 -night taken:2024 x OR y')
    assert [(term.what, term.alternative) for term in query.terms] == [
        (WrittenText("a red bus"), False),
        (WrittenText("a blue car", quoted=True), True),
        (Reference(1, False), True),
        (WrittenText("night"), False),
        (WrittenText("x"), False),
        (WrittenText("y"), True),
    ]
    assert parse_query(print_query(query)) == query


def test_the_place_of_every_part() -> None:
    source = 'a red  bus^2  -"in rain" x tag:"a b" -like:r9^1'
    query = parse_query(source)
    parts = [part.span for part in (*query.terms, *query.conditions)]
    written = [source[span.position : span.end] for span in parts]
    assert written == ["a red  bus^2", '-"in rain"', "x", "-like:r9^1", 'tag:"a b"']


@pytest.mark.parametrize(
    ("most", "part", "message"),
    [
        (MAX_TERMS, "-x ", "16 terms"),
        (MAX_PICTURE_TERMS, "image:x ", "4 pictures"),
        (MAX_CONDITIONS, "tag:x ", "32 filters"),
    ],
)
def test_how_much_a_query_may_say(most: int, part: str, message: str) -> None:
    assert parse_query(part * most)
    with pytest.raises(MalformedQuery, match=f"more than {message}") as caught:
        parse_query(part * (most + 1))
    assert caught.value.position == most * len(part)


def test_how_long_a_query_may_be() -> None:
    assert len(terms("x" * MAX_LENGTH)) == 1
    with pytest.raises(MalformedQuery, match="2000 characters") as caught:
        parse_query("x" * (MAX_LENGTH + 5))
    assert (caught.value.position, caught.value.length) == (MAX_LENGTH, 5)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a red bus", "a red bus"),
        ('"a red bus"', None),
        ("-x", None),
        ("bus tag:x", None),
        ("", None),
    ],
)
def test_what_is_plain_text(source: str, expected: str | None) -> None:
    assert parse_query(source).plain_text == expected
