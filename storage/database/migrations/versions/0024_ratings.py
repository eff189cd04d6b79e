"""Ratings given by hand: those of merged copies were the first of them."""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename the column."""
    op.execute("ALTER TABLE asset RENAME COLUMN merged_rating TO edited_rating")


def downgrade() -> None:
    """Name it as before."""
    op.execute("ALTER TABLE asset RENAME COLUMN edited_rating TO merged_rating")
