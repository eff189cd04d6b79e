"""Stacks of uploads: an index of the days that they were taken on, and marks for these days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_asset = sa.table(
    "asset",
    *(sa.column("collection_id"), sa.column("managed", sa.Boolean())),
    sa.column("taken_at", sa.DateTime()),
)
_folder = sa.table("stale_folder", sa.column("collection_id"), sa.column("path", sa.LargeBinary()))


def upgrade() -> None:
    """Create the index, and mark the days."""
    op.create_index(
        "ix_asset_upload_day",
        "asset",
        ["collection_id", "taken_at"],
        sqlite_where=sa.text("managed IS 1"),
        postgresql_where=sa.text("managed IS true"),
    )
    connection = op.get_bind()
    days = {
        (row.collection_id, row.taken_at.date())
        for row in connection.execute(
            sa.select(_asset.c.collection_id, _asset.c.taken_at)
            .where(_asset.c.managed.is_(True), _asset.c.taken_at.is_not(None))
            .distinct()
        )
    }
    if days:
        connection.execute(
            sa.insert(_folder),
            [
                {"collection_id": collection, "path": day.isoformat().encode()}
                for collection, day in sorted(days)
            ],
        )


def downgrade() -> None:
    """Drop the index, and take uploads out of their stacks."""
    asset = sa.table("asset", sa.column("managed", sa.Boolean()), sa.column("stack_id"))
    op.execute(sa.update(asset).where(asset.c.managed.is_(True)).values(stack_id=None))
    op.drop_index("ix_asset_upload_day", "asset")
