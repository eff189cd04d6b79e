"""Calibrations of relevance that were made on the library itself, one for each pipeline.

They are derived data, written in one short transaction without the writer lease: of two that are
made at once the later one stays, and both were made on the same library.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select

from regard.core.filters import AssetFilter
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.clock import utc_now
from regard.storage.database.stored_pipelines import StoredPipeline

_analysis, _asset = schema.analysis.c, schema.asset.c
_calibration, _caption = schema.calibration.c, schema.caption.c


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """A calibration as JSON, the number of contents it was made on, and when (naive UTC)."""

    document: str
    contents: int
    made_at: datetime


class SqlCalibrations:
    """The calibration of one pipeline, and what it is made from."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline

    def read(self) -> StoredCalibration | None:
        """The stored calibration, if there is one."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(schema.calibration).where(_calibration.pipeline_id == self._pipeline.id)
            ).one_or_none()
        return None if row is None else StoredCalibration(row.document, row.contents, row.made_at)

    def replace(self, document: str, contents: int) -> None:
        """Store a calibration in place of the former one."""
        own = _calibration.pipeline_id == self._pipeline.id
        with self._database.writing() as connection:
            # Two processes may calibrate at once.
            self._database.take_turns(connection)
            connection.execute(delete(schema.calibration).where(own))
            connection.execute(
                insert(schema.calibration).values(
                    pipeline_id=self._pipeline.id,
                    contents=contents,
                    document=document,
                    made_at=utc_now(),
                )
            )

    def count_contents(self) -> int:
        """How many contents the pipeline has analysed."""
        analysed = select(func.count()).where(_analysis.pipeline_id == self._pipeline.id)
        with self._database.reading() as connection:
            return int(connection.execute(analysed).scalar_one())

    def captions(self, asset_filter: AssetFilter, most: int) -> list[str]:
        """Different captions of whole images that pass the filter, of about `most` of these.

        The images are spread evenly over the ids of contents.
        """
        whole = (_caption.pipeline_id == self._pipeline.id, _caption.region_id.is_(None))
        with self._database.reading() as connection:
            last = connection.execute(select(func.max(_caption.content_id)).where(*whole))
            step = 1 + (last.scalar_one() or 0) // most
            passing = select(_asset.content_id).where(passes(asset_filter))
            texts = connection.execute(
                select(_caption.text)
                .where(*whole, _caption.content_id % step == 0, _caption.content_id.in_(passing))
                .order_by(_caption.content_id)
            ).scalars()
            return list(dict.fromkeys(texts))
