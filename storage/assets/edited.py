"""Assets with facts by people that their files do not have: for writing them into sidecars.

A title and a rating that a person gave, and tags that differ from the keywords of the file are such
edits. Once the file says them they are settled: they are the file's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from regard.core.annotations import EditedAsset, EditedAssets
from regard.core.catalog import FileStamp, WriterLease
from regard.core.facts import PhotoFacts
from regard.core.filters import AssetFilter
from regard.photos.buckets import SCHEME
from regard.storage.assets.editing import changed_events
from regard.storage.assets.filters import passes
from regard.storage.assets.rows import rating_beside_edited, storable_facts
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import record_changes
from regard.storage.database.lease import hold_writer_lease

_asset, _tag, _keyword = schema.asset.c, schema.asset_tag.c, schema.asset_keyword.c


class SqlEditedAssets(EditedAssets):
    """The edited assets that pass a filter."""

    def __init__(self, catalog: Catalog, asset_filter: AssetFilter) -> None:
        self._database = catalog.database
        self._filter = asset_filter

    def writer_lease(self) -> AbstractContextManager[WriterLease]:
        return hold_writer_lease(self._database)

    def count(self) -> int:
        return self._count(_has_folder())

    def count_without_folder(self) -> int:
        return self._count(~_has_folder())

    def page(self, after: int, limit: int) -> Sequence[EditedAsset]:
        columns = (
            *(_asset.id, _asset.path, _asset.size, _asset.mtime_ns, _asset.sidecar_stamp),
            *(_asset.edited_title, _asset.edited_rating),
        )
        with self._database.reading() as connection:
            rows = connection.execute(
                self._select(*columns)
                .where(_has_folder(), _asset.id > after)
                .order_by(_asset.id)
                .limit(limit)
            ).all()
            ids = [row.id for row in rows]
            tags = _texts(connection, _tag.asset_id, _tag.tag, ids)
            keywords = _texts(connection, _keyword.asset_id, _keyword.keyword, ids)
        return [
            EditedAsset(
                row.id,
                FileStamp(bytes(row.path), row.size, row.mtime_ns, row.sidecar_stamp),
                row.edited_title,
                row.edited_rating,
                tuple(sorted(tags[row.id] - keywords[row.id])),
                tuple(sorted(keywords[row.id] - tags[row.id])),
            )
            for row in rows
        ]

    def settle(self, asset: EditedAsset, facts: PhotoFacts, sidecar: str | None) -> None:
        facts = storable_facts(facts)
        with self._database.writing() as connection:
            row = connection.execute(
                select(_asset.id, _asset.collection_id, _asset.deleted_at)
                .where(_asset.id == asset.id)
                .with_for_update()
            ).one_or_none()
            if row is None:
                return
            # What people said meanwhile is an edit that still has to be written.
            is_same_title = _asset.edited_title == asset.title
            is_same_rating = _asset.edited_rating == asset.rating
            connection.execute(
                update(schema.asset)
                .where(_asset.id == asset.id)
                .values(
                    sidecar_stamp=sidecar,
                    title=facts.title,
                    edited_title=case((is_same_title, None), else_=_asset.edited_title),
                    rating=case(
                        (is_same_rating, facts.rating), else_=rating_beside_edited(facts.rating)
                    ),
                    edited_rating=case((is_same_rating, None), else_=_asset.edited_rating),
                )
            )
            connection.execute(delete(schema.asset_keyword).where(_keyword.asset_id == asset.id))
            if facts.keywords:
                connection.execute(
                    insert(schema.asset_keyword),
                    [
                        {"asset_id": asset.id, "position": position, "keyword": word}
                        for position, word in enumerate(facts.keywords)
                    ],
                )
            record_changes(connection, [], [], changed_events([row]))

    def _select(self, *columns: Any) -> Select[Any]:
        content = schema.content
        return (
            select(*columns)
            .join_from(schema.asset, content, content.c.id == _asset.content_id)
            .where(passes(self._filter), _is_edited())
        )

    def _count(self, condition: ColumnElement[bool]) -> int:
        statement = self._select(func.count()).where(condition)
        with self._database.reading() as connection:
            return int(connection.execute(statement).scalar_one())


def _has_folder() -> ColumnElement[bool]:
    return _asset.managed.is_not(True) & ~_asset.uri.startswith(SCHEME.decode())


def _is_edited() -> ColumnElement[bool]:
    is_keyword = exists().where(_keyword.asset_id == _tag.asset_id, _keyword.keyword == _tag.tag)
    is_tag = exists().where(_tag.asset_id == _keyword.asset_id, _tag.tag == _keyword.keyword)
    is_tagged = exists().where(_tag.asset_id == _asset.id, ~is_keyword.correlate(schema.asset_tag))
    has_lost = exists().where(
        _keyword.asset_id == _asset.id, ~is_tag.correlate(schema.asset_keyword)
    )
    return or_(
        _asset.edited_title.is_not(None),
        _asset.edited_rating.is_not(None),
        is_tagged.correlate(schema.asset),
        has_lost.correlate(schema.asset),
    )


def _texts(
    connection: Connection, owner: Any, text: Any, assets: Sequence[int]
) -> Mapping[int, set[str]]:
    """Texts of assets, by asset."""
    texts: dict[int, set[str]] = {asset: set() for asset in assets}
    for asset, value in connection.execute(select(owner, text).where(owner.in_(assets))):
        texts[asset].add(value)
    return texts
