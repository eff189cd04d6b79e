"""The pipelines of a home: their states, and how complete each is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, func, select

from regard.storage.database import schema
from regard.storage.database.catalog import Catalog


class PipelineState(StrEnum):
    """`kept` was live before; `unfinished` never was; `deleting` was pruned halfway."""

    LIVE = "live"
    KEPT = "kept"
    UNFINISHED = "unfinished"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class PipelineOverview:
    """Counts for one pipeline; times are naive UTC.

    `models` names each part's model and revision. `analysed` counts contents; `missing` those that
    only the live pipeline has analysed; `failed` those of them that this one could not. Each of
    the `embeddings` takes two bytes per dimension.
    """

    profile: str
    fingerprint: str
    state: PipelineState
    models: Mapping[str, str]
    spaces: Mapping[str, int]
    analysed: int
    missing: int
    failed: int
    embeddings: int
    live_since: datetime | None
    replaced_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form; times in ISO 8601 with `Z`."""
        return {
            "profile": self.profile,
            "fingerprint": self.fingerprint,
            "state": self.state.value,
            "models": dict(self.models),
            "spaces": dict(self.spaces),
            "analysed": self.analysed,
            "missing": self.missing,
            "failed": self.failed,
            "embeddings": self.embeddings,
            "live_since": _shown(self.live_since),
            "replaced_at": _shown(self.replaced_at),
        }


def read_pipelines(catalog: Catalog) -> list[PipelineOverview]:
    """All pipelines, the live one first, then the newest first.

    Pipelines that have not analysed anything yet are left out.
    """
    pipeline, analysis = schema.pipeline.c, schema.analysis.c
    failure, embedding = schema.analysis_failure.c, schema.embedding.c
    other = schema.analysis.alias()
    with catalog.database.reading() as connection:
        rows = connection.execute(
            select(schema.pipeline).order_by(pipeline.live.desc(), pipeline.id.desc())
        ).all()
        analysed = _counts(connection.execute(_by(analysis.pipeline_id)).all())
        # Contents analysed by the live pipeline and by another.
        shared = _counts(
            connection.execute(
                _by(analysis.pipeline_id)
                .join(other, other.c.content_id == analysis.content_id)
                .join(schema.pipeline, pipeline.id == other.c.pipeline_id)
                .where(pipeline.live.is_(True))
            ).all()
        )
        unable = schema.analysis.alias()
        failed = _counts(
            connection.execute(
                _by(failure.pipeline_id)
                .join(
                    unable,
                    and_(
                        unable.c.content_id == failure.content_id,
                        unable.c.pipeline_id == failure.pipeline_id,
                    ),
                    isouter=True,
                )
                .where(unable.c.content_id.is_(None))
            ).all()
        )
        vectors = _counts(connection.execute(_by(embedding.pipeline_id)).all())
    live = next((row.id for row in rows if row.live), None)
    found = []
    for row in rows:
        state = _state(row)
        if state is PipelineState.UNFINISHED and not (analysed.get(row.id) or failed.get(row.id)):
            continue
        spec = json.loads(row.spec)
        found.append(
            PipelineOverview(
                row.profile,
                row.fingerprint,
                state,
                spec["models"],
                spec["spaces"],
                analysed.get(row.id, 0),
                analysed.get(live, 0) - shared.get(row.id, 0),
                failed.get(row.id, 0),
                vectors.get(row.id, 0),
                row.live_since,
                row.replaced_at,
            )
        )
    return found


def _by(column: Any) -> Any:
    return select(column, func.count()).group_by(column)


def _counts(rows: Any) -> dict[int | None, int]:
    return {row[0]: int(row[1]) for row in rows}


def _state(row: Any) -> PipelineState:
    if row.live:
        return PipelineState.LIVE
    if row.pruned_at is not None:
        return PipelineState.DELETING
    return PipelineState.UNFINISHED if row.replaced_at is None else PipelineState.KEPT


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.isoformat(timespec='seconds')}Z"
