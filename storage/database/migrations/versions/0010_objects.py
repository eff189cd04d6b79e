"""The things of contents, their likely pairs, and the groups of photographs of one object."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, empty: contents are compared when groups are first asked for."""
    op.create_table(
        "object_comparison",
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("among", sa.BigInteger(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.Column("things", sa.LargeBinary(), nullable=False),
        sa.Column("colours", sa.LargeBinary(), nullable=False),
        sa.Column("pairs", sa.LargeBinary(), nullable=False),
        _owner("object_comparison", "content_id", "content"),
        _owner("object_comparison", "pipeline_id", "pipeline"),
        sa.PrimaryKeyConstraint("content_id", "pipeline_id", name=op.f("pk_object_comparison")),
    )
    op.create_index(
        op.f("ix_object_comparison_pipeline_id_among"),
        "object_comparison",
        ["pipeline_id", "among"],
    )
    op.create_table(
        "object_state",
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("comparisons", sa.BigInteger(), nullable=False),
        sa.Column("grouped", sa.BigInteger(), nullable=False),
        sa.Column("build", sa.BigInteger(), nullable=False),
        _owner("object_state", "pipeline_id", "pipeline"),
        sa.PrimaryKeyConstraint("pipeline_id", name=op.f("pk_object_state")),
    )
    op.create_table(
        "object_group",
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("build", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("signs", sa.LargeBinary(), nullable=False),
        sa.Column("sightings", sa.LargeBinary(), nullable=False),
        _owner("object_group", "pipeline_id", "pipeline"),
        sa.PrimaryKeyConstraint("pipeline_id", "build", "number", name=op.f("pk_object_group")),
    )


def downgrade() -> None:
    """Drop the tables: all in them can be derived again."""
    for name in ("object_group", "object_state", "object_comparison"):
        op.drop_table(name)


def _owner(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    """A row goes with what it is about."""
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")
