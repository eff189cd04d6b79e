"""Assets counted by where they were taken, in the cells of a grid."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, select

from regard.core.assets import PlaceCount, PlaceCounts
from regard.core.facts import Place
from regard.core.filters import GpsBox
from regard.storage.database import schema

_asset, _content = schema.asset.c, schema.content.c


def count_places(
    connection: Connection, passing: Select[Any], cell_degrees: float, limit: int
) -> PlaceCounts:
    """Count what `passing` selects from `asset`, without columns, by cells of so many degrees.

    The grid begins at 90° south and 180° west. Of the cells, only the `limit` fullest.
    """
    latitude, longitude = _asset.latitude, _asset.longitude
    row = func.floor((latitude + 90) / cell_degrees)
    column = func.floor((longitude + 180) / cell_degrees)
    number = func.count().label("number")
    cells = passing.where(latitude.is_not(None)).group_by(row, column)
    found = connection.execute(
        cells.add_columns(
            number,
            func.sum(func.count()).over().label("total"),
            func.avg(latitude).label("latitude"),
            func.avg(longitude).label("longitude"),
            func.min(longitude).label("west"),
            func.min(latitude).label("south"),
            func.max(longitude).label("east"),
            func.max(latitude).label("north"),
            func.max(_asset.id).label("newest"),
        )
        .order_by(number.desc(), func.max(_asset.id).desc())
        .limit(limit)
    ).all()
    newest = {
        row.id: row
        for row in connection.execute(
            select(_asset.id, _asset.country, _asset.city, _content.sha256)
            .join_from(schema.asset, schema.content, _content.id == _asset.content_id, isouter=True)
            .where(_asset.id.in_([cell.newest for cell in found]))
        )
    }
    return PlaceCounts(
        tuple(
            PlaceCount(
                # A mean of equal numbers may differ in its last digit.
                min(max(cell.latitude, cell.south), cell.north),
                min(max(cell.longitude, cell.west), cell.east),
                GpsBox(cell.west, cell.south, cell.east, cell.north),
                cell.number,
                cell.newest,
                newest[cell.newest].sha256,
                _place(newest[cell.newest]),
            )
            for cell in found
        ),
        int(found[0].total) if found else 0,
    )


def _place(row: Any) -> Place | None:
    return None if row.country is None else Place(row.country, row.city)
