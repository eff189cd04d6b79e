"""Pipelines and their channels in the catalog: which one is live, and which ids its channels have."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from regard.core.errors import PipelineConflict
from regard.core.records import Channel, Kind, PipelineSpec, Space
from regard.storage import schema
from regard.storage.lease import WRITER, is_free


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


def live_pipeline(connection: Connection) -> StoredPipeline | None:
    """The live pipeline, or None in a home that nothing was indexed into."""
    row = connection.execute(
        select(schema.pipeline).where(schema.pipeline.c.live.is_(True))
    ).one_or_none()
    if row is None:
        return None
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
    """The live pipeline; when there is none, or one that made nothing, that of `spec` from now on.

    A pipeline that a writer holds open stays, whatever it has made so far. The transaction has to have
    taken its turn: two processes may meet a new home at once.
    """
    live = live_pipeline(connection)
    if live is not None and (
        live.fingerprint == spec.fingerprint
        or _has_made_something(connection, live)
        or _is_written_to(connection)
    ):
        return live
    if live is not None:
        # Models that failed to load leave it behind, and must not bind the home to them.
        _set_live(connection, live.id, False)
    known = connection.execute(
        select(schema.pipeline.c.id).where(schema.pipeline.c.fingerprint == spec.fingerprint)
    ).scalar_one_or_none()
    if known is None:
        _insert_live(connection, spec)
    else:
        _set_live(connection, known, True)
    made = live_pipeline(connection)
    assert made is not None
    return made


def require_live(connection: Connection, pipeline: StoredPipeline) -> None:
    """Raise PipelineConflict when another pipeline has become the live one; for who holds the lease."""
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


def _set_live(connection: Connection, pipeline_id: int, live: bool) -> None:
    connection.execute(
        update(schema.pipeline).where(schema.pipeline.c.id == pipeline_id).values(live=live)
    )


def _insert_live(connection: Connection, spec: PipelineSpec) -> None:
    pipeline_id = connection.execute(
        insert(schema.pipeline)
        .values(
            profile=spec.profile,
            fingerprint=spec.fingerprint,
            spec=spec.to_json(),
            live=True,
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
            for kind in Kind
        ],
    )


def check_spaces(live: StoredPipeline, spaces: Sequence[Space]) -> None:
    """Raise PipelineConflict unless the live pipeline's vectors lie in these spaces.

    It is all that a search needs: what found the regions or wrote the captions may have changed since.
    """
    stored = {(item.channel.space, item.dimension) for item in live.channels.values()}
    if stored != {(space.name, space.dimension) for space in spaces}:
        raise PipelineConflict(
            f"this home was indexed with another encoder than the profile {live.profile} has now",
            remedy="choose another --home and index anew, or give the profile the encoder that made it",
        )


def check_pipeline(live: StoredPipeline, spec: PipelineSpec) -> None:
    """Raise PipelineConflict unless the live pipeline is the one of `spec`."""
    if live.fingerprint == spec.fingerprint:
        return
    if live.profile != spec.profile:
        raise PipelineConflict(
            f"this home was indexed with the profile {live.profile}, not {spec.profile}",
            remedy=f"add --profile {live.profile}, or choose another --home",
        )
    raise PipelineConflict(
        f"this home was indexed with the profile {live.profile} of other revisions or parameters",
        remedy="choose another --home and index anew, or install the version of regard that made it",
    )
