"""Albums, and the assets that people put into them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "album",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False, unique=True),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "album_asset",
        sa.Column("album_id", _ID, sa.ForeignKey("album.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("asset_id", _ID, sa.ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("ix_album_asset_asset_id", "album_asset", ["asset_id"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("album_asset")
    op.drop_table("album")
