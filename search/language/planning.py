"""Turns parsed queries into terms and filters of a search.

The caller resolves the names of pictures, and decides which paths a query may name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from regard.core.errors import MalformedQuery, UnanswerableQuery, UsageError
from regard.core.filters import (
    EVERYTHING,
    AssetFilter,
    Fact,
    GpsBox,
    GpsCircle,
    Orientation,
)
from regard.search.answers import (
    AlternativeQueries,
    ComposedQuery,
    ImageQuery,
    LikeQuery,
    ListQuery,
    PlainQuery,
    Query,
    Reference,
    Term,
    TextQuery,
    parse_identifier,
)
from regard.search.language.syntax import (
    MAX_ALTERNATIVES,
    Condition,
    CustomField,
    Field,
    Group,
    Period,
    Pixels,
    Seconds,
    Stars,
    WrittenPicture,
    WrittenQuery,
    WrittenTerm,
    WrittenText,
)

# A photograph has one name of each of these, and several in a query are alternatives.
_NAMED = {Field.CAMERA, Field.LENS, Field.FORMAT, Field.COUNTRY, Field.CITY}
GetPicture = Callable[[WrittenPicture], ImageQuery]
GetPath = Callable[[str], AssetFilter]
GetAlbum = Callable[[str], AssetFilter]


@dataclass(frozen=True, slots=True)
class _Names:
    path: GetPath
    album: GetAlbum


def read_terms(query: WrittenQuery, picture: GetPicture) -> list[Term]:
    """The terms of a query in order; `picture` loads a named picture.

    Raises MalformedQuery with the term's place if `picture` raises UsageError.
    """
    return [
        Term(_read_term(term, picture), term.weight, term.negative, term.alternative)
        for term in query.terms
    ]


def compose_query(terms: Sequence[Term]) -> Query:
    """One query of all terms; without terms it is a list.

    Each choice of one term from every run of alternatives is a query of its own. Raises
    UnanswerableQuery if all terms are negative, or if there are too many choices.
    """
    if not terms:
        return ListQuery()
    runs: list[list[Term]] = []
    for term in terms:
        if term.alternative and runs:
            runs[-1].append(replace(term, alternative=False))
        else:
            runs.append([term])
    count = math.prod(map(len, runs))
    if count > MAX_ALTERNATIVES:
        raise UnanswerableQuery(
            f"the query stands for {count} searches, more than {MAX_ALTERNATIVES}",
            remedy="join fewer texts with OR",
        )
    queries = tuple(_compose(choice) for choice in itertools.product(*runs))
    return queries[0] if len(queries) == 1 else AlternativeQueries(queries)


def _compose(terms: Sequence[Term]) -> PlainQuery | ComposedQuery:
    if len(terms) == 1 and not terms[0].negative:
        return terms[0].query
    return ComposedQuery(tuple(terms))


def read_filter(query: WrittenQuery, path: GetPath, album: GetAlbum) -> AssetFilter:
    """All conditions as one filter: any of the collections, cameras, lenses, formats, countries and
    cities that are named side by side, and all the rest.

    `path` and `album` make the filters of what a condition names; raises MalformedQuery with the
    condition's place if they raise UsageError.
    """
    return _read_all(query.conditions, _Names(path, album))


def _read_all(parts: Sequence[Condition | Group], names: _Names) -> AssetFilter:
    if not parts:
        return EVERYTHING
    conditions = [part for part in parts if isinstance(part, Condition)]
    groups = [part for part in parts if isinstance(part, Group)]
    wanted = [condition for condition in conditions if not condition.negative]
    unwanted = [condition for condition in conditions if condition.negative]
    collections = _texts(Field.COLLECTION, wanted)
    single = {*_NAMED, Field.COLLECTION, Field.TAG}
    return replace(
        _any_name(lambda field: _texts(field, wanted)),
        collections=tuple(sorted(set(collections))) or None,
        tags=_texts(Field.TAG, wanted),
        without_tags=_texts(Field.TAG, unwanted),
        also=(
            *(_read_condition(item, names) for item in wanted if item.field not in single),
            *(_read_group(group, names) for group in groups if not group.negative),
        ),
        without=(
            *(_read_condition(item, names) for item in unwanted if item.field is not Field.TAG),
            *(_read_group(group, names) for group in groups if group.negative),
        ),
    )


def _read_group(group: Group, names: _Names) -> AssetFilter:
    """The filter of alternatives, without their sign."""
    filters = tuple(_read_all(parts, names) for parts in group.alternatives)
    return filters[0] if len(filters) == 1 else AssetFilter(any_of=filters)


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


def _read_condition(condition: Condition, names: _Names) -> AssetFilter:
    """The filter of one condition, without its sign."""
    try:
        return _filter(condition, names)
    except UsageError as error:
        raise _at(condition, error) from error


def _filter(condition: Condition, names: _Names) -> AssetFilter:  # noqa: PLR0911 - one return per kind of value
    match condition.value:
        case Period(start, end):
            return AssetFilter(taken_from=start, taken_to=end)
        case Pixels(least, most) if condition.field is Field.WIDTH:
            return AssetFilter(min_width=least, max_width=most)
        case Pixels(least, most):
            return AssetFilter(min_height=least, max_height=most)
        case Stars(least, most):
            return AssetFilter(min_rating=least, max_rating=most)
        case Seconds(least, most):
            return AssetFilter(min_duration=least, max_duration=most)
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
            return _named_filter(condition.field, text, names)


def _named_filter(field: Field, text: str, names: _Names) -> AssetFilter:
    match field:
        case Field.PATH:
            return names.path(text)
        case Field.ALBUM:
            return names.album(text)
        case Field.COLLECTION:
            return AssetFilter(collections=(text,))
        case Field.STACK:
            return AssetFilter(stacks=(parse_identifier(text).id,))
        case _:
            return _any_name(lambda named: (text,) if named is field else ())


def _any_name(names: Callable[[Field], tuple[str, ...]]) -> AssetFilter:
    """The filter for any of the names of each field in `_NAMED`."""
    return AssetFilter(
        cameras=names(Field.CAMERA),
        lenses=names(Field.LENS),
        formats=names(Field.FORMAT),
        countries=names(Field.COUNTRY),
        cities=names(Field.CITY),
    )


def _at(part: WrittenTerm | Condition, error: UsageError) -> UsageError:
    """The error with the part's place, if the part comes from a text."""
    span = part.span
    if isinstance(error, MalformedQuery) or not span.length:
        return error
    return MalformedQuery(
        error.message, position=span.position, length=span.length, remedy=error.remedy
    )
