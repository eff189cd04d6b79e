"""Writes the rows around assets: collections, contents, facts, tags, signatures, notes.

All functions run inside the caller's transaction. `catalog_info` keeps notes about deleted rows,
written in the transaction that deletes them: managed files still to be deleted, so that none is
forgotten if the process is killed in between, and names of former collections. A managed file
without row or note is never deleted, because the catalog may be an old backup.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    Table,
    and_,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from regard.core.catalog import ContentHeader, Exclusion
from regard.core.errors import NameTaken
from regard.core.facts import Capture, PhotoFacts
from regard.core.records import SIGNATURE_VERSION, Signature
from regard.core.words import composed, folded
from regard.photos.files import composed_path, uri_of_path
from regard.photos.geonames import find_place
from regard.storage.assets.filters import stored_field
from regard.storage.database import schema
from regard.storage.database.clock import utc_now
from regard.storage.database.connection import insert_into, insert_many, storable_text
from regard.storage.database.embeddings import EmbeddingBlock

_CAPTURE = tuple(field.name for field in dataclasses.fields(Capture))
_LARGEST = {"rating": 2**15 - 1, "utc_offset_minutes": 2**31 - 1, "iso": 2**63 - 1}
_EPOCH = datetime.datetime(1970, 1, 1)


def dated_at(facts: PhotoFacts, mtime_ns: int) -> datetime.datetime:
    """When a photograph was taken, else when its file was changed."""
    if facts.taken_at is not None:
        return facts.taken_at
    return _EPOCH + datetime.timedelta(microseconds=mtime_ns // 1000)


def path_columns(path: bytes) -> dict[str, object]:
    """A path as the columns of `asset`."""
    comparable = composed_path(path)
    return {
        "path": path,
        "composed_path": None if comparable == path else comparable,
        "uri": uri_of_path(path),
    }


def find_collection(connection: Connection, name: str) -> int | None:
    """The id of a collection, or None."""
    table = schema.collection
    return connection.execute(select(table.c.id).where(table.c.name == name)).scalar_one_or_none()


def has_path(paths: Collection[bytes]) -> ColumnElement[bool]:
    """Whether an asset of any collection has one of the paths.

    The index over paths begins with the collection, so without it all assets would be read.
    """
    asset = schema.asset.c
    return and_(asset.collection_id.in_(select(schema.collection.c.id)), asset.path.in_(paths))


def ensure_collection(connection: Connection, name: str) -> int:
    """The id of a collection, created if it is new."""
    while (found := find_collection(connection, name)) is None:
        _insert_if_new(connection, schema.collection, name=name, created_at=utc_now())
    return int(found)


def ensure_contents(connection: Connection, contents: Sequence[ContentHeader]) -> list[int]:
    """The ids of contents, inserted where they are new; their rows stay locked until commit."""
    table = schema.content
    held = (
        select(table.c.sha256, table.c.id)
        .where(table.c.sha256.in_([content.sha256 for content in contents]))
        .order_by(table.c.id)
        .with_for_update(read=True, key_share=True)
    )
    while True:
        ids = {row.sha256: int(row.id) for row in connection.execute(held)}
        missing = [content for content in contents if content.sha256 not in ids]
        if not missing:
            return [ids[content.sha256] for content in contents]
        # Waits for other transactions that insert the same.
        connection.execute(
            insert_into(connection, table).on_conflict_do_nothing(),
            [
                {
                    "sha256": content.sha256,
                    "format": content.format,
                    "width": content.width,
                    "height": content.height,
                    "duration_ms": content.duration_ms,
                    # Until its analysis, a video is represented by its first frame.
                    "poster_ms": None if content.duration_ms is None else 0,
                }
                for content in missing
            ],
        )


def _insert_if_new(connection: Connection, table: Table, **values: object) -> None:
    """Insert a row unless another transaction does; waits for that one to end."""
    connection.execute(insert_into(connection, table).values(**values).on_conflict_do_nothing())


def drop_orphans(connection: Connection, left: set[int | None]) -> list[EmbeddingBlock]:
    """Delete contents without assets; return their embeddings."""
    contents = {content_id for content_id in left if content_id is not None}
    if not contents:
        return []
    # A transaction that adds an asset to one of them holds its row: wait for it.
    content = schema.content.c
    connection.execute(
        select(content.id).where(content.id.in_(contents)).order_by(content.id).with_for_update()
    ).all()
    # Not by reading the assets, which may be thousands of one content.
    is_used = exists().where(schema.asset.c.content_id == content.id)
    orphans = set(
        connection.execute(select(content.id).where(content.id.in_(contents), ~is_used)).scalars()
    )
    if not orphans:
        return []
    embedding = schema.embedding.c
    removed = connection.execute(
        select(embedding.channel_id, embedding.id, embedding.vector_count).where(
            embedding.content_id.in_(orphans)
        )
    ).all()
    connection.execute(delete(schema.content).where(schema.content.c.id.in_(orphans)))
    return [EmbeddingBlock(*row) for row in removed]


def add_keywords(connection: Connection, keywords: Mapping[int, Sequence[str]]) -> None:
    """Write the keywords of new assets, which are their first tags too."""
    rows: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    for asset_id, words in keywords.items():
        rows += (
            {"asset_id": asset_id, "position": position, "keyword": word}
            for position, word in enumerate(words)
        )
        names = dict.fromkeys(map(composed, sorted(set(words))))
        tags += ({"asset_id": asset_id, "tag": name} for name in names)
    insert_many(connection, schema.asset_keyword, rows)
    insert_many(connection, schema.asset_tag, tags)


def write_keywords(connection: Connection, asset_id: int, keywords: Sequence[str]) -> None:
    """Replace the file's keywords and update tags; tags that people added or removed stay so."""
    keyword, tag = schema.asset_keyword.c, schema.asset_tag.c
    former = set(
        connection.execute(select(keyword.keyword).where(keyword.asset_id == asset_id)).scalars()
    )
    gone, new = former - set(keywords), set(keywords) - former
    if gone:
        connection.execute(
            delete(schema.asset_tag).where(tag.asset_id == asset_id, tag.tag.in_(gone))
        )
    if former:
        connection.execute(delete(schema.asset_keyword).where(keyword.asset_id == asset_id))
    if keywords:
        connection.execute(
            insert(schema.asset_keyword),
            [
                {"asset_id": asset_id, "position": position, "keyword": word}
                for position, word in enumerate(keywords)
            ],
        )
    add_tags(connection, [asset_id], sorted(new))


