"""Text in pictures: readers, what they have read, its lines, and their words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _to_content() -> sa.ForeignKey:
    return sa.ForeignKey("content.id", ondelete="CASCADE")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "reader",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("spec", sa.Text(), nullable=False, unique=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reading",
        sa.Column("content_id", _ID, _to_content(), primary_key=True, autoincrement=False),
        sa.Column("reader_id", _ID, sa.ForeignKey("reader.id"), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
    )
    op.create_index("ix_reading_reader_id", "reading", ["reader_id"])
    op.create_table(
        "text_line",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column("content_id", _ID, _to_content(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("corners", sa.LargeBinary(), nullable=False),
        sa.Column("confidence", sa.Float(53), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.UniqueConstraint("content_id", "ordinal"),
    )
    op.create_table(
        "read_word",
        sa.Column("word", sa.Text(), primary_key=True),
        sa.Column(
            "line_id", _ID, sa.ForeignKey("text_line.id", ondelete="CASCADE"), primary_key=True
        ),
    )
    op.create_index("ix_read_word_line_id", "read_word", ["line_id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("read_word", "text_line", "reading", "reader"):
        op.drop_table(table)
