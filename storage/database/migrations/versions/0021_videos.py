"""Videos: their durations, the frames that stand for them, and the times of their moments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_COLUMNS = (("content", "duration_ms"), ("content", "poster_ms"), ("region", "time_ms"))


def upgrade() -> None:
    """Add the columns."""
    for table, name in _COLUMNS:
        op.add_column(table, sa.Column(name, sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for table, name in _COLUMNS:
        op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
