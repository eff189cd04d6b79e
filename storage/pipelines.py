"""Pipelines and their channels in the catalog: which one is live, and which ids its channels have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from regard.core.errors import PipelineConflict
from regard.core.records import Channel, Kind, PipelineSpec, Space
from regard.storage import schema


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
    """The live pipeline; when there is none, the one of `spec`, live from now on.

    The transaction has to have taken its turn: two processes may meet a new home at once.
    """
    live = live_pipeline(connection)
    if live is None:
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
        live = live_pipeline(connection)
        assert live is not None
    return live


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
