"""What outlives rows that were deleted: files that are still to go, and the names of former collections.

Both are notes in `catalog_info`, written in the transaction that deletes the rows. A file of the managed
store goes after that commit, so that no row ever points at nothing; were the process killed in between,
nothing else would know of the file. What the store holds and no row names is never deleted for that alone:
the catalog may be an older one, out of a backup.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, String, cast, delete, insert, literal, select

from regard.storage.database import schema

_info = schema.catalog_info.c
_FILE = "forgotten_file "
_COLLECTION = "former_collection "
# A key takes 64 characters; so many digits of a SHA-256 no other file shares.
_DIGITS = 48
_AT_ONCE = 500


def note_files(connection: Connection, digests: Iterable[str]) -> None:
    """Note files of the managed store, by their SHA-256, that no asset needs any more."""
    values = {_file_key(sha256): sha256 for sha256 in digests}
    there = set(connection.execute(select(_info.key).where(_info.key.in_(list(values)))).scalars())
    rows = [{"key": key, "value": value} for key, value in values.items() if key not in there]
    if rows:
        connection.execute(insert(schema.catalog_info), rows)


def noted_files(connection: Connection) -> list[str]:
    """The SHA-256 of all files that were noted and not dropped."""
    return list(
        connection.execute(
            select(_info.value).where(_info.key.startswith(_FILE, autoescape=True))
        ).scalars()
    )


def drop_files(connection: Connection, digests: Iterable[str]) -> None:
    """Forget notes: the files are gone, or needed again."""
    keys = [_file_key(sha256) for sha256 in digests]
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        connection.execute(delete(schema.catalog_info).where(_info.key.in_(some)))


def note_collection(connection: Connection, collection: int, name: str) -> None:
    """Keep the name of a collection that is deleted, for whoever is still to be told of its assets."""
    connection.execute(
        insert(schema.catalog_info).values(key=f"{_COLLECTION}{collection}", value=name)
    )


def notes_collection(collection: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a row of `catalog_info` keeps, as its value, the name of the collection with this id."""
    return _info.key == literal(_COLLECTION) + cast(collection, String)


def _file_key(sha256: str) -> str:
    return _FILE + sha256[:_DIGITS]
