"""Stacks of assets, as `core/stacks.py` finds them, folder by folder.

A transaction that adds, changes or removes files of a folder marks it. Marked folders are looked
through afterwards, each in a transaction of its own that deletes the marks it saw. A process that
is killed in between leaves the rest to the next one. Marks are rows of their own, so that no two
transactions wait for one another's. Uploads lie in no folder: those of a collection that were taken
on one day take the place of one, and those without a date are in no stack. What people choose is a
number of each asset (`chosen_stack`), which stays with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql import visitors

from regard.core.facts import DatePrecision
from regard.core.stacks import FileKind, StackFile, find_stacks
from regard.photos.formats import PhotoFormat, VideoFormat
from regard.storage.database import schema
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.connection import Database, in_batches

_asset, _content, _mark = schema.asset.c, schema.content.c, schema.stale_folder.c
_MOST_AT_ONCE = 4000
# The `chosen_stack` of what people took out of its stack.
ALONE = 0
# A collection's id, and the path of a folder in it without a slash at the end; of uploads, the day
# that they were taken on, as in `2024-05-01`.
Folder = tuple[int, bytes]


def is_shown_folded(
    where: Sequence[ColumnElement[bool]], *, reads_content: bool
) -> ColumnElement[bool]:
    """Whether an asset is shown where a stack is shown once.

    It is in no stack, stands for its own, or what stands for it does not meet `where`. These
    conditions are on `asset` and, if they are said to be, on `content`.
    """
    aliases = {
        table: table.alias(f"cover_{table.name}") for table in (schema.asset, schema.content)
    }

    def of_cover(element: Any, **_: Any) -> Any:
        if isinstance(element, Column) and element.table in aliases:
            return aliases[element.table].c[element.key]
        return aliases.get(element)

    cover, content = aliases.values()
    statement = exists().select_from(cover)
    if reads_content:
        joined = cover.outerjoin(content, content.c.id == cover.c.content_id)
        statement = exists().select_from(joined)
    is_covered = statement.where(
        cover.c.id == _asset.stack_id,
        *(visitors.replacement_traverse(one, {}, of_cover) for one in where),
    )
    return or_(
        _asset.stack_id.is_(None),
        _asset.stack_id == _asset.id,
        ~is_covered.correlate(schema.asset),
    )


def folder_of(
    collection: int, path: bytes, managed: bool | None, taken_at: datetime | None
) -> Folder | None:
    """The folder of an asset; an upload without a date has none."""
    if not managed:
        return collection, path.rpartition(b"/")[0]
    return None if taken_at is None else (collection, taken_at.date().isoformat().encode())


def folders_of(assets: Iterable[Any]) -> set[Folder]:
    """The folders of rows with `collection_id`, `path`, `managed` and `taken_at`."""
    folders = {
        folder_of(row.collection_id, bytes(row.path), row.managed, row.taken_at) for row in assets
    }
    return {folder for folder in folders if folder is not None}


def mark_folders(connection: Connection, folders: Collection[Folder]) -> None:
    """Record that files of these folders came, changed or went."""
    if folders:
        connection.execute(
            insert(schema.stale_folder),
            [{"collection_id": collection, "path": path} for collection, path in sorted(folders)],
        )


def dissolve_stacks(connection: Connection, stacks: Collection[int | None]) -> list[AssetEvent]:
    """Leave the assets of stacks in none until their marked folder is looked through.

    Returns the events of those that are not in the trash.
    """
    numbers = {number for number in stacks if number is not None}
    if not numbers:
        return []
    rows = connection.execute(
        update(schema.asset)
        .where(_asset.stack_id.in_(numbers))
        .values(stack_id=None)
        .returning(_asset.id, _asset.collection_id, _asset.deleted_at)
    ).all()
    return [
        AssetEvent(row.id, row.collection_id, "changed") for row in rows if row.deleted_at is None
    ]


def new_stack_number(database: Database, connection: Connection) -> int:
    """A number for a stack that people make, which no other one has, until commit."""
    database.take_turns(connection)
    last = select(func.max(_asset.chosen_stack)).where(_asset.chosen_stack.is_not(None))
    return (connection.execute(last).scalar() or 0) + 1


def update_stacks(
    database: Database,
    folders: Iterable[Folder] | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Find the stacks of marked folders again: of these, or of all that are marked."""
    if folders is None:
        with database.reading() as connection:
            marked = select(_mark.collection_id, _mark.path).distinct()
            folders = [(row.collection_id, bytes(row.path)) for row in connection.execute(marked)]
    for folder in folders:
        if should_stop():
            return
        with database.writing() as connection:
            # What deletes assets takes others out of their stacks, in no order of their ids.
            database.take_turns(connection)
            _update_folder(connection, *folder)


