"""The things of contents, their likely pairs, and groups of photographs of one object.

All are derived data: deleted with their contents, and written without the writer lease. Groups are
written beside those that are read, in small transactions, and then replace them at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from regard.core.filters import AssetFilter
from regard.core.same_objects import (
    PAIR,
    THING,
    ContentThings,
    ObjectCatalog,
    SameObject,
    Sighting,
)
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.connection import in_batches, insert_into
from regard.storage.retrieval.duplicates import hold_contents
from regard.storage.retrieval.regions import SqlRegions

_PAGE = 2000
_GROUPS_AT_ONCE = 500
_SIGHTING = np.dtype(
    [("content", "<i8"), ("region", "<i8"), ("picture", "<i8"), ("certainty", "<f8")]
)
_asset, _analysis = schema.asset.c, schema.analysis.c
_comparison, _state, _group = (
    schema.object_comparison.c,
    schema.object_state.c,
    schema.object_group.c,
)


class SqlObjects(SqlRegions, ObjectCatalog):
    """Things, pairs and groups over one pipeline."""

    def count_without_things(self) -> int:
        new = select(func.count()).select_from(schema.analysis).where(*self._lacks_things())
        with self._database.reading() as connection:
            return int(connection.execute(new).scalar_one())

    def count_due(self) -> int:
        own = _comparison.pipeline_id == self._pipeline.id
        rows = select(func.count()).select_from(schema.object_comparison).where(own)
        with self._database.reading() as connection:
            total = int(connection.execute(rows).scalar_one())
            due = rows.where(_comparison.among <= total // 2)
            return int(connection.execute(due).scalar_one())

    def without_things(self, after: int, limit: int) -> list[int]:
        statement = (
            select(_analysis.content_id)
            .where(_analysis.content_id > after, *self._lacks_things())
            .order_by(_analysis.content_id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def save_things(self, contents: Sequence[ContentThings]) -> None:
        by_id = {content.content: content for content in contents}
        with self._database.writing() as connection:
            rows = [
                {
                    "content_id": number,
                    "pipeline_id": self._pipeline.id,
                    "among": 0,
                    "scores": by_id[number].scores.astype("<f4").tobytes(),
                    "things": by_id[number].things.tobytes(),
                    "colours": by_id[number].colours.astype("<f4").tobytes(),
                    "pairs": b"",
                }
                for number in hold_contents(connection, by_id)
            ]
            if rows:
                # Another process may have found the same.
                statement = insert_into(connection, schema.object_comparison)
                connection.execute(statement.on_conflict_do_nothing(), rows)

    def stored_things(self, contents: Collection[int] | None = None) -> Iterator[ContentThings]:
        own = select(schema.object_comparison).where(_comparison.pipeline_id == self._pipeline.id)
        if contents is not None:
            for some in in_batches(contents):
                yield from self._stored(own.where(_comparison.content_id.in_(some)))
            return
        after = 0
        while True:
            found = self._stored(own.where(_comparison.content_id > after).limit(_PAGE))
            yield from found
            if len(found) < _PAGE:
                return
            after = found[-1].content

    def save_comparisons(self, compared: Sequence[ContentThings]) -> None:
        if not compared:
            return
        statement = (
            update(schema.object_comparison)
            .where(
                _comparison.content_id == bindparam("content"),
                _comparison.pipeline_id == self._pipeline.id,
            )
            .values(
                among=bindparam("contents"),
                things=bindparam("rows"),
                pairs=bindparam("likely"),
            )
        )
        rows = [
            {
                "content": one.content,
                "contents": one.among,
                "rows": one.things.tobytes(),
                "likely": one.pairs.tobytes(),
            }
            for one in compared
        ]
        state = {"pipeline_id": self._pipeline.id, "comparisons": 1, "grouped": 0, "build": 0}
        with self._database.writing() as connection:
            connection.execute(statement, rows)
            connection.execute(
                insert_into(connection, schema.object_state).on_conflict_do_update(
                    index_elements=["pipeline_id"], set_={"comparisons": _state.comparisons + 1}
                ),
                state,
            )

    def comparisons(self) -> int:
        return self._read_state()[0]

    def grouped_comparisons(self) -> int:
        return self._read_state()[1]

    def save_groups(self, groups: Sequence[SameObject], comparisons: int) -> None:
        build = 0
        for start in range(0, max(len(groups), 1), _GROUPS_AT_ONCE):
            with self._database.writing() as connection:
                build = build or self._next_build(connection)
                rows = [
                    {
                        "pipeline_id": self._pipeline.id,
                        "build": build,
                        "number": one.number,
                        "signs": np.asarray(one.signs, "<f4").tobytes(),
                        "sightings": _sightings_to_bytes(one.sightings),
                    }
                    for one in groups[start : start + _GROUPS_AT_ONCE]
                ]
                if rows:
                    connection.execute(insert(schema.object_group), rows)
        with self._database.writing() as connection:
            connection.execute(
                update(schema.object_state)
                # Another process may have built later ones, and deleted some of these.
                .where(_state.pipeline_id == self._pipeline.id, _state.build < build)
                .values(grouped=comparisons, build=build)
            )
        self._delete_groups_before(build)

    def groups(self, asset_filter: AssetFilter, first: int) -> Iterator[SameObject]:
        build = select(_state.build).where(_state.pipeline_id == self._pipeline.id)
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    select(_group.number, _group.signs, _group.sightings)
                    .where(
                        _group.pipeline_id == self._pipeline.id,
                        _group.build == build.scalar_subquery(),
                        _group.number >= first,
                    )
                    .order_by(_group.number)
                    .limit(_GROUPS_AT_ONCE)
                ).all()
                found = [_sightings_from_bytes(row.sightings) for row in rows]
                passing: set[int] = set()
                for some in in_batches({one.content for group in found for one in group}):
                    passing.update(
                        connection.execute(
                            select(_asset.content_id)
                            .join_from(schema.asset, schema.content)
                            .where(_asset.content_id.in_(some), passes(asset_filter))
                        ).scalars()
                    )
            for row, sightings in zip(rows, found, strict=True):
                signs = np.frombuffer(bytes(row.signs), "<f4").tolist()
                shown = tuple(one for one in sightings if one.content in passing)
                yield SameObject(row.number, shown, tuple(signs))
            if len(rows) < _GROUPS_AT_ONCE:
                return
            first = rows[-1].number + 1

    def _lacks_things(self) -> tuple[ColumnElement[bool], ...]:
        """Whether an analysed content with a live asset has no things stored."""
        is_live = exists().where(
            _asset.content_id == _analysis.content_id, _asset.deleted_at.is_(None)
        )
        is_stored = exists().where(
            _comparison.content_id == _analysis.content_id,
            _comparison.pipeline_id == self._pipeline.id,
        )
        return _analysis.pipeline_id == self._pipeline.id, ~is_stored, is_live

    def _stored(self, statement: Select[Any]) -> list[ContentThings]:
        with self._database.reading() as connection:
            rows = connection.execute(statement.order_by(_comparison.content_id)).all()
        found = []
        for row in rows:
            things = np.frombuffer(bytes(row.things), THING)
            colours = np.frombuffer(bytes(row.colours), "<f4")
            found.append(
                ContentThings(
                    row.content_id,
                    np.frombuffer(bytes(row.scores), "<f4"),
                    things,
                    colours.reshape(len(things), -1 if colours.size else 0),
                    np.frombuffer(bytes(row.pairs), PAIR),
                    row.among,
                )
            )
        return found

    def _read_state(self) -> tuple[int, int]:
        """How often comparisons were saved, and how often when the groups were built."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(_state.comparisons, _state.grouped).where(
                    _state.pipeline_id == self._pipeline.id
                )
            ).one_or_none()
        return (0, 0) if row is None else (row.comparisons, row.grouped)

    def _next_build(self, connection: Connection) -> int:
        """A number above all that were given out; the transaction must write it."""
        own = _state.pipeline_id == self._pipeline.id
        current = connection.execute(
            select(_state.build).where(own).with_for_update()
        ).scalar_one_or_none()
        newest = connection.execute(
            select(func.max(_group.build)).where(_group.pipeline_id == self._pipeline.id)
        ).scalar_one()
        return max(current or 0, newest or 0) + 1

    def _delete_groups_before(self, build: int) -> None:
        """Delete earlier groups, also those of a build that was killed."""
        earlier = (_group.pipeline_id == self._pipeline.id) & (_group.build < build)
        while True:
            with self._database.writing() as connection:
                last = connection.execute(
                    select(_group.build, _group.number)
                    .where(earlier)
                    .order_by(_group.build, _group.number)
                    .limit(_GROUPS_AT_ONCE)
                ).all()
                if not last:
                    return
                for number in {row.build for row in last}:
                    upto = max(row.number for row in last if row.build == number)
                    connection.execute(
                        delete(schema.object_group).where(
                            _group.pipeline_id == self._pipeline.id,
                            _group.build == number,
                            _group.number <= upto,
                        )
                    )


def _sightings_to_bytes(sightings: Sequence[Sighting]) -> bytes:
    rows = [(one.content, one.region, one.picture, one.certainty) for one in sightings]
    return np.array(rows, _SIGHTING).tobytes()


def _sightings_from_bytes(data: bytes) -> list[Sighting]:
    return [Sighting(*row) for row in np.frombuffer(bytes(data), _SIGHTING).tolist()]
