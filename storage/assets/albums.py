"""Albums: sets of assets that people name, and saved searches.

An asset may be in many albums. Those in the trash stay in them, unseen, until they are purged.
Keys that are bound to collections see the albums that have an asset in these collections, with
these assets only, and no saved searches, since a query may name anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from regard.core.assets import AlbumRecord
from regard.core.errors import Conflict, NameTaken, NotFound
from regard.storage.assets.editing import changed_events, require_assets
from regard.storage.assets.reading import Visible, seen
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import record_changes
from regard.storage.database.clock import utc_now

_album, _member, _asset = schema.album.c, schema.album_asset.c, schema.asset.c
_AT_ONCE = 10_000


class SqlAlbums:
    """Reads and writes albums; `visible` is as in `SqlAssetReading`."""

    def __init__(self, catalog: Catalog) -> None:
        """Prepare to read and write."""
        self._database = catalog.database

    def create(self, name: str, query: str | None = None) -> AlbumRecord:
        """Create an empty album, or a saved search; raises NameTaken."""
        with self._database.writing() as connection:
            self._database.take_turns(connection)
            _require_free(connection, name)
            values = {"name": name, "query": query, "created_at": utc_now()}
            number = connection.execute(
                insert(schema.album).values(**values).returning(_album.id)
            ).scalar_one()
        return self.get(number)

    def page(
        self, *, visible: Visible = None, after: str | None = None, limit: int = 100
    ) -> list[AlbumRecord]:
        """The next albums after a name, by name."""
        where = [] if after is None else [_album.name > after]
        return self._records(where, visible, limit)

    def names(self, *, visible: Visible = None, limit: int = 10_000) -> list[tuple[str, bool]]:
        """The names of the albums by name, and whether each is a saved search."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_album.name, _album.query.is_not(None))
                .where(*_shown(visible))
                .order_by(_album.name)
                .limit(limit)
            )
            return [(name, is_saved) for name, is_saved in rows]

    def get(self, album: int, *, visible: Visible = None) -> AlbumRecord:
        """One album; raises NotFound."""
        found = self._records([_album.id == album], visible, 1)
        if not found:
            raise NotFound(f"no album has the id b{album}", remedy="see the list of albums")
        return found[0]

    def named(self, name: str, *, visible: Visible = None) -> AlbumRecord:
        """One album by its name; raises NotFound."""
        found = self._records([_album.name == name], visible, 1)
        if not found:
            raise NotFound(
                f"no album is named {name}", remedy="see the list, as by: regard albums list"
            )
        return found[0]

    def edit(self, album: int, *, name: str | None = None, query: str | None = None) -> AlbumRecord:
        """Rename an album, or change the query of a saved search.

        Raises NotFound, NameTaken, Conflict for the query of an album that is not a saved search.
        """
        with self._database.writing() as connection:
            self._database.take_turns(connection)
            row = _require(connection, album)
            if query is not None and row.query is None:
                raise Conflict(
                    f"the album {row.name} is not a saved search",
                    remedy="save the search as another album",
                )
            if name is not None and name != row.name:
                _require_free(connection, name)
            given = {"name": name, "query": query}
            values = {key: value for key, value in given.items() if value is not None}
            if values:
                connection.execute(update(schema.album).where(_album.id == album).values(**values))
        return self.get(album)

    def delete(self, album: int) -> None:
        """Delete an album, and none of its assets; raises NotFound."""
        with self._database.writing() as connection:
            _require(connection, album)
            rows = connection.execute(
                select(_asset.id, _asset.collection_id, _asset.deleted_at)
                .join(schema.album_asset, _member.asset_id == _asset.id)
                .where(_member.album_id == album)
                .order_by(_asset.id)
            ).all()
            connection.execute(delete(schema.album).where(_album.id == album))
            record_changes(connection, [], [], changed_events(rows))

    def change(
        self,
        album: int,
        *,
        add: Collection[int] = (),
        remove: Collection[int] = (),
        visible: Visible = None,
    ) -> int:
        """Add assets and take others out, all of them or none; returns how many joined or left.

        One that is in both is taken out. Raises NotFound, Conflict for a saved search.
        """
        with self._database.writing() as connection:
            row = _require(connection, album, visible)
            if row.query is not None:
                raise Conflict(
                    f"the album {row.name} is a saved search, which fills itself",
                    remedy="change its query",
                )
            rows = require_assets(connection, {*add, *remove}, visible)
            changed = {
                *_insert(connection, album, sorted({*add} - {*remove})),
                *_delete(connection, album, sorted(remove)),
            }
            if changed:
                events = changed_events([row for row in rows if row.id in changed])
                record_changes(connection, [], [], events)
            return len(changed)

    def _records(
        self, where: Sequence[ColumnElement[bool]], visible: Visible, limit: int
    ) -> list[AlbumRecord]:
        with self._database.reading() as connection:
            rows = connection.execute(
                select(schema.album)
                .where(*where, *_shown(visible))
                .order_by(_album.name)
                .limit(limit)
            ).all()
            counts = {
                row.album_id: row.number
                for row in connection.execute(
                    _members([row.id for row in rows], visible)
                    .add_columns(_member.album_id, func.count().label("number"))
                    .group_by(_member.album_id)
                )
            }
            covers = {number: _newest(connection, number, visible) for number in counts}
        return [
            AlbumRecord(
                *(row.id, row.name, row.query, row.created_at),
                counts.get(row.id, 0) if row.query is None else None,
                covers.get(row.id),
            )
            for row in rows
        ]


