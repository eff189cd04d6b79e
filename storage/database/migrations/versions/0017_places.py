"""Where photographs were taken, and indexes that count lenses, ratings and places."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regard.core.words import folded
from regard.photos.geonames import find_places

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_PAGE = 1000
_LIVE = "deleted_at IS NULL"
_NEW = {
    "lens_name": ("lens", "lens <> ''"),
    "country": ("country", "country IS NOT NULL"),
    "city": ("city", "city IS NOT NULL"),
}
_RATED = "rating IS NOT NULL"
_asset = sa.table(
    "asset",
    *map(sa.column, ("id", "latitude", "longitude", "country", "city", "city_folded")),
)


def upgrade() -> None:
    """Add the columns, and fill them where positions are known."""
    op.add_column("asset", sa.Column("country", sa.String(2), nullable=True))
    op.add_column("asset", sa.Column("city", sa.Text(), nullable=True))
    op.add_column("asset", sa.Column("city_folded", sa.Text(), nullable=True))
    _find_places(op.get_bind())
    op.create_index("ix_asset_city_folded", "asset", ["city_folded"])
    for name, (column, condition) in _NEW.items():
        _create(name, [column, "deleted_at"], condition)
    op.drop_index("ix_asset_rating", "asset")
    _create("rating", ["rating", "deleted_at"], _RATED)


def downgrade() -> None:
    """Drop the columns."""
    op.drop_index("ix_asset_rating", "asset")
    _create("rating", ["rating"], _RATED)
    for name in _NEW:
        op.drop_index(f"ix_asset_{name}", "asset")
    op.drop_index("ix_asset_city_folded", "asset")
    for name in ("city_folded", "city", "country"):
        op.execute(f"ALTER TABLE asset DROP COLUMN {name}")


def _create(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(f"{_LIVE} AND {condition}")
    op.create_index(
        f"ix_asset_{name}", "asset", columns, sqlite_where=where, postgresql_where=where
    )


def _find_places(connection: sa.Connection) -> None:
    after = 0
    while rows := connection.execute(
        sa.select(_asset.c.id, _asset.c.latitude, _asset.c.longitude)
        .where(
            _asset.c.id > after,
            _asset.c.latitude.is_not(None),
            _asset.c.longitude.is_not(None),
        )
        .order_by(_asset.c.id)
        .limit(_PAGE)
    ).all():
        places = find_places([(row.latitude, row.longitude) for row in rows])
        values = [
            {
                "number": row.id,
                "country": place.country,
                "city": place.city,
                "city_folded": None if place.city is None else folded(place.city),
            }
            for row, place in zip(rows, places, strict=True)
            if place is not None
        ]
        if values:
            connection.execute(
                sa.update(_asset)
                .where(_asset.c.id == sa.bindparam("number"))
                .values({name: sa.bindparam(name) for name in ("country", "city", "city_folded")}),
                values,
            )
        after = rows[-1].id