def add_tags(connection: Connection, assets: Sequence[int], tags: Sequence[str]) -> set[int]:
    """Add missing tags to assets; return the assets that got any."""
    if not assets or not tags:
        return set()
    tag = schema.asset_tag.c
    names = dict.fromkeys(map(composed, tags))
    there = {
        (row.asset_id, row.tag)
        for row in connection.execute(
            select(tag.asset_id, tag.tag).where(tag.asset_id.in_(assets), tag.tag.in_(list(names)))
        )
    }
    rows: list[dict[str, Any]] = [
        {"asset_id": asset, "tag": name}
        for asset in assets
        for name in names
        if (asset, name) not in there
    ]
    if rows:
        connection.execute(insert(schema.asset_tag), rows)
    return {row["asset_id"] for row in rows}


def fact_columns(facts: PhotoFacts) -> dict[str, object]:
    """Facts as the columns of `asset`."""
    capture = {name: getattr(facts.capture, name) for name in _CAPTURE}
    return {
        "taken_at": facts.taken_at,
        "taken_precision": facts.taken_precision,
        "utc_offset_minutes": facts.utc_offset_minutes,
        "camera_make": facts.camera_make,
        "camera_model": facts.camera_model,
        "lens": facts.lens,
        "latitude": facts.latitude,
        "longitude": facts.longitude,
        **place_columns(facts.latitude, facts.longitude),
        "title": facts.title,
        "description": facts.description,
        "rating": facts.rating,
        "capture": json.dumps(
            {name: value for name, value in capture.items() if value is not None}
        ),
    }


def rating_beside_edited(rating: int | None) -> ColumnElement[int | None]:
    """The rating of a file that is read again, unless one was given to it."""
    return func.coalesce(schema.asset.c.edited_rating, rating)


def place_columns(latitude: float | None, longitude: float | None) -> dict[str, object]:
    """Where a position lies as columns of `asset`."""
    place = None
    if latitude is not None and longitude is not None:
        place = find_place(latitude, longitude)
    city = None if place is None else place.city
    return {
        "country": None if place is None else place.country,
        "city": city,
        "city_folded": None if city is None else folded(city),
    }


def storable_facts(facts: PhotoFacts) -> PhotoFacts:
    """Facts without numbers that are not finite or too large, and with storable texts."""
    values = _storable_fields(facts)
    if (values["latitude"], values["longitude"]) != (facts.latitude, facts.longitude):
        # Half a place is none.
        values["latitude"] = values["longitude"] = None
    # Different keywords may have become equal.
    values["keywords"] = tuple(dict.fromkeys(map(storable_text, facts.keywords)))
    values["capture"] = Capture(**_storable_fields(facts.capture))
    return PhotoFacts(**values)


def _storable_fields(record: PhotoFacts | Capture) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = storable_text(value)
        # Written so that NaN fails too.
        elif isinstance(value, int | float) and not abs(value) <= _LARGEST.get(
            name, sys.float_info.max
        ):
            values[name] = None
    return values


def write_signatures(connection: Connection, signatures: Mapping[int, Signature | None]) -> None:
    """Write signatures of contents, replacing older ones; None: it could not be computed."""
    if not signatures:
        return
    statement = insert_into(connection, schema.signature)
    values = {name: statement.excluded[name] for name in ("version", "grey")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["content_id"], set_=values),
        [
            {
                "content_id": content,
                "version": SIGNATURE_VERSION,
                "grey": b"" if signature is None else signature.grey.tobytes(),
            }
            for content, signature in signatures.items()
        ],
    )


