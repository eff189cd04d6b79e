"""Small grey pictures of contents, by which duplicates are verified, and the copies found so
far."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, empty: contents of older homes are looked at when duplicates are asked
    for."""
    op.create_table(
        "signature",
        sa.Column("content_id", _ID, autoincrement=False, nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("grey", sa.LargeBinary(), nullable=False),
        _owner("signature", "content_id", "content"),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_signature")),
    )
    op.create_table(
        "comparison",
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        _owner("comparison", "content_id", "content"),
        _owner("comparison", "pipeline_id", "pipeline"),
        sa.PrimaryKeyConstraint("content_id", "pipeline_id", name=op.f("pk_comparison")),
    )
    op.create_table(
        "copy_pair",
        sa.Column("first_id", _ID, nullable=False),
        sa.Column("second_id", _ID, nullable=False),
        sa.Column("similarity", sa.Float(53), nullable=False),
        _owner("copy_pair", "first_id", "content"),
        _owner("copy_pair", "second_id", "content"),
        sa.PrimaryKeyConstraint("first_id", "second_id", name=op.f("pk_copy_pair")),
    )
    op.create_index(op.f("ix_copy_pair_second_id"), "copy_pair", ["second_id"])


def downgrade() -> None:
    """Drop the tables: all in them can be derived again."""
    for name in ("copy_pair", "comparison", "signature"):
        op.drop_table(name)


def _owner(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    """A row goes with what it is about."""
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")
