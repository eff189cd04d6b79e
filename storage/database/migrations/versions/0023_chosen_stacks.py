"""What people say about stacks: which assets are in one, and which in none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column and its index."""
    op.add_column("asset", sa.Column("chosen_stack", _ID, nullable=True))
    where = sa.text("chosen_stack IS NOT NULL")
    op.create_index(
        "ix_asset_chosen_stack",
        "asset",
        ["chosen_stack"],
        sqlite_where=where,
        postgresql_where=where,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_asset_chosen_stack", "asset")
    op.execute("ALTER TABLE asset DROP COLUMN chosen_stack")
