"""What people decide about duplicates: which to keep, and which are none.

Contents, not assets, are marked as distinct, so that files may move; two copies of one file are a
pair of the same content.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_, update

from regard.core.errors import Conflict, UsageError
from regard.storage.assets.albums import write_members
from regard.storage.assets.editing import changed_events, require_assets
from regard.storage.assets.reading import Visible
from regard.storage.assets.rows import add_tags
from regard.storage.assets.stacks import Folder, folders_of, mark_folders, update_stacks
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.clock import utc_now
from regard.storage.database.connection import insert_into

MOST_DISTINCT = 100
_asset, _pair = schema.asset.c, schema.distinct_pair.c


class SqlDuplicateReview:
    """Writes decisions about duplicates; `visible` is as in `SqlAssetReading`."""

    def __init__(self, catalog: Catalog) -> None:
        self._database = catalog.database

    def merge(self, keep: int, discard: Collection[int], *, visible: Visible = None) -> int:
        """Move assets to the trash, and add their tags, albums and best rating to one that stays.

        All or none. Returns how many were moved. Raises NotFound, UsageError if `keep` is among
        them, Conflict if it is in the trash.
        """
        if keep in discard:
            raise UsageError("the photograph to keep is among those to discard")
        folders: set[Folder] = set()
        with self._database.writing() as connection:
            rows = {row.id: row for row in require_assets(connection, {keep, *discard}, visible)}
            kept = rows.pop(keep)
            if kept.deleted_at is not None:
                raise Conflict(
                    "the photograph to keep is in the trash", remedy="restore it, or keep another"
                )
            live = [row for row in rows.values() if row.deleted_at is None]
            if _merge(connection, keep, list(rows)):
                record_changes(connection, [], [], changed_events([kept]))
            if live:
                connection.execute(
                    update(schema.asset)
                    .where(_asset.id.in_([row.id for row in live]))
                    .values(deleted_at=utc_now())
                )
                folders = folders_of(live)
                mark_folders(connection, folders)
                events = [AssetEvent(row.id, row.collection_id, "removed") for row in live]
                record_changes(connection, [], [], events)
        update_stacks(self._database, folders)
        return len(live)

    def mark_distinct(
        self, assets: Collection[int], *, distinct: bool = True, visible: Visible = None
    ) -> int:
        """Remember that no two of these are duplicates, or forget it; returns the number of pairs.

        Raises NotFound, UsageError for fewer than two assets or more than `MOST_DISTINCT`.
        """
        if not 1 < len(set(assets)) <= MOST_DISTINCT:
            raise UsageError(f"2 to {MOST_DISTINCT} photographs can be distinct from each other")
        with self._database.writing() as connection:
            rows = require_assets(connection, set(assets), visible)
            contents = sorted(row.content_id for row in rows if row.content_id is not None)
            # Sorted, so that equal ones stand for copies of one file.
            pairs = sorted(set(combinations(contents, 2)))
            if pairs and distinct:
                connection.execute(
                    insert_into(connection, schema.distinct_pair).on_conflict_do_nothing(),
                    [{"first_id": first, "second_id": second} for first, second in pairs],
                )
            elif pairs:
                connection.execute(
                    delete(schema.distinct_pair).where(
                        tuple_(_pair.first_id, _pair.second_id).in_(pairs)
                    )
                )
            return len(pairs)


def _merge(connection: Connection, keep: int, others: list[int]) -> bool:
    """Add what people said of others to an asset; whether that changed it."""
    tag, member = schema.asset_tag.c, schema.album_asset.c

    def of_others(value: Any, owner: Any) -> list[Any]:
        statement = select(value).where(owner.in_(others)).distinct().order_by(value)
        return list(connection.execute(statement).scalars())

    changed = bool(add_tags(connection, [keep], of_others(tag.tag, tag.asset_id)))
    for album in of_others(member.album_id, member.asset_id):
        changed = bool(write_members(connection, album, [keep])) or changed
    ratings = [rating for rating in of_others(_asset.rating, _asset.id) if rating is not None]
    own = connection.execute(select(_asset.rating).where(_asset.id == keep)).scalar_one()
    best = max(ratings, default=0)
    if best > (own or 0):
        connection.execute(
            update(schema.asset).where(_asset.id == keep).values(rating=best, edited_rating=best)
        )
        changed = True
    return changed