def write_members(connection: Connection, album: int, assets: Sequence[int]) -> list[int]:
    """Put assets into an album; returns those that were not in it. The caller logs them."""
    return [
        number
        for start in range(0, len(assets), _AT_ONCE)
        for number in _insert(connection, album, assets[start : start + _AT_ONCE])
    ]


def _insert(connection: Connection, album: int, assets: Sequence[int]) -> Iterable[int]:
    make = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = make(schema.album_asset).on_conflict_do_nothing().returning(_member.asset_id)
    values = [{"album_id": album, "asset_id": number} for number in assets]
    return connection.execute(statement, values).scalars().all() if values else []


def _delete(connection: Connection, album: int, assets: Sequence[int]) -> Iterable[int]:
    return (
        connection.execute(
            delete(schema.album_asset)
            .where(_member.album_id == album, _member.asset_id.in_(assets))
            .returning(_member.asset_id)
        )
        .scalars()
        .all()
    )


def _members(albums: Sequence[int], visible: Visible) -> Select[Any]:
    return (
        select()
        .join_from(schema.album_asset, schema.asset, _asset.id == _member.asset_id)
        .where(_member.album_id.in_(albums), _asset.deleted_at.is_(None), *seen(visible))
    )


def _newest(connection: Connection, album: int, visible: Visible) -> int | None:
    return connection.execute(
        _members([album], visible)
        .add_columns(_asset.id)
        .where(_asset.content_id.is_not(None))
        .order_by(_asset.dated_at.desc(), _asset.id.desc())
        .limit(1)
    ).scalar_one_or_none()


def _shown(visible: Visible) -> list[ColumnElement[bool]]:
    if visible is None:
        return []
    inside = exists().where(
        _member.album_id == _album.id,
        _asset.id == _member.asset_id,
        _asset.deleted_at.is_(None),
        *seen(visible),
    )
    return [_album.query.is_(None), inside]


def _require(connection: Connection, album: int, visible: Visible = None) -> Any:
    """The row of a visible album, locked."""
    row = connection.execute(
        select(schema.album).where(_album.id == album, *_shown(visible)).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"no album has the id b{album}", remedy="see the list of albums")
    return row


def _require_free(connection: Connection, name: str) -> None:
    if connection.execute(select(exists().where(_album.name == name))).scalar_one():
        raise NameTaken(f"an album named {name!r} already exists", remedy="choose another name")
