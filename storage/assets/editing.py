"""What people do to assets: edit, tag, trash, restore, purge; each call is one transaction.

These writes are short and need no writer lease, which guards analyses. Each is recorded in the log
of assets. No file is touched: `purge_some` returns the originals that no asset needs any more.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    select,
    update,
)

from regard.core.assets import AssetEdit
from regard.core.catalog import Exclusion
from regard.core.errors import Conflict, NotFound, UsageError
from regard.storage.assets.reading import Visible
from regard.storage.assets.rows import (
    add_tags,
    custom_text,
    drop_orphans,
    exclude,
    forget_comparisons,
    has_path,
    note_files,
    require_free,
    write_custom,
)
from regard.storage.assets.stacks import (
    ALONE,
    Folder,
    dissolve_stacks,
    folders_of,
    mark_folders,
    new_stack_number,
    update_stacks,
)
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.clock import utc_now
from regard.storage.files.originals import name_of

_asset = schema.asset.c
_PURGED_AT_ONCE = 200
_MOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Purged:
    """The number of purged assets, and the names of managed files that are no longer needed.

    Check `needs` again before deleting such a file, because the same bytes may have been uploaded
    since; call `forget_originals` afterwards. `has_more` says that another portion may be left.
    """

    assets: int
    originals: list[str]
    has_more: bool


class SqlAssetEditing:
    """Writes the changes that people make."""

    def __init__(self, catalog: Catalog) -> None:
        """Prepare to write."""
        self._database = catalog.database

    def edit(self, asset: int, edit: AssetEdit, *, visible: Visible = None) -> None:
        """Change one asset; an edit without effect is not logged. Raises NotFound, NameTaken."""
        with self._database.writing() as connection:
            if "external_id" in edit.fields:
                # Otherwise two edits that find an external id free would both take it.
                self._database.take_turns(connection)
            row = require_assets(connection, [asset], visible)[0]
            values: dict[str, Any] = {}
            if "title" in edit.fields and edit.title != row.edited_title:
                values["edited_title"] = edit.title
            if "external_id" in edit.fields and edit.external_id != row.external_id:
                require_free(connection, row.collection_id, edit.external_id, asset)
                values["external_id"] = edit.external_id
            if values:
                connection.execute(update(schema.asset).where(_asset.id == asset).values(**values))
            has_changed = bool(values)
            if "rating" in edit.fields:
                has_changed = bool(_rate(connection, [asset], edit.rating)) or has_changed
            if "tags" in edit.fields:
                tag = schema.asset_tag.c
                gone = connection.execute(
                    delete(schema.asset_tag).where(tag.asset_id == asset, tag.tag.not_in(edit.tags))
                ).rowcount
                added = add_tags(connection, [asset], edit.tags)
                has_changed = has_changed or bool(gone or added)
            if edit.custom is not None and "custom" in edit.fields:
                former = json.loads(row.custom) if row.custom else {}
                custom = {**former, **edit.custom}
                if custom_text(custom) != row.custom:
                    write_custom(connection, asset, custom)
                    has_changed = True
            if has_changed:
                record_changes(connection, [], [], changed_events([row]))

    def tag(
        self,
        assets: Collection[int],
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        visible: Visible = None,
    ) -> None:
        """Add tags to and remove tags from assets, all of them or none; raises NotFound."""
        with self._database.writing() as connection:
            rows = require_assets(connection, assets, visible)
            ids = [row.id for row in rows]
            changed: set[int] = set()
            if remove:
                tag = schema.asset_tag.c
                changed.update(
                    connection.execute(
                        delete(schema.asset_tag)
                        .where(tag.asset_id.in_(ids), tag.tag.in_(remove))
                        .returning(tag.asset_id)
                    ).scalars()
                )
            changed |= add_tags(connection, ids, add)
            if changed:
                record_changes(
                    connection, [], [], changed_events([row for row in rows if row.id in changed])
                )

    def rate(self, assets: Collection[int], rating: int, *, visible: Visible = None) -> int:
        """Give assets 1 to 5 stars, or 0 for none; all of them or none.

        Returns how many had another rating. Raises NotFound.
        """
        with self._database.writing() as connection:
            rows = require_assets(connection, assets, visible)
            changed = _rate(connection, [row.id for row in rows], rating)
            if changed:
                record_changes(
                    connection, [], [], changed_events([row for row in rows if row.id in changed])
                )
            return len(changed)

    def trash(self, assets: Collection[int], *, visible: Visible = None) -> None:
        """Put assets into the trash, all of them or none; raises NotFound."""
        self._move(assets, visible, into_trash=True)

    def restore(self, assets: Collection[int], *, visible: Visible = None) -> None:
        """Take assets out of the trash, all of them or none; raises NotFound."""
        self._move(assets, visible, into_trash=False)

    def stack(self, assets: Collection[int], *, visible: Visible = None) -> int:
        """Put assets, with all that are in their stacks, into one stack; returns how many it has.

        Raises NotFound, UsageError for fewer than two, Conflict for what lies in different
        folders (of uploads: was taken on different days), could not be read or is in the trash.
        """
        if len(set(assets)) < 2:
            raise UsageError("a stack has at least two photographs", remedy="name another one")
        with self._database.writing() as connection:
            number = new_stack_number(self._database, connection)
            rows = require_assets(connection, self._with_stacks(connection, assets), visible)
            folders = _require_stackable(rows)
            _choose(connection, rows, number)
            mark_folders(connection, folders)
        update_stacks(self._database, folders)
        return len(rows)

    def unstack(self, assets: Collection[int], *, visible: Visible = None) -> int:
        """Take assets out of their stacks, which keep the others; returns how many were in one.

        Raises NotFound.
        """
        return self._choose_where(assets, visible, "stack_id", ALONE)

    def restack(self, assets: Collection[int], *, visible: Visible = None) -> int:
        """Leave assets, with all that are in their stacks, to the rules again.

        Returns how many people had put somewhere. Raises NotFound.
        """
        return self._choose_where(assets, visible, "chosen_stack", None)

    def _choose_where(
        self, assets: Collection[int], visible: Visible, column: str, stack: int | None
    ) -> int:
        """Choose a stack for those of the assets that have a value in a column; returns how many.

        Raises NotFound.
        """
        with self._database.writing() as connection:
            whole = self._with_stacks(connection, assets) if stack is None else assets
            rows = [
                row
                for row in require_assets(connection, whole, visible)
                if getattr(row, column) is not None
            ]
            _choose(connection, rows, stack)
            folders = folders_of(rows)
            mark_folders(connection, folders)
        update_stacks(self._database, folders)
        return len(rows)

    @staticmethod
    def _with_stacks(connection: Connection, assets: Collection[int]) -> set[int]:
        member = schema.asset.alias("member").c
        ids = select(member.id).where(
            member.stack_id.in_(select(_asset.stack_id).where(_asset.id.in_(assets)))
        )
        return {*assets, *connection.execute(ids).scalars()}

    def count_trashed(self, collection: int | None, trashed_by: datetime) -> int:
        """How many assets `purge_some` would delete in all."""
        statement = select(func.count()).select_from(schema.asset)
        with self._database.reading() as connection:
            return int(
                connection.execute(
                    statement.where(*_purged(collection, trashed_by=trashed_by))
                ).scalar_one()
            )

    def purge_some(
        self,
        collection: int | None = None,
        *,
        trashed_only: bool = True,
        trashed_by: datetime | None = None,
    ) -> Purged:
        """Delete a portion of the assets in the trash for good, of one collection or of all.

        With `trashed_by` only those that were in the trash by then; with `trashed_only` false, all
        assets of the collection. Deletes no file.
        """
        where = _purged(collection, trashed_only=trashed_only, trashed_by=trashed_by)
        # In the order of an index: the rest is sorted for each portion otherwise.
        order = (_asset.dated_at, _asset.id) if trashed_only else (_asset.path,)
        with self._database.writing() as connection:
            # An upload may be restoring one of these.
            self._database.take_turns(connection)
            found = connection.execute(
                select(_asset.id, _asset.content_id)
                .where(*where)
                .order_by(*order)
                .limit(_PURGED_AT_ONCE)
            ).all()
            has_more = len(found) == _PURGED_AT_ONCE
            # Lock contents before assets, as the indexer does, to avoid a deadlock.
            content = schema.content.c
            connection.execute(
                select(content.id)
                .where(content.id.in_([row.content_id for row in found if row.content_id]))
                .order_by(content.id)
                .with_for_update()
            ).all()
            # Some may have been restored since.
            rows = connection.execute(
                select(
                    _asset.id,
                    _asset.collection_id,
                    _asset.content_id,
                    _asset.managed,
                    _asset.deleted_at,
                    _asset.path,
                    _asset.stack_id,
                )
                .where(_asset.id.in_([row.id for row in found]), *where)
                .order_by(_asset.id)
                .with_for_update()
            ).all()
            if not rows:
                return Purged(0, [], has_more)
            connection.execute(delete(schema.asset).where(_asset.id.in_([row.id for row in rows])))
            # None is in a stack but while a collection is deleted, which the next portion continues.
            events = dissolve_stacks(connection, {row.stack_id for row in rows})
            removed = drop_orphans(connection, {row.content_id for row in rows})
            # Assets in the trash were logged as removed when they went there.
            events += [
                AssetEvent(row.id, row.collection_id, "removed")
                for row in rows
                if row.deleted_at is None
            ]
            paths = {bytes(row.path) for row in rows if row.managed}
            used = connection.execute(select(_asset.path).where(has_path(paths))).scalars()
            unused = paths - {bytes(path) for path in used}
            originals = [name_of(path) for path in sorted(unused)]
            note_files(connection, originals)
            # Otherwise the next run over their folders would add them again.
            removals: dict[int, list[Exclusion]] = {}
            for row in rows:
                if row.deleted_at is not None and not row.managed:
                    removal = Exclusion(bytes(row.path), None, is_left_out=True)
                    removals.setdefault(row.collection_id, []).append(removal)
            for collection_id, of_collection in removals.items():
                exclude(connection, collection_id, of_collection)
            record_changes(connection, [], removed, events)
        return Purged(len(rows), originals, has_more)

    def _move(self, assets: Collection[int], visible: Visible, *, into_trash: bool) -> None:
        with self._database.writing() as connection:
            rows = require_assets(connection, assets, visible)
            moved = [row for row in rows if (row.deleted_at is None) == into_trash]
            if not moved:
                return
            connection.execute(
                update(schema.asset)
                .where(_asset.id.in_([row.id for row in moved]))
                .values(deleted_at=utc_now() if into_trash else None)
            )
            if not into_trash:
                # Contents indexed since were not compared with them.
                forget_comparisons(connection, {row.content_id for row in moved} - {None})
            kind = "removed" if into_trash else "added"
            folders = folders_of(moved)
            mark_folders(connection, folders)
            record_changes(
                connection, [], [], [AssetEvent(row.id, row.collection_id, kind) for row in moved]
            )
        update_stacks(self._database, folders)


def _choose(connection: Connection, rows: Sequence[Any], number: int | None) -> None:
    connection.execute(
        update(schema.asset)
        .where(_asset.id.in_([row.id for row in rows]))
        .values(chosen_stack=number)
    )


def _require_stackable(rows: Sequence[Any]) -> set[Folder]:
    """The folder of assets that may form a stack; raises Conflict."""
    for row in rows:
        reason = (
            "is an upload without a date" if row.managed and row.taken_at is None
            else "could not be read" if row.failure is not None
            else "is in the trash" if row.deleted_at is not None
            else None
        )  # fmt: skip
        if reason is not None:
            raise Conflict(f"a{row.id} {reason}", remedy="leave it out")
    folders = folders_of(rows)
    if len(folders) > 1:
        raise Conflict(
            "the photographs lie in different folders, or were taken on different days",
            remedy="a stack is of files of one folder and collection, or of uploads of one day",
        )
    return folders


def _rate(connection: Connection, assets: Sequence[int], rating: int) -> set[int]:
    """Rate locked assets; returns those that had another rating. None and 0 are the same."""
    return set(
        connection.execute(
            update(schema.asset)
            .where(_asset.id.in_(assets), func.coalesce(_asset.rating, 0) != rating)
            .values(rating=rating, edited_rating=rating)
            .returning(_asset.id)
        ).scalars()
    )


def _purged(
    collection: int | None, *, trashed_only: bool = True, trashed_by: datetime | None = None
) -> list[ColumnElement[bool]]:
    """The condition on assets to purge."""
    where: list[ColumnElement[bool]] = []
    if trashed_only:
        where.append(_asset.deleted_at.is_not(None))
    if trashed_by is not None:
        where.append(_asset.deleted_at <= trashed_by)
    if collection is not None:
        where.append(_asset.collection_id == collection)
    return where


def changed_events(rows: Sequence[Any]) -> list[AssetEvent]:
    """The events to log; assets in the trash were logged as removed."""
    return [
        AssetEvent(row.id, row.collection_id, "changed") for row in rows if row.deleted_at is None
    ]


def require_assets(
    connection: Connection, assets: Collection[int], visible: Visible
) -> Sequence[Any]:
    """The rows of visible assets, locked; raises NotFound unless all exist."""
    statement = (
        select(
            *(_asset.id, _asset.content_id, _asset.collection_id),
            *(_asset.deleted_at, _asset.custom, _asset.edited_title, _asset.external_id),
            *(_asset.path, _asset.managed, _asset.taken_at, _asset.failure),
            *(_asset.stack_id, _asset.chosen_stack),
        )
        .join_from(schema.asset, schema.collection)
        .where(_asset.id.in_(assets))
        .order_by(_asset.id)
        .with_for_update(of=schema.asset)
    )
    if visible is not None:
        statement = statement.where(schema.collection.c.name.in_(visible))
    rows = connection.execute(statement).all()
    missing = set(assets) - {row.id for row in rows}
    if missing:
        names = ", ".join(f"a{number}" for number in sorted(missing)[:10])
        raise NotFound(
            f"no photograph has the id {names}", remedy="take ids from a list or a search"
        )
    return rows
