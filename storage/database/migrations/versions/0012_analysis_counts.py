"""How many regions, captions and vectors each analysis has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COUNTED = {
    "region_count": "count(*) FROM region",
    "caption_count": "count(*) FROM caption",
    "vector_count": "coalesce(sum(vector_count), 0) FROM embedding",
}


def upgrade() -> None:
    """Add the columns and count."""
    for name in _COUNTED:
        op.add_column("analysis", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    counts = ", ".join(
        f"{name} = (SELECT {what} AS owned WHERE owned.content_id = analysis.content_id "
        "AND owned.pipeline_id = analysis.pipeline_id)"
        for name, what in _COUNTED.items()
    )
    op.execute(f"UPDATE analysis SET {counts}")  # noqa: S608


def downgrade() -> None:
    """Drop the columns."""
    for name in _COUNTED:
        op.drop_column("analysis", name)