def _update_folder(connection: Connection, collection: int, folder: bytes) -> None:
    here = (_mark.collection_id == collection, _mark.path == folder)
    # Seen before the assets: what a transaction that commits later writes stays marked.
    marks = connection.execute(select(_mark.id).where(*here)).scalars().all()
    if not marks:
        return
    rows = _read_files(connection, collection, folder)
    stacks = find_stacks(
        _stack_file(row) for row in rows if row.deleted_at is None and row.failure is None
    )
    before = {row.id: row.stack_id for row in rows if row.stack_id is not None}
    after = {member: stack.cover for stack in stacks for member in stack.members}
    moved = [
        {"number": number, "stack": after.get(number)}
        for number in sorted(before.keys() | after.keys())
        if before.get(number) != after.get(number)
    ]
    if moved:
        statement = update(schema.asset).where(_asset.id == bindparam("number"))
        connection.execute(statement.values(stack_id=bindparam("stack")), moved)
    for some in in_batches(marks):
        connection.execute(delete(schema.stale_folder).where(_mark.id.in_(some)))
    if moved:
        shown_before, shown_after = _with_sizes(before), _with_sizes(after)
        events = [
            AssetEvent(row.id, collection, "changed")
            for row in rows
            if row.deleted_at is None and shown_before.get(row.id) != shown_after.get(row.id)
        ]
        record_changes(connection, [], [], events)


def _with_sizes(stacks: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """What an asset tells of its stack: its cover and its size."""
    sizes = Counter(stacks.values())
    return {asset: (cover, sizes[cover]) for asset, cover in stacks.items()}


def _read_files(connection: Connection, collection: int, folder: bytes) -> list[Any]:
    """The assets of a folder's own files, locked until commit."""
    statement = (
        select(
            *(_asset.id, _asset.path, _asset.camera, _asset.taken_at, _asset.taken_precision),
            *(_asset.stack_id, _asset.chosen_stack, _asset.deleted_at, _asset.failure),
            *(_asset.collection_id, _asset.managed, _asset.file_name, _content.format),
            _asset.capture,
        )
        .join_from(schema.asset, schema.content, isouter=True)
        .order_by(_asset.id)
        .with_for_update(of=schema.asset)
    )
    # In the order of ids, as all writers lock them.
    return [
        row
        for some in in_batches(_ids_in(connection, collection, folder))
        for row in connection.execute(statement.where(_asset.id.in_(some)))
        # Some may have been moved since.
        if folder_of(row.collection_id, bytes(row.path), row.managed, row.taken_at)
        == (collection, folder)
    ]


def _ids_in(connection: Connection, collection: int, folder: bytes) -> list[int]:
    """The assets of a folder's own files; what lies in folders below it is skipped unread."""
    # No path begins with a digit.
    if folder[:1].isdigit():
        day = datetime.fromisoformat(folder.decode())
        uploads = select(_asset.id).where(
            *(_asset.collection_id == collection, _asset.managed.is_(True)),
            *(_asset.taken_at >= day, _asset.taken_at < day + timedelta(days=1)),
        )
        return list(connection.execute(uploads.order_by(_asset.id)).scalars())
    start, end = folder + b"/", folder + b"0"
    ids: list[int] = []
    limit = 1
    while True:
        rows = connection.execute(
            select(_asset.id, _asset.path)
            .where(_asset.collection_id == collection, _asset.path >= start, _asset.path < end)
            .order_by(_asset.path)
            .limit(limit)
        ).all()
        for row in rows:
            path = bytes(row.path)
            name, slash, _ = path[len(folder) + 1 :].partition(b"/")
            if slash:
                # All that is below it sorts before this.
                start, limit = folder + b"/" + name + b"0", 1
                break
            ids.append(row.id)
            start = path + b"\0"
        else:
            if len(rows) < limit:
                return ids
            limit = min(4 * limit, _MOST_AT_ONCE)


def _stack_file(row: Any) -> StackFile:
    kind = FileKind.VIDEO if row.format in set(VideoFormat) else FileKind.PICTURE
    if row.format == PhotoFormat.RAW:
        kind = FileKind.RAW
    name = bytes(row.path).rpartition(b"/")[2].decode("utf-8", "surrogateescape")
    if row.managed:
        # It is stored by its hash.
        name = row.file_name or ""
    is_timed = row.taken_precision == DatePrecision.TIME
    taken_at = row.taken_at if is_timed else None
    capture = json.loads(row.capture)
    return StackFile(
        *(row.id, name, kind, row.camera, taken_at, row.chosen_stack),
        live_photo_id=capture.get("live_photo_id"),
        document_id=capture.get("document_id"),
        derived_from_id=capture.get("derived_from_id"),
        raw_name=capture.get("raw_name"),
    )
