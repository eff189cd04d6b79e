"""What people say of duplicates: pairs that are none, and ratings of copies that went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the column."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    sides = {
        name: sa.ForeignKey(
            "content.id", ondelete="CASCADE", name=f"fk_distinct_pair_{name}_content"
        )
        for name in ("first_id", "second_id")
    }
    op.create_table(
        "distinct_pair",
        *(sa.Column(name, number, key, nullable=False) for name, key in sides.items()),
        sa.PrimaryKeyConstraint(*sides, name="pk_distinct_pair"),
    )
    op.create_index("ix_distinct_pair_second_id", "distinct_pair", ["second_id"])
    op.add_column("asset", sa.Column("merged_rating", sa.SmallInteger(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.execute("ALTER TABLE asset DROP COLUMN merged_rating")
    op.drop_table("distinct_pair")
