"""Text that was read in photographs: readings and their lines.

A content has one reading, by one reader, whatever the pipelines: it is derived data, written without
the writer lease and replaced when another reader has read the content. Writers lock the contents'
rows, so that nothing is written about a deleted content.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, exists, func, select, text

from regard.core.assets import StoredRegion
from regard.core.catalog import FileStamp
from regard.core.geometry import Corners, Mask, box_of_corners
from regard.core.texts import Reading, TextStore, UnreadContent
from regard.core.words import composed, folded, split_words
from regard.photos.masks import mask_from_corners
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.connection import (
    in_batches,
    insert_into,
    insert_many,
    next_ids,
    storable_text,
)
from regard.storage.database.stored_pipelines import StoredPipeline

# Longer runs of letters are not words.
LONGEST_WORD = 64
_asset, _content, _analysis = schema.asset.c, schema.content.c, schema.analysis.c
_reader, _reading, _line = schema.reader.c, schema.reading.c, schema.text_line.c


class SqlTexts(TextStore):
    """What one reader reads in the contents that a pipeline has analysed."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline, spec: str) -> None:
        """`spec` is the reader's, as JSON; see `ReaderSpec`."""
        self._database = catalog.database
        self._pipeline = pipeline.id
        self._spec = spec

    def count_unread(self) -> int:
        with self._database.reading() as connection:
            statement = select(func.count()).select_from(schema.content)
            return int(connection.execute(statement.where(*self._waits())).scalar_one())

    def unread(self, after: int, limit: int) -> list[UnreadContent]:
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_content.id, _content.sha256, _content.width, _content.height)
                .where(_content.id > after, *self._waits())
                .order_by(_content.id)
                .limit(limit)
            ).all()
            files: dict[int, list[FileStamp]] = {row.id: [] for row in rows}
            for row in connection.execute(
                select(_asset.content_id, _asset.path, _asset.size, _asset.mtime_ns, _asset.etag)
                .where(_asset.content_id.in_(files), _asset.deleted_at.is_(None))
                .order_by(_asset.id)
            ):
                stamp = FileStamp(bytes(row.path), row.size, row.mtime_ns, etag=row.etag)
                files[row.content_id].append(stamp)
        return [UnreadContent(*row, tuple(files[row.id])) for row in rows]

    def save(self, readings: Mapping[int, Reading]) -> None:
        with self._database.writing() as connection:
            reader = ensure_reader(connection, self._spec)
            held = connection.execute(
                select(_content.id)
                .where(_content.id.in_(readings))
                .order_by(_content.id)
                .with_for_update(read=True, key_share=True)
            ).scalars()
            write_readings(connection, reader, {number: readings[number] for number in held})
            record_changes(connection, [], [], _events(connection, readings))

    def failures(self) -> list[tuple[str, str]]:
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_asset.uri, _reading.failure)
                .join_from(schema.reading, schema.asset, _asset.content_id == _reading.content_id)
                .where(_reading.failure.is_not(None), _asset.deleted_at.is_(None))
                .order_by(_asset.path)
            ).all()
        return [(uri, failure) for uri, failure in rows]

    def _waits(self) -> tuple[Any, ...]:
        """Whether a content is a photograph, analysed, in use, and not read by this reader."""
        number = select(_reader.id).where(_reader.spec == self._spec).scalar_subquery()
        return (
            _content.duration_ms.is_(None),
            exists().where(
                _analysis.content_id == _content.id, _analysis.pipeline_id == self._pipeline
            ),
            exists().where(_asset.content_id == _content.id, _asset.deleted_at.is_(None)),
            ~exists().where(_reading.content_id == _content.id, _reading.reader_id == number),
        )


def ensure_reader(connection: Connection, spec: str) -> int:
    """The id of a reader, created if it is new."""
    statement = insert_into(connection, schema.reader).values(spec=spec)
    connection.execute(statement.on_conflict_do_nothing())
    return int(connection.execute(select(_reader.id).where(_reader.spec == spec)).scalar_one())


