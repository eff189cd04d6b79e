"""Signatures of contents, and pairs of contents that are copies.

Both are derived data: deleted with their contents, and written without the writer lease. Writers
lock the contents' rows, so that nothing is written about a deleted content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    exists,
    func,
    select,
    tuple_,
)

from regard.core.assets import Asset
from regard.core.catalog import FileStamp
from regard.core.duplicates import CopyPair, DuplicateCatalog, Exposure, SignatureStore, Unsigned
from regard.core.errors import UsageError
from regard.core.facts import DatePrecision
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import SIGNATURE_VERSION, Channel, Float32Array, Signature, signature_shape
from regard.storage.assets.filters import passes
from regard.storage.assets.records import read_assets_of_contents
from regard.storage.assets.rows import write_signatures
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import Moment, moment
from regard.storage.database.connection import insert_into
from regard.storage.database.embeddings import read_embeddings
from regard.storage.database.stored_pipelines import StoredPipeline

_PAGE = 2000
_EXPOSURES = 500
_asset, _content, _signature = schema.asset.c, schema.content.c, schema.signature.c
_distinct = schema.distinct_pair.c
_comparison, _pair, _embedding = schema.comparison.c, schema.copy_pair.c, schema.embedding.c


class SqlDuplicates(SignatureStore, DuplicateCatalog):
    """Signatures and copies over one pipeline."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline

    def unsigned(self, after: int, limit: int) -> list[Unsigned]:
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_content.id, _content.sha256)
                .where(_content.id > after, *_lacks_signature())
                .order_by(_content.id)
                .limit(limit)
            ).all()
            files: dict[int, list[FileStamp]] = {}
            for row in connection.execute(
                select(_asset.content_id, _asset.path, _asset.size, _asset.mtime_ns)
                .where(_asset.content_id.in_([row.id for row in rows]), _asset.deleted_at.is_(None))
                .order_by(_asset.id)
            ):
                stamp = FileStamp(bytes(row.path), row.size, row.mtime_ns)
                files.setdefault(row.content_id, []).append(stamp)
        return [Unsigned(row.id, row.sha256, tuple(files[row.id])) for row in rows]

    def count_unsigned(self, asset_filter: AssetFilter = EVERYTHING) -> int:
        """The number of unsigned contents with an asset that passes the filter."""
        has_chosen = exists().where(_asset.content_id == _content.id, passes(asset_filter))
        statement = select(func.count()).select_from(schema.content)
        statement = statement.where(*_lacks_signature(), has_chosen)
        with self._database.reading() as connection:
            return int(connection.execute(statement).scalar_one())

    def has_untried(self) -> bool:
        """Whether there are unsigned contents that were not tried yet."""
        statement = select(select(_content.id).where(*_lacks_signature(), ~_has_row()).exists())
        with self._database.reading() as connection:
            return bool(connection.execute(statement).scalar_one())

    def save_signatures(self, signatures: Mapping[int, Signature | None]) -> None:
        with self._database.writing() as connection:
            held = hold_contents(connection, signatures)
            write_signatures(connection, {content: signatures[content] for content in held})

    def signatures(self, contents: Collection[int]) -> dict[int, Signature]:
        found = {}
        with self._database.reading() as connection:
            for some in _pages(contents):
                for row in connection.execute(
                    select(_content.id, _content.width, _content.height, _signature.grey)
                    .join_from(schema.content, schema.signature)
                    .where(_content.id.in_(some), _signature.version == SIGNATURE_VERSION)
                ):
                    shape = signature_shape(row.width, row.height)
                    grey = np.frombuffer(bytes(row.grey), np.uint8)
                    # A damaged signature counts as missing.
                    if grey.size == shape[0] * shape[1]:
                        found[row.id] = Signature(grey.reshape(shape), row.width, row.height)
        return found

    def moment(self) -> Moment:
        """Equal while the inputs of lists, except copy pairs, have not changed."""
        with self._database.reading() as connection:
            return moment(connection)

    def uncompared(self, channel: Channel, after: int, limit: int) -> list[int]:
        statement = select(_content.id).where(_content.id > after, *self._waits(channel))
        with self._database.reading() as connection:
            return list(connection.execute(statement.order_by(_content.id).limit(limit)).scalars())

    def count_uncompared(self, channel: Channel) -> int:
        statement = select(func.count()).select_from(schema.content)
        with self._database.reading() as connection:
            return int(connection.execute(statement.where(*self._waits(channel))).scalar_one())

    def image_vectors(self, channel: Channel, contents: Collection[int]) -> dict[int, Float32Array]:
        stored = self._pipeline.channels[channel]
        with self._database.reading() as connection:
            found = read_embeddings(connection, stored, contents)
        vectors = found.vectors.astype(np.float32)
        return dict(zip(found.contents.tolist(), vectors, strict=True))

    def has_videos(self) -> bool:
        statement = select(exists().where(_content.duration_ms.is_not(None)))
        with self._database.reading() as connection:
            return bool(connection.execute(statement).scalar_one())

    def save_comparisons(self, contents: Sequence[int], pairs: Sequence[CopyPair]) -> None:
        named = {*contents, *(pair.first for pair in pairs), *(pair.second for pair in pairs)}
        with self._database.writing() as connection:
            there = set(hold_contents(connection, named))
            found = [
                {"first_id": pair.first, "second_id": pair.second, "similarity": pair.similarity}
                for pair in sorted(pairs)
                if pair.first in there and pair.second in there
            ]
            done = [
                {
                    "content_id": content,
                    "pipeline_id": self._pipeline.id,
                    "version": SIGNATURE_VERSION,
                }
                for content in sorted(there & set(contents))
            ]
            for table, rows in ((schema.copy_pair, found), (schema.comparison, done)):
                if rows:
                    # Another process may have compared the same contents.
                    connection.execute(
                        insert_into(connection, table).on_conflict_do_nothing(), rows
                    )

    def copy_pairs(self) -> Iterator[CopyPair]:
        after = (0, 0)
        key = tuple_(_pair.first_id, _pair.second_id)
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    select(_pair.first_id, _pair.second_id, _pair.similarity)
                    .where(key > tuple_(*after), ~_is_distinct())
                    .order_by(_pair.first_id, _pair.second_id)
                    .limit(_PAGE)
                ).all()
            for row in rows:
                yield CopyPair(*row)
            if len(rows) < _PAGE:
                return
            after = (rows[-1].first_id, rows[-1].second_id)

    def pairs_among(self, contents: Collection[int]) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        wanted = set(contents)
        with self._database.reading() as connection:
            for some in _pages(wanted):
                rows = connection.execute(
                    select(_pair.first_id, _pair.second_id).where(
                        _pair.first_id.in_(some), ~_is_distinct()
                    )
                )
                found.update((row.first_id, row.second_id) for row in rows)
        return {pair for pair in found if pair[1] in wanted}

    def distinct_pairs(self) -> set[tuple[int, int]]:
        with self._database.reading() as connection:
            rows = connection.execute(select(_distinct.first_id, _distinct.second_id))
            return {(row.first_id, row.second_id) for row in rows}

    def repeated_contents(self, asset_filter: AssetFilter, first: int) -> Iterator[int]:
        while True:
            with self._database.reading() as connection:
                found = list(
                    connection.execute(
                        select(_asset.content_id)
                        .join_from(schema.asset, schema.content)
                        .where(_asset.content_id >= first, passes(asset_filter))
                        .group_by(_asset.content_id)
                        .having(func.count() > 1)
                        .order_by(_asset.content_id)
                        .limit(_PAGE)
                    ).scalars()
                )
            yield from found
            if len(found) < _PAGE:
                return
            first = found[-1] + 1

    def exposures(self, asset_filter: AssetFilter, first: int) -> Iterator[Exposure]:
        # In the order of an index.
        key = tuple_(_asset.camera, _asset.taken_at, _asset.id)
        statement = (
            select(_asset.id, _asset.content_id, _asset.camera, _asset.taken_at)
            .join_from(schema.asset, schema.content)
            .where(
                passes(asset_filter),
                _content.duration_ms.is_(None),
                _asset.taken_precision == DatePrecision.TIME.value,
                _asset.camera.is_not(None),
            )
            .order_by(_asset.camera, _asset.taken_at, _asset.id)
            .limit(_EXPOSURES)
        )
        with self._database.reading() as connection:
            page = statement if not first else statement.where(key >= _place_of(connection, first))
            rows = connection.execute(page).all()
        while True:
            for row in rows:
                yield Exposure(row.id, row.content_id, row.camera, row.taken_at)
            if len(rows) < _EXPOSURES:
                return
            last = rows[-1]
            with self._database.reading() as connection:
                after = tuple_(last.camera, last.taken_at, last.id)
                rows = connection.execute(statement.where(key > after)).all()

    def records(
        self, contents: Collection[int], asset_filter: AssetFilter
    ) -> Mapping[int, Sequence[Asset]]:
        with self._database.reading() as connection:
            return read_assets_of_contents(connection, self._pipeline.id, contents, asset_filter)

    def _waits(self, channel: Channel) -> tuple[ColumnElement[bool], ...]:
        stored = self._pipeline.channels[channel]
        has_vector = exists().where(
            _embedding.content_id == _content.id, _embedding.channel_id == stored.id
        )
        compared = exists().where(
            _comparison.content_id == _content.id,
            _comparison.pipeline_id == self._pipeline.id,
            _comparison.version == SIGNATURE_VERSION,
        )
        # First what most contents fail.
        return ~compared, _is_live(), _is_signed(), has_vector