def exclude(connection: Connection, collection: int, exclusions: Sequence[Exclusion]) -> None:
    """Remember what people said about files to index, in this order."""
    rows = [
        {
            "collection_id": collection,
            "path": one.path,
            "pattern": one.pattern,
            "is_left_out": one.is_left_out,
        }
        for one in exclusions
    ]
    if rows:
        connection.execute(insert(schema.exclusion), rows)


def forget_comparisons(connection: Connection, contents: Collection[int]) -> None:
    """Mark contents to be compared again."""
    if contents:
        for table in (schema.comparison, schema.object_comparison):
            connection.execute(delete(table).where(table.c.content_id.in_(contents)))


_info = schema.catalog_info.c
_FILE = "forgotten_file "
_ANNOUNCED = "announced_file "
_COLLECTION = "former_collection "
# A key has at most 64 characters; this many digits of a SHA-256 are unique.
_DIGITS = 48
_AT_ONCE = 500


def announce_file(connection: Connection, name: str) -> None:
    """Record that a managed file is about to be stored, until its asset is written."""
    connection.execute(
        insert(schema.catalog_info).values(key=_file_key(name, _ANNOUNCED), value=name)
    )


def withdraw_file(connection: Connection, name: str) -> bool:
    """Delete the record of an announced file; return whether there was one."""
    here = _info.key == _file_key(name, _ANNOUNCED)
    return connection.execute(delete(schema.catalog_info).where(here)).rowcount > 0


def announced_files(connection: Connection) -> list[str]:
    """The names of all announced files."""
    here = _info.key.startswith(_ANNOUNCED, autoescape=True)
    return list(connection.execute(select(_info.value).where(here)).scalars())


def note_files(connection: Connection, names: Iterable[str]) -> None:
    """Note the names of managed files that no asset needs any more."""
    values = {_file_key(name): name for name in names}
    there = set(connection.execute(select(_info.key).where(_info.key.in_(list(values)))).scalars())
    rows = [{"key": key, "value": value} for key, value in values.items() if key not in there]
    if rows:
        connection.execute(insert(schema.catalog_info), rows)


def noted_files(connection: Connection) -> list[str]:
    """The names of all noted files."""
    return list(
        connection.execute(
            select(_info.value).where(_info.key.startswith(_FILE, autoescape=True))
        ).scalars()
    )


def drop_files(connection: Connection, names: Iterable[str]) -> None:
    """Delete notes of files that are deleted or needed again."""
    keys = [_file_key(name) for name in names]
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        connection.execute(delete(schema.catalog_info).where(_info.key.in_(some)))


def note_collection(connection: Connection, collection: int, name: str) -> None:
    """Keep the name of a deleted collection for readers of the asset log."""
    connection.execute(
        insert(schema.catalog_info).values(key=f"{_COLLECTION}{collection}", value=name)
    )


def notes_collection(collection: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a row of `catalog_info` holds the name of this former collection."""
    return _info.key == literal(_COLLECTION) + cast(collection, String)


def _file_key(name: str, prefix: str = _FILE) -> str:
    # In a folder, a name is a SHA-256; in a bucket, it continues with a number.
    digest = name if "-" not in name else hashlib.sha256(name.encode()).hexdigest()
    return prefix + digest[:_DIGITS]


def require_free(
    connection: Connection, collection_id: int, external_id: str | None, asset: int | None
) -> None:
    """Raise NameTaken if another asset of the collection has the external id."""
    if external_id is None:
        return
    holder = connection.execute(
        select(schema.asset.c.id).where(
            schema.asset.c.collection_id == collection_id, schema.asset.c.external_id == external_id
        )
    ).scalar_one_or_none()
    if holder is not None and holder != asset:
        raise NameTaken(
            f"the external id {external_id!r} belongs to another photograph of the collection",
            remedy="choose another, or change that photograph's first",
        )


def write_custom(connection: Connection, asset: int, custom: Mapping[str, Any]) -> None:
    """Replace an asset's custom fields, without those that are None."""
    kept = {name: value for name, value in custom.items() if value is not None}
    connection.execute(
        update(schema.asset).where(schema.asset.c.id == asset).values(custom=custom_text(custom))
    )
    connection.execute(delete(schema.asset_field).where(schema.asset_field.c.asset_id == asset))
    single = [
        {"asset_id": asset, "name": name, "value": stored_field(value)}
        for name, value in kept.items()
        if isinstance(value, str | int | float | bool)
    ]
    if single:
        connection.execute(insert(schema.asset_field), single)


def custom_text(custom: Mapping[str, Any]) -> str | None:
    """The stored form of custom fields."""
    kept = {name: value for name, value in custom.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False) if kept else None
