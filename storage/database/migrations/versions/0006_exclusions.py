"""What people said about files to index: patterns to leave out, and paths that were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table; nothing is left out yet by older homes."""
    op.create_table(
        "exclusion",
        sa.Column("id", _ID, nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("pattern", sa.LargeBinary(), nullable=True),
        sa.Column("is_left_out", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collection.id"],
            name=op.f("fk_exclusion_collection_id_collection"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exclusion")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_exclusion_collection_id"), "exclusion", ["collection_id"])


def downgrade() -> None:
    """Forget it."""
    op.drop_index(op.f("ix_exclusion_collection_id"), "exclusion")
    op.drop_table("exclusion")