def write_readings(connection: Connection, reader: int, readings: Mapping[int, Reading]) -> None:
    """Replace the readings of contents, whose rows are locked."""
    if not readings:
        return
    connection.execute(delete(schema.text_line).where(_line.content_id.in_(readings)))
    statement = insert_into(connection, schema.reading)
    values = {name: statement.excluded[name] for name in ("reader_id", "line_count", "failure")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["content_id"], set_=values),
        [
            {
                "content_id": content,
                "reader_id": reader,
                "line_count": 0 if isinstance(reading, str) else len(reading),
                "failure": storable_text(reading) if isinstance(reading, str) else None,
            }
            for content, reading in readings.items()
        ],
    )
    lines = [
        (content, ordinal, line)
        for content, reading in readings.items()
        if not isinstance(reading, str)
        for ordinal, line in enumerate(reading)
    ]
    rows = [
        {
            "id": number,
            "content_id": content,
            "ordinal": ordinal,
            "corners": corners_to_bytes(line.corners),
            "confidence": line.confidence,
            "text": storable_text(composed(line.text)),
        }
        for number, (content, ordinal, line) in zip(
            region_ids(connection, len(lines)), lines, strict=True
        )
    ]
    insert_lines(connection, rows)


def insert_lines(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `text_line` and their words."""
    insert_many(connection, schema.text_line, rows)
    words = [
        {"word": word, "line_id": row["id"]} for row in rows for word in words_of_line(row["text"])
    ]
    insert_many(connection, schema.read_word, words)


def words_of_line(line: str) -> list[str]:
    """The distinct words of a line as they are stored."""
    return sorted({folded(word)[:LONGEST_WORD] for word in split_words(line)})


def region_ids(connection: Connection, count: int) -> Iterable[int]:
    """Unused ids of `region`, with which those of lines share a sequence."""
    if connection.dialect.name != "sqlite" or not count:
        return next_ids(connection, schema.region, count)
    name = {"name": schema.region.name, "count": count}
    taken = text("UPDATE sqlite_sequence SET seq = seq + :count WHERE name = :name RETURNING seq")
    last = connection.execute(taken, name).scalar_one_or_none()
    if last is None:
        connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :count)"), name)
        last = count
    return range(last - count + 1, last + 1)


def _events(connection: Connection, contents: Iterable[int]) -> list[AssetEvent]:
    """The assets of contents have become searchable in more ways."""
    rows = connection.execute(
        select(_asset.id, _asset.collection_id)
        .where(_asset.content_id.in_(contents), _asset.deleted_at.is_(None))
        .order_by(_asset.id)
    )
    return [AssetEvent(row.id, row.collection_id, "changed") for row in rows]


def corners_to_bytes(corners: Corners) -> bytes:
    """Corners as they are stored: little-endian int32, (4, 2)."""
    return np.asarray(corners, "<i4").tobytes()


def corners_from_bytes(stored: bytes) -> Corners:
    """The corners of a stored line; raises ValueError for anything else."""
    first, second, third, fourth = np.frombuffer(stored, "<i4").reshape(4, 2).tolist()
    return tuple(first), tuple(second), tuple(third), tuple(fourth)


_LINE_COLUMNS = (_line.id, _line.content_id, _line.corners, _line.confidence, _line.text)


def read_lines(connection: Connection, content: int | None) -> tuple[StoredRegion, ...]:
    """The lines of a content as regions, in the order of the reader."""
    statement = select(*_LINE_COLUMNS).where(_line.content_id == content).order_by(_line.ordinal)
    return tuple(_to_region(*row) for row in connection.execute(statement))


def read_lines_by_id(connection: Connection, lines: Iterable[int]) -> dict[int, StoredRegion]:
    """Lines as regions, by id."""
    found: dict[int, StoredRegion] = {}
    for some in in_batches(lines):
        statement = select(*_LINE_COLUMNS).where(_line.id.in_(some))
        found |= {row.id: _to_region(*row) for row in connection.execute(statement)}
    return found


def mask_of_line(connection: Connection, line: int) -> Mask | None:
    """The mask of a line, in the size of its content."""
    row = connection.execute(
        select(_line.corners, _content.width, _content.height)
        .join_from(schema.text_line, schema.content)
        .where(_line.id == line)
    ).one_or_none()
    if row is None:
        return None
    return mask_from_corners(row.height, row.width, corners_from_bytes(bytes(row.corners)))


def _to_region(
    number: int, content: int, corners: bytes, confidence: float, line: str
) -> StoredRegion:
    places = corners_from_bytes(bytes(corners))
    return StoredRegion(
        number, content, box_of_corners(places), _area(places), confidence, None, line, places
    )


def _area(corners: Corners) -> int:
    """The area of a quadrilateral in pixels, at least one (the shoelace formula)."""
    doubled = sum(
        x * below - right * y
        for (x, y), (right, below) in itertools.pairwise([*corners, corners[0]])
    )
    return max(abs(doubled) // 2, 1)
