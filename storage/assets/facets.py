"""Counts of assets by camera, lens, month, place, rating, format, tag and collection.

Facets of all assets are counted in the order of an index each. With a filter, one pass over the
assets that pass counts all but tags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select

from regard.core.assets import FacetValue
from regard.photos.countries import country_name
from regard.storage.assets.filters import EMPTY
from regard.storage.database import schema

_asset, _tag = schema.asset.c, schema.asset_tag.c
# The only facet of `content`.
FORMAT = "format"
_COLUMNS: Mapping[str, Any] = {
    "camera": _asset.camera,
    "lens": _asset.lens,
    "month": _asset.taken_month,
    "country": _asset.country,
    "city": _asset.city,
    "rating": _asset.rating,
    FORMAT: schema.content.c.format,
    "collection": _asset.collection_id,
}
_TAGS = "tags"
FACETS = (*_COLUMNS, _TAGS)
# How many values of a facet are named; facets without a number are named wholly.
_MOST = {"camera": 50, "lens": 50, "city": 50, _TAGS: 50}


def read_facets(
    connection: Connection,
    names: Sequence[str],
    passing: Select[Any],
    *,
    is_of_all: bool,
    hidden: Select[Any] | None = None,
) -> dict[str, list[FacetValue]]:
    """The values and counts of facets, most frequent first.

    `passing` selects from `asset` and has no columns; `is_of_all` says that it passes all assets
    except those in the trash. If it does not, `FORMAT` needs `content` joined. `hidden` are those
    of them that do not count.
    """
    counts = _count_each(connection, names, passing, is_of_all=is_of_all)
    if hidden is not None:
        for name, less in _count_each(connection, names, hidden, is_of_all=False).items():
            counts[name] -= less
    if "collection" in names:
        table = schema.collection.c
        by_id = {row.id: row.name for row in connection.execute(select(table.id, table.name))}
        counts["collection"] = Counter(
            {by_id[number]: count for number, count in counts["collection"].items()}
        )
    if "country" in names:
        counts["country"] = Counter(
            {country_name(code): count for code, count in counts["country"].items() if code}
        )
    return {name: _most_frequent(counts[name], _MOST.get(name)) for name in names}


def _count_each(
    connection: Connection, names: Sequence[str], passing: Select[Any], *, is_of_all: bool
) -> dict[str, Counter[Any]]:
    counts: dict[str, Counter[Any]] = {}
    plain = [name for name in names if name != _TAGS]
    if is_of_all:
        for name in plain:
            counts[name] = _count_all(connection, name, passing)
    elif plain:
        counts |= _count_together(connection, plain, passing)
    if _TAGS in names:
        counts[_TAGS] = _count_tags(connection, passing, is_of_all=is_of_all)
    return counts


def _count_all(connection: Connection, name: str, passing: Select[Any]) -> Counter[Any]:
    column = _COLUMNS[name]
    if name == FORMAT:
        joined = select().join_from(schema.content, schema.asset)
        trashed = joined.where(_asset.deleted_at.is_not(None))
        return _all_but(connection, joined, trashed, column)
    # The condition of the index that has the values.
    is_known = column != EMPTY if name == "lens" else column.is_not(None)
    return _count(connection, _by(passing.where(is_known), column))


def _count_together(
    connection: Connection, names: Sequence[str], passing: Select[Any]
) -> dict[str, Counter[Any]]:
    counts: dict[str, Counter[Any]] = {name: Counter() for name in names}
    statement = _by(passing, *(_COLUMNS[name] for name in names))
    for *values, number in connection.execute(statement):
        for name, value in zip(names, values, strict=True):
            counts[name][value] += number
    return counts


def _count_tags(connection: Connection, passing: Select[Any], *, is_of_all: bool) -> Counter[Any]:
    if not is_of_all:
        tagged = passing.join(schema.asset_tag, _tag.asset_id == _asset.id)
        return _count(connection, _by(tagged, _tag.tag))
    trashed = (
        select()
        .join_from(schema.asset, schema.asset_tag, _tag.asset_id == _asset.id)
        .where(_asset.deleted_at.is_not(None))
    )
    return _all_but(connection, select().select_from(schema.asset_tag), trashed, _tag.tag)


def _all_but(
    connection: Connection, everywhere: Select[Any], trashed: Select[Any], column: Any
) -> Counter[Any]:
    """The counts outside the trash, which is smaller than the rest."""
    return _count(connection, _by(everywhere, column)) - _count(connection, _by(trashed, column))


def _by(statement: Select[Any], *columns: Any) -> Select[Any]:
    return statement.add_columns(*columns, func.count()).group_by(*columns)


def _count(connection: Connection, statement: Select[Any]) -> Counter[Any]:
    return Counter({row[0]: row[1] for row in connection.execute(statement)})


def _most_frequent(counts: Mapping[Any, int], most: int | None) -> list[FacetValue]:
    named = (item for item in counts.items() if item[0] is not None and item[0] != "")
    ordered = sorted(named, key=lambda item: (-item[1], item[0]))
    return [FacetValue(str(value), number) for value, number in ordered[:most]]
