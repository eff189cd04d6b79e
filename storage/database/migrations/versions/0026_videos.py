"""An index of videos, which are few, for the filters by duration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_IS_VIDEO = sa.text("duration_ms IS NOT NULL")


def upgrade() -> None:
    """Create it."""
    op.create_index(
        "ix_content_duration_ms",
        "content",
        ["duration_ms"],
        sqlite_where=_IS_VIDEO,
        postgresql_where=_IS_VIDEO,
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_content_duration_ms", "content")
