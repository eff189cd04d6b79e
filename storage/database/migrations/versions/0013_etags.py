"""The ETags of objects that were indexed in their bucket."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no object has been indexed yet."""
    op.add_column("asset", sa.Column("etag", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("asset", "etag")
