"""One row of `embedding` holds all vectors of a content in a channel, and one change logs it.

Embeddings get new ids, above all former ones, so the log begins again after the last position, and
vector indexes have to be built from it. `storage/database/upgrading.py` fills the new table from
the former one, which it drops at the end.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the new tables, and keep the former embeddings under another name."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    has_rows = sa.text("SELECT EXISTS (SELECT 1 FROM embedding)")
    if connection.execute(has_rows).scalar_one():
        op.rename_table("embedding", "former_embedding")
        if not is_sqlite:
            op.execute("ALTER INDEX pk_embedding RENAME TO pk_former_embedding")
        table = "former_embedding"
    else:
        table = "embedding"
    if is_sqlite:
        last = f"SELECT max(seq) FROM sqlite_sequence WHERE name = '{table}'"  # noqa: S608
    else:
        last = "SELECT last_value FROM embedding_id_seq"
    # A new database has no counters yet.
    op.execute(
        f"INSERT INTO counter (name, value) SELECT 'embedding', coalesce(({last}), 0) "  # noqa: S608
        "FROM counter WHERE name = 'change'"
    )
    op.execute(
        "UPDATE counter SET value = (SELECT value FROM counter AS log WHERE log.name = 'change') "
        "WHERE name = 'pruned'"
    )
    if table == "embedding":
        op.drop_table("embedding")
    op.drop_table("change")
    op.create_table(
        "embedding",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("vector_count", sa.Integer(), nullable=False),
        sa.Column("regions", sa.LargeBinary(), nullable=True),
        sa.Column("captions", sa.LargeBinary(), nullable=True),
        sa.Column("vectors", sa.LargeBinary(), nullable=False),
        *_foreign_keys("embedding"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding")),
        sa.UniqueConstraint(
            "content_id", "channel_id", name=op.f("uq_embedding_content_id_channel_id")
        ),
    )
    op.create_table(
        "change",
        sa.Column("position", _ID, autoincrement=False, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("embedding_id", _ID, nullable=False),
        sa.Column("vector_count", sa.Integer(), nullable=False),
        sa.Column("added", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channel.id"], name=op.f("fk_change_channel_id_channel")
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_change")),
    )
    op.create_index("ix_change_channel_id_position", "change", ["channel_id", "position"])


def downgrade() -> None:
    """Make the former tables without rows: their contents have to be indexed again."""
    op.drop_table("change")
    op.drop_table("embedding")
    op.create_table(
        "embedding",
        sa.Column("id", _ID, nullable=False),
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("region_id", _ID, nullable=True),
        sa.Column("caption_id", _ID, nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        *_foreign_keys("embedding"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_embedding_content_id_channel_id", "embedding", ["content_id", "channel_id"])
    op.create_index("ix_embedding_region_id", "embedding", ["region_id"])
    op.create_index("ix_embedding_caption_id", "embedding", ["caption_id"])
    op.create_table(
        "change",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("embedding_id", _ID, nullable=False),
        sa.Column("added", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_change")),
    )
    op.create_index("ix_change_channel_id_position", "change", ["channel_id", "position"])


def _foreign_keys(table: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(
            [f"{owner}_id"],
            [f"{owner}.id"],
            name=op.f(f"fk_{table}_{owner}_id_{owner}"),
            ondelete="CASCADE" if owner == "content" else None,
        )
        for owner in ("content", "pipeline", "channel")
    ]