def _is_distinct() -> ColumnElement[bool]:
    return exists().where(
        _distinct.first_id == _pair.first_id, _distinct.second_id == _pair.second_id
    )


def _is_live() -> ColumnElement[bool]:
    return exists().where(_asset.content_id == _content.id, _asset.deleted_at.is_(None))


def _is_signed() -> ColumnElement[bool]:
    return exists().where(
        _signature.content_id == _content.id,
        _signature.version == SIGNATURE_VERSION,
        # An empty one records that no file could be used.
        func.length(_signature.grey) > 0,
    )


def _has_row() -> ColumnElement[bool]:
    return exists().where(
        _signature.content_id == _content.id, _signature.version == SIGNATURE_VERSION
    )


def _lacks_signature() -> tuple[ColumnElement[bool], ...]:
    """Whether a content should have a signature and has none; analysis adds it to new ones."""
    is_analysed = exists().where(schema.analysis.c.content_id == _content.id)
    is_photograph = _content.duration_ms.is_(None)
    return ~_is_signed(), is_analysed, is_photograph, _is_live()


def hold_contents(connection: Connection, contents: Collection[int]) -> list[int]:
    """The contents that exist, by id, locked until commit."""
    found: list[int] = []
    for some in _pages(contents):
        found += connection.execute(
            select(_content.id)
            .where(_content.id.in_(some))
            .order_by(_content.id)
            .with_for_update(read=True, key_share=True)
        ).scalars()
    return found


def _pages(contents: Collection[int]) -> Iterator[list[int]]:
    """The ids in order, in lists that fit into one statement."""
    ids = sorted(contents)
    for start in range(0, len(ids), _PAGE):
        yield ids[start : start + _PAGE]


def _place_of(connection: Connection, asset: int) -> Any:
    row = connection.execute(
        select(_asset.camera, _asset.taken_at).where(_asset.id == asset)
    ).one_or_none()
    if row is None or row.camera is None or row.taken_at is None:
        raise UsageError("the list has changed", remedy="leave the cursor out")
    return tuple_(row.camera, row.taken_at, asset)
