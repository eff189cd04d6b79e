"""The distinct tags, cameras, lenses, cities and countries of a library, for suggestions.

The values of a column are read by steps through its index, so that a million assets cost no more
than their few different values. They are kept until assets change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, exists, func, select

from regard.storage.assets.filters import EMPTY
from regard.storage.assets.reading import Visible, seen
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog

_asset, _tag = schema.asset.c, schema.asset_tag.c
# Of each kind; an index of so many takes a tenth of a second.
_MOST = 20_000
_Prepared = TypeVar("_Prepared")


class Vocabulary(StrEnum):
    """What an asset may have a value of."""

    TAG = "tag"
    CAMERA = "camera"
    LENS = "lens"
    CITY = "city"
    COUNTRY = "country"


class SqlVocabulary:
    """Reads distinct values; `visible` is as in `SqlAssetReading`."""

    def __init__(self, catalog: Catalog) -> None:
        self._database = catalog.database
        self._kept = catalog.kept_counts

    def read(self, kind: Vocabulary, prepare: Callable[[Sequence[str]], _Prepared]) -> _Prepared:
        """What `prepare` makes of all values of a kind, in order: at most 20,000.

        Those of countries are ISO codes. Some may be of assets in the trash alone, see `is_of_any`.
        """
        with self._database.reading() as connection:
            return self._kept.read(
                connection, "vocabulary", kind, lambda: prepare(_distinct(connection, kind))
            )

    def is_of_any(self, kind: Vocabulary, value: str, *, visible: Visible = None) -> bool:
        """Whether a visible asset outside the trash has a value."""
        live = [_asset.deleted_at.is_(None), *seen(visible)]
        if kind is Vocabulary.TAG:
            found = exists().where(_tag.tag == value, _asset.id == _tag.asset_id, *live)
        else:
            found = exists().where(_asset[kind.value] == value, *live)
        with self._database.reading() as connection:
            return bool(connection.execute(select(found)).scalar_one())


def _distinct(connection: Connection, kind: Vocabulary) -> list[str]:
    column: ColumnElement[Any] = _tag.tag if kind is Vocabulary.TAG else _asset[kind.value]
    # The condition of the index.
    within: list[ColumnElement[bool]] = []
    if kind is not Vocabulary.TAG:
        known = column != EMPTY if kind is Vocabulary.LENS else column.is_not(None)
        within = [_asset.deleted_at.is_(None), known]
    first = select(func.min(column).label("value")).where(*within)
    steps = first.cte("steps", recursive=True)
    following = select(func.min(column)).where(*within, column > steps.c.value)
    steps = steps.union_all(
        select(following.correlate(steps).scalar_subquery()).where(steps.c.value.is_not(None))
    )
    statement = select(steps.c.value).where(steps.c.value.is_not(None)).limit(_MOST)
    return list(connection.execute(statement).scalars())
