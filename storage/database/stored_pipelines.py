"""Pipelines and their channels in the catalog.

One pipeline is live. A home may also hold one that is being built and former live ones to roll
back to.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from regard.core.errors import PipelineConflict
from regard.core.records import VECTOR_KINDS, Channel, Kind, PipelineSpec, Space
from regard.storage.database import schema
from regard.storage.database.clock import utc_now
from regard.storage.database.lease import WRITER, is_free

SHORT_FINGERPRINT = 12


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """A channel's id and dimension."""

    id: int
    channel: Channel
    dimension: int


@dataclass(frozen=True, slots=True)
class StoredPipeline:
    """A pipeline as the catalog knows it."""

    id: int
    profile: str
    fingerprint: str
    channels: Mapping[Channel, StoredChannel]

    @property
    def short(self) -> str:
        """A prefix of the fingerprint that is unique within a home."""
        return self.fingerprint[:SHORT_FINGERPRINT]


def live_pipeline(connection: Connection) -> StoredPipeline | None:
    """The live pipeline, or None when nothing was indexed yet."""
    row = connection.execute(
        select(schema.pipeline).where(schema.pipeline.c.live.is_(True))
    ).one_or_none()
    return None if row is None else _read(connection, row)


def stored_pipelines(connection: Connection) -> list[StoredPipeline]:
    """All pipelines except those being deleted, oldest first."""
    rows = connection.execute(
        select(schema.pipeline)
        .where(schema.pipeline.c.pruned_at.is_(None))
        .order_by(schema.pipeline.c.id)
    ).all()
    return [_read(connection, row) for row in rows]


def find_pipeline(connection: Connection, fingerprint: str) -> StoredPipeline | None:
    """The pipeline of a fingerprint, unless it is being deleted."""
    found = (one for one in stored_pipelines(connection) if one.fingerprint == fingerprint)
    return next(found, None)


def _read(connection: Connection, row: Row[Any]) -> StoredPipeline:
    channels = {}
    for found in connection.execute(
        select(schema.channel)
        .where(schema.channel.c.pipeline_id == row.id)
        .order_by(schema.channel.c.id)
    ):
        channel = Channel(found.space, Kind(found.kind))
        channels[channel] = StoredChannel(found.id, channel, found.dimension)
    return StoredPipeline(row.id, row.profile, row.fingerprint, channels)


def make_live(connection: Connection, spec: PipelineSpec) -> StoredPipeline:
    """Return the live pipeline; make that of `spec` live if none has analysed anything yet.

    A pipeline that a writer is using stays live. Call `take_turns` first in the transaction: two
    processes may open a new home at once.
    """
    live = live_pipeline(connection)
    if live is not None and (
        live.fingerprint == spec.fingerprint
        or _has_made_something(connection, live)
        or _is_written_to(connection)
    ):
        return live
    if live is not None:
        # Models that failed to load must not bind the home to them.
        connection.execute(
            update(schema.pipeline)
            .where(schema.pipeline.c.id == live.id)
            .values(live=False, live_since=None)
        )
    made = ensure_pipeline(connection, spec)
    set_live(connection, made)
    return made


def ensure_pipeline(connection: Connection, spec: PipelineSpec) -> StoredPipeline:
    """Return the pipeline of a spec, created but not live if it is new. Call `take_turns` before.

    Raises PipelineConflict while it is being deleted.
    """
    known = connection.execute(
        select(schema.pipeline).where(schema.pipeline.c.fingerprint == spec.fingerprint)
    ).one_or_none()
    if known is None:
        _insert(connection, spec)
    elif known.pruned_at is not None:
        raise PipelineConflict(
            f"what the profile {spec.profile} made is being deleted",
            remedy="finish that with: regard prune",
        )
    made = find_pipeline(connection, spec.fingerprint)
    assert made is not None
    return made


def set_live(connection: Connection, pipeline: StoredPipeline) -> None:
    """Make a pipeline the live one."""
    connection.execute(
        update(schema.pipeline)
        .where(schema.pipeline.c.id == pipeline.id)
        .values(live=True, live_since=utc_now(), replaced_at=None)
    )


def require_live(connection: Connection, pipeline: StoredPipeline) -> None:
    """Raise PipelineConflict if another pipeline has gone live; the caller holds the lease."""
    live = live_pipeline(connection)
    if live is None or live.id != pipeline.id:
        raise PipelineConflict(
            f"this home has other models than {pipeline.profile} since it was opened",
            remedy="run the command again",
        )


def _has_made_something(connection: Connection, pipeline: StoredPipeline) -> bool:
    analyses = select(schema.analysis.c.content_id).where(
        schema.analysis.c.pipeline_id == pipeline.id
    )
    return connection.execute(analyses.limit(1)).first() is not None


def _is_written_to(connection: Connection) -> bool:
    row = connection.execute(
        select(schema.lease).where(schema.lease.c.name == WRITER)
    ).one_or_none()
    return row is not None and not is_free(
        row.host, row.pid, row.process_started, row.heartbeat_at, time.time()
    )


def _insert(connection: Connection, spec: PipelineSpec) -> None:
    pipeline_id = connection.execute(
        insert(schema.pipeline)
        .values(
            profile=spec.profile,
            fingerprint=spec.fingerprint,
            spec=spec.to_json(),
            live=False,
        )
        .returning(schema.pipeline.c.id)
    ).scalar_one()
    connection.execute(
        insert(schema.channel),
        [
            {
                "pipeline_id": pipeline_id,
                "space": space.name,
                "kind": kind.value,
                "dimension": space.dimension,
            }
            for space in spec.spaces
            for kind in VECTOR_KINDS
        ],
    )


def check_spaces(live: StoredPipeline, spaces: Sequence[Space]) -> None:
    """Raise PipelineConflict unless the live pipeline's vectors are in these spaces.

    Searching needs no more: the segmenter or the captioner may have changed since.
    """
    stored = {(item.channel.space, item.dimension) for item in live.channels.values()}
    if stored != {(space.name, space.dimension) for space in spaces}:
        raise PipelineConflict(
            f"this home was indexed with another encoder than the profile {live.profile} has now",
            remedy="run: regard reindex, or give the profile the encoder that made it",
        )


def check_pipeline(live: StoredPipeline, spec: PipelineSpec) -> None:
    """Raise PipelineConflict unless the live pipeline is the one of `spec`."""
    if live.fingerprint == spec.fingerprint:
        return
    if live.profile != spec.profile:
        raise PipelineConflict(
            f"this home was indexed with the profile {live.profile}, not {spec.profile}",
            remedy=f"add --profile {live.profile}, or change the home's models with: "
            f"regard reindex --profile {shlex.quote(spec.profile)}",
        )
    raise PipelineConflict(
        f"this home was indexed with the profile {live.profile} of other revisions or parameters",
        remedy="renew it, while searches go on, with: regard reindex",
    )


def index_folder(folder: Path, fingerprint: str) -> Path:
    """The folder of a pipeline's indexes, below the folder of all indexes."""
    return folder / fingerprint[:16]
