"""Turns parsed queries into terms and filters of a search.

The caller resolves the names of pictures, and decides which paths a query may name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from regard.core.errors import MalformedQuery, UsageError
from regard.core.filters import (
    EVERYTHING,
    AssetFilter,
    Fact,
    GpsBox,
    GpsCircle,
    Orientation,
)
from regard.search.answers import (
    ComposedQuery,
    ImageQuery,
    LikeQuery,
    ListQuery,
    Query,
    Reference,
    Term,
    TextQuery,
)
from regard.search.language.syntax import (
    Condition,
    CustomField,
    Field,
    Period,
    Pixels,
    WrittenPicture,
    WrittenQuery,
    WrittenTerm,
    WrittenText,
)

GetPicture = Callable[[WrittenPicture], ImageQuery]
GetPath = Callable[[str], AssetFilter]


def read_terms(query: WrittenQuery, picture: GetPicture) -> list[Term]:
    """The terms of a query in order; `picture` loads a named picture.

    Raises MalformedQuery with the term's place if `picture` raises UsageError.
    """
    return [
        Term(_read_term(term, picture), weight=term.weight, negative=term.negative)
        for term in query.terms
    ]


def compose_query(terms: Sequence[Term]) -> Query:
    """One query of all terms; without terms it is a list.

    Raises UnanswerableQuery if all terms are negative.
    """
    if not terms:
        return ListQuery()
    if len(terms) == 1 and not terms[0].negative:
        return terms[0].query
    return ComposedQuery(tuple(terms))


def read_filter(query: WrittenQuery, path: GetPath) -> AssetFilter:
    """All conditions as one filter: any of the named collections and cameras, and all the rest.

    `path` makes the filter of a path; raises MalformedQuery with the condition's place if it
    raises UsageError.
    """
    if not query.conditions:
        return EVERYTHING
    wanted = [condition for condition in query.conditions if not condition.negative]
    unwanted = [condition for condition in query.conditions if condition.negative]
    collections = _texts(Field.COLLECTION, wanted)
    single = {Field.COLLECTION, Field.CAMERA, Field.TAG}
    return AssetFilter(
        collections=tuple(sorted(set(collections))) or None,
        cameras=_texts(Field.CAMERA, wanted),
        tags=_texts(Field.TAG, wanted),
        without_tags=_texts(Field.TAG, unwanted),
        also=tuple(_read_condition(item, path) for item in wanted if item.field not in single),
        without=tuple(
            _read_condition(item, path) for item in unwanted if item.field is not Field.TAG
        ),
    )


def intersect(one: AssetFilter, other: AssetFilter) -> AssetFilter:
    """A filter for what passes both."""
    if other.is_everything:
        return one
    if one.is_everything:
        return other
    return AssetFilter(also=(one, other))


def _read_term(term: WrittenTerm, picture: GetPicture) -> TextQuery | ImageQuery | LikeQuery:
    match term.what:
        case WrittenText(text, quoted):
            return TextQuery(text, phrase=quoted)
        case Reference():
            return LikeQuery(term.what)
        case WrittenPicture():
            try:
                return picture(term.what)
            except UsageError as error:
                raise _at(term, error) from error


def _texts(field: Field, conditions: Iterable[Condition]) -> tuple[str, ...]:
    values = (item.value for item in conditions if item.field is field)
    return tuple(value for value in values if isinstance(value, str))


def _read_condition(condition: Condition, path: GetPath) -> AssetFilter:
    """The filter of one condition, without its sign."""
    try:
        return _filter(condition, path)
    except UsageError as error:
        raise _at(condition, error) from error


def _filter(condition: Condition, path: GetPath) -> AssetFilter:  # noqa: PLR0911 - one return per kind of value
    match condition.value:
        case Period(start, end):
            return AssetFilter(taken_from=start, taken_to=end)
        case Pixels(least, most) if condition.field is Field.WIDTH:
            return AssetFilter(min_width=least, max_width=most)
        case Pixels(least, most):
            return AssetFilter(min_height=least, max_height=most)
        case GpsBox() as box:
            return AssetFilter(gps_box=box)
        case GpsCircle() as circle:
            return AssetFilter(gps_near=circle)
        case Orientation() as orientation:
            return AssetFilter(orientation=orientation)
        case Fact() as fact:
            return AssetFilter(has=(fact,))
        case CustomField(name, value):
            return AssetFilter(custom=((name, value),))
        case str() as text:
            if condition.field is Field.PATH:
                return path(text)
            if condition.field is Field.CAMERA:
                return AssetFilter(cameras=(text,))
            return AssetFilter(collections=(text,))


def _at(part: WrittenTerm | Condition, error: UsageError) -> UsageError:
    """The error with the part's place, if the part comes from a text."""
    span = part.span
    if isinstance(error, MalformedQuery) or not span.length:
        return error
    return MalformedQuery(
        error.message, position=span.position, length=span.length, remedy=error.remedy
    )
