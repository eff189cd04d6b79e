"""The catalog as reindexing writes it: builds a pipeline beside the live one, then makes it live.

The contents to analyse are those that the live pipeline has analysed and this one has not. They
are queried again and again, which covers photographs that are added, moved or removed meanwhile.
Builders hold a lease of their own, not the writer lease, so that indexing continues. Only the
switch takes the writer lease, and checks in its transaction that nothing is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, Select, delete, exists, func, insert, select

from regard.core.catalog import Failure, ReindexingCatalog, WaitingContent
from regard.core.errors import CannotWork
from regard.core.records import Analysis, PipelineSpec
from regard.photos.files import uri_of_path
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import record_embeddings
from regard.storage.database.connection import storable_text
from regard.storage.database.embeddings import insert_embeddings
from regard.storage.database.lease import BUILDER, SqlWriterLease, hold_writer_lease
from regard.storage.database.stored_pipelines import StoredPipeline, live_pipeline
from regard.storage.pipelines.analyses import write_analyses
from regard.storage.pipelines.states import lacking, lacks, switch

_PAGE = 1000
# A pipeline may go live without a tenth of the photographs, or without a few if they are a
# minority.
_TOLERATED_SHARE, _TOLERATED = 10, 10
_content, _asset = schema.content.c, schema.asset.c


class SqlReindexing(ReindexingCatalog):
    """Builds one pipeline."""

    def __init__(
        self,
        catalog: Catalog,
        spec: PipelineSpec,
        *,
        original_of: Callable[[str], bytes | None] = lambda sha256: None,
    ) -> None:
        """Create the pipeline of `spec`, or continue an existing one.

        `original_of` gives the managed file of a SHA-256. Raises PipelineConflict while the
        pipeline is being deleted.
        """
        self._database = catalog.database
        self._original_of = original_of
        self.pipeline: StoredPipeline = catalog.ensure_pipeline(spec)
        self._lease: SqlWriterLease | None = None

    def builder_lease(self, *, retry_failed: bool) -> AbstractContextManager[SqlWriterLease]:
        return self._held(retry_failed)

    @contextlib.contextmanager
    def _held(self, retry_failed: bool) -> Iterator[SqlWriterLease]:
        with hold_writer_lease(self._database, BUILDER) as lease:
            self._lease = lease
            try:
                if retry_failed:
                    failure = schema.analysis_failure
                    with self._writing() as connection:
                        connection.execute(
                            delete(failure).where(failure.c.pipeline_id == self.pipeline.id)
                        )
                yield lease
            finally:
                self._lease = None

    def count(self) -> int:
        with self._database.reading() as connection:
            return int(
                connection.execute(
                    select(func.count()).select_from(self._waiting(connection).subquery())
                ).scalar_one()
            )

    def waiting(self, after: int, limit: int) -> list[WaitingContent]:
        with self._database.reading() as connection:
            rows = connection.execute(
                self._waiting(connection)
                .where(_content.id > after)
                .order_by(_content.id)
                .limit(limit)
            ).all()
            places = _places(connection, [row.id for row in rows])
        found = []
        for row in rows:
            original = self._original_of(row.sha256)
            paths = [*places[row.id], *([] if original is None else [original])]
            found.append(
                WaitingContent(
                    row.id, row.sha256, row.width, row.height, tuple(dict.fromkeys(paths))
                )
            )
        return found

    def save(
        self, contents: Sequence[WaitingContent], analyses: Sequence[Analysis]
    ) -> frozenset[int]:
        """As in the Protocol; raises ModelError for a vector that an index would refuse."""
        with self._writing() as connection:
            wanted = self._wanted_of(connection, [content.id for content in contents])
            pairs = [
                (content.id, analysis)
                for content, analysis in zip(contents, analyses, strict=True)
                if content.id in wanted
            ]
            embeddings = write_analyses(
                connection,
                self.pipeline,
                [content for content, _ in pairs],
                [analysis for _, analysis in pairs],
            )
            record_embeddings(connection, insert_embeddings(connection, embeddings), [])
            return wanted

    def fail(self, content: WaitingContent, reason: str) -> None:
        with self._writing() as connection:
            if self._wanted_of(connection, [content.id]):
                connection.execute(
                    insert(schema.analysis_failure).values(
                        content_id=content.id,
                        pipeline_id=self.pipeline.id,
                        reason=storable_text(reason),
                    )
                )

    def failures(self) -> list[Failure]:
        """Failed contents that do not wait, each named by its first file."""
        failure = schema.analysis_failure.c
        failed = (
            select(_content.id, _content.sha256, failure.reason)
            .join_from(schema.content, schema.analysis_failure, failure.content_id == _content.id)
            .where(
                failure.pipeline_id == self.pipeline.id, lacks(schema.analysis, self.pipeline.id)
            )
            .order_by(_content.id)
        )
        with self._database.reading() as connection:
            rows = connection.execute(failed).all()
            found = []
            for start in range(0, len(rows), _PAGE):
                page = rows[start : start + _PAGE]
                places = _places(connection, [row.id for row in page])
                for row in page:
                    paths = places[row.id]
                    uri = uri_of_path(paths[0]) if paths else f"content {row.sha256}"
                    found.append(Failure(uri, row.reason))
        return found

    def go_live(self) -> bool:
        with (
            hold_writer_lease(self._database) as writer,
            self._writing() as connection,
        ):
            self._database.take_turns(connection)
            writer.guard(connection)
            live = live_pipeline(connection)
            if live is not None and live.id == self.pipeline.id:
                return True
            if connection.execute(self._waiting(connection).limit(1)).first() is not None:
                return False
            self._require_most(connection)
            switch(connection, self.pipeline)
        return True

    def _require_most(self, connection: Connection) -> None:
        """Refuse to lose most photographs through a missing disk or failing models."""
        failed = self._wanted(connection).where(lacks(schema.analysis, self.pipeline.id))
        lost, total = (
            connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()
            for some in (failed, self._wanted(connection))
        )
        if lost * _TOLERATED_SHARE <= total or (lost <= _TOLERATED and lost * 2 <= total):
            return
        first = connection.execute(
            select(schema.analysis_failure.c.reason)
            .where(schema.analysis_failure.c.pipeline_id == self.pipeline.id)
            .order_by(schema.analysis_failure.c.content_id)
            .limit(1)
        ).scalar_one()
        raise CannotWork(
            f"{self.pipeline.profile} can't go live: it could not analyse {lost} of {total} "
            f"photographs; the first failed with: {first}",
            remedy="mend that and run it again; photographs that are gone for good go when their folders "
            "are indexed again",
        )

    @staticmethod
    def _wanted_of(connection: Connection, contents: Sequence[int]) -> frozenset[int]:
        """The contents that are still there; nobody drops them until the transaction ends."""
        held = (
            select(_content.id)
            .where(_content.id.in_(contents))
            .order_by(_content.id)
            .with_for_update(read=True, key_share=True)
        )
        return frozenset(connection.execute(held).scalars())

    def _waiting(self, connection: Connection) -> Select[Any]:
        return self._wanted(connection).where(lacking(self.pipeline.id))

    @staticmethod
    def _wanted(connection: Connection) -> Select[Any]:
        """What the live pipeline has analysed."""
        live = live_pipeline(connection)
        wanted = exists().where(
            schema.analysis.c.content_id == _content.id,
            schema.analysis.c.pipeline_id == (-1 if live is None else live.id),
        )
        return select(_content.id, _content.sha256, _content.width, _content.height).where(wanted)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._lease is None:
            raise RuntimeError("the builder's lease is not held")
        with self._database.writing() as connection:
            self._lease.guard(connection)
            yield connection


def _places(connection: Connection, contents: Sequence[int]) -> dict[int, list[bytes]]:
    """Paths of the files of contents, those of the trash last."""
    places: dict[int, list[bytes]] = {content: [] for content in contents}
    for asset in connection.execute(
        select(_asset.content_id, _asset.path)
        .where(_asset.content_id.in_(contents))
        .order_by(_asset.deleted_at.is_not(None), _asset.id)
    ):
        places[asset.content_id].append(bytes(asset.path))
    return places
