"""Collections, and the log of changes to the assets in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, select

from regard.core.assets import AssetChange, CollectionRecord
from regard.core.errors import Conflict, NameTaken, NotFound, UsageError
from regard.core.words import composed
from regard.storage.assets.reading import Visible
from regard.storage.assets.records import is_pending
from regard.storage.assets.rows import find_collection, note_collection, notes_collection
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import assets_version
from regard.storage.database.clock import utc_now
from regard.storage.database.stored_pipelines import StoredPipeline, live_pipeline

_table, _asset, _change = schema.collection.c, schema.asset.c, schema.asset_change.c


class SqlCollections:
    """Reads and writes collections; `visible` is as in `SqlAssetReading`."""

    def __init__(self, catalog: Catalog) -> None:
        """Prepare to read and write."""
        self._database = catalog.database
        self._counts = catalog.kept_counts

    def create(self, name: str) -> CollectionRecord:
        """Create an empty collection; raises NameTaken."""
        with self._database.writing() as connection:
            self._database.take_turns(connection)
            if find_collection(connection, name) is not None:
                raise NameTaken(
                    f"a collection named {name!r} already exists", remedy="choose another name"
                )
            number = connection.execute(
                insert(schema.collection)
                .values(name=name, created_at=utc_now())
                .returning(_table.id)
            ).scalar_one()
        return self.get(number)

    def page(
        self, *, visible: Visible = None, after: str | None = None, limit: int = 100
    ) -> list[CollectionRecord]:
        """The next collections after a name, by name."""
        where: list[ColumnElement[bool]] = []
        if visible is not None:
            where.append(_table.name.in_(visible))
        if after is not None:
            where.append(_table.name > after)
        return self._records(where, limit)

    def get(self, collection: int, *, visible: Visible = None) -> CollectionRecord:
        """One collection; raises NotFound."""
        where: list[ColumnElement[bool]] = [_table.id == collection]
        if visible is not None:
            where.append(_table.name.in_(visible))
        found = self._records(where, 1)
        if not found:
            raise NotFound(
                f"no collection has the id c{collection}",
                remedy="take an id from the list of collections",
            )
        return found[0]

    def named(self, name: str) -> CollectionRecord:
        """One collection by its name; raises NotFound."""
        found = self._records([_table.name == name], 1)
        if not found:
            raise NotFound(
                f"no collection is named {name}", remedy="see the list, as by: regard status"
            )
        return found[0]

    def missing(self, names: Collection[str]) -> set[str]:
        """The names that no collection has."""
        with self._database.reading() as connection:
            found = connection.execute(select(_table.name).where(_table.name.in_(names))).scalars()
            there = set(found)
            return {name for name in names if composed(name) not in there}

    def delete(self, collection: int) -> None:
        """Delete an empty collection; raises NotFound, or Conflict if it has assets."""
        with self._database.writing() as connection:
            # An upload into it may be running.
            self._database.take_turns(connection)
            name = connection.execute(
                select(_table.name).where(_table.id == collection).with_for_update()
            ).scalar_one_or_none()
            if name is None:
                raise NotFound(f"no collection has the id c{collection}")
            if connection.execute(
                select(exists().where(_asset.collection_id == collection))
            ).scalar_one():
                raise Conflict(
                    "the collection has photographs, possibly in the trash",
                    remedy="delete it with its assets, or empty it first",
                )
            connection.execute(delete(schema.collection).where(_table.id == collection))
            note_collection(connection, collection, name)

    def changes(
        self, after: int, *, visible: Visible = None, limit: int = 1000
    ) -> tuple[list[AssetChange], int, bool]:
        """Changes of assets after a position, in order, also in deleted collections.

        Returns the changes, the position to continue from, and whether there are more. Raises
        UsageError for a position beyond the end of the log: it belongs to another catalog.
        """
        with self._database.reading() as connection:
            # All positions up to this one are visible.
            known = assets_version(connection)
            if after > known:
                raise UsageError(
                    f"the log of changes ends at {known}, before {after}",
                    remedy="start again from 0: this is not the catalog that was followed before, "
                    "or an older state of it",
                )
            name = func.coalesce(_table.name, schema.catalog_info.c.value)
            statement = (
                select(schema.asset_change, name.label("name"))
                .outerjoin(schema.collection, _table.id == _change.collection_id)
                .outerjoin(schema.catalog_info, notes_collection(_change.collection_id))
                .where(and_(_change.position > after, _change.position <= known))
                .order_by(_change.position)
                .limit(limit + 1)
            )
            if visible is not None:
                statement = statement.where(name.in_(visible))
            rows = connection.execute(statement).all()
        more = len(rows) > limit
        rows = rows[:limit]
        changes = [
            AssetChange(
                row.position, row.kind, row.asset_id, row.collection_id, row.name, row.changed_at
            )
            for row in rows
        ]
        return changes, rows[-1].position if more else known, more

    def _records(self, where: Sequence[ColumnElement[bool]], limit: int) -> list[CollectionRecord]:
        with self._database.reading() as connection:
            pipeline = live_pipeline(connection)
            found = connection.execute(
                select(_table.id, _table.name, _table.created_at)
                .where(*where)
                .order_by(_table.name)
                .limit(limit)
            ).all()
            counts = self._counts.read(
                connection, "collections", None, lambda: _count(connection, pipeline)
            )
        return [
            CollectionRecord(
                row.id,
                row.name,
                row.created_at,
                **{name: of.get(row.id, 0) for name, of in counts.items()},
            )
            for row in found
        ]


def _count(
    connection: Connection, pipeline: StoredPipeline | None
) -> Mapping[str, Mapping[int, int]]:
    """How many assets each collection has in each state."""
    is_live = _asset.deleted_at.is_(None)
    live_id = -1 if pipeline is None else pipeline.id
    analysis = schema.analysis
    contents, analysed = (
        connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
        for table, where in (
            (schema.content, ()),
            (analysis, (analysis.c.pipeline_id == live_id,)),
        )
    )
    # To look for the contents that wait takes longer than all else; mostly there are none.
    pending = {}
    if contents != analysed:
        pending = count_by_collection(connection, is_live, is_pending(live_id))
    # Each from an index alone, except for the few that failed.
    return {
        "assets": count_by_collection(connection, is_live),
        "pending": pending,
        "failed": count_by_collection(connection, is_live, _asset.failure.is_not(None)),
        "trashed": count_by_collection(connection, _asset.deleted_at.is_not(None)),
    }


def count_by_collection(connection: Connection, *conditions: ColumnElement[bool]) -> dict[int, int]:
    """How many assets of each collection meet the conditions."""
    # Named, so that a partial index that begins with the collection is used.
    collections = select(_table.id)
    statement = (
        select(_asset.collection_id, func.count())
        .where(_asset.collection_id.in_(collections), *conditions)
        .group_by(_asset.collection_id)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}
