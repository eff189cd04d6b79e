"""The first schema: contents, assets, regions, captions, embeddings, the change log and the
lease."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite makes an autoincrementing key of INTEGER alone.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "catalog_info",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_catalog_info")),
    )
    op.create_table(
        "collection",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collection")),
        sa.UniqueConstraint("name", name=op.f("uq_collection_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "content",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_content")),
        sa.UniqueConstraint("sha256", name=op.f("uq_content_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("process_started", sa.Float(precision=53), nullable=False),
        sa.Column("acquired_at", sa.Float(precision=53), nullable=False),
        sa.Column("heartbeat_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "pipeline",
        sa.Column("id", _ID, nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_pipeline_fingerprint")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "analysis",
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["content.id"],
            name=op.f("fk_analysis_content_id_content"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_analysis_pipeline_id_pipeline")
        ),
        sa.PrimaryKeyConstraint("content_id", "pipeline_id", name=op.f("pk_analysis")),
    )
    op.create_table(
        "asset",
        sa.Column("id", _ID, nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("content_id", _ID, nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("sidecar_stamp", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("taken_at", sa.DateTime(), nullable=True),
        sa.Column("utc_offset_minutes", sa.Integer(), nullable=True),
        sa.Column("camera_make", sa.Text(), nullable=True),
        sa.Column("camera_model", sa.Text(), nullable=True),
        sa.Column("lens", sa.Text(), nullable=True),
        sa.Column("latitude", sa.Float(precision=53), nullable=True),
        sa.Column("longitude", sa.Float(precision=53), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("rating", sa.SmallInteger(), nullable=True),
        sa.Column("capture", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(content_id IS NULL) = (failure IS NOT NULL)",
            name=op.f("ck_asset_failed_without_content"),
        ),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name=op.f("fk_asset_collection_id_collection")
        ),
        sa.ForeignKeyConstraint(
            ["content_id"], ["content.id"], name=op.f("fk_asset_content_id_content")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset")),
        sa.UniqueConstraint("collection_id", "path", name=op.f("uq_asset_collection_id_path")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_asset_content_id_collection_id", "asset", ["content_id", "collection_id"], unique=False
    )
    op.create_index(op.f("ix_asset_taken_at"), "asset", ["taken_at"], unique=False)
    op.create_table(
        "channel",
        sa.Column("id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_channel_pipeline_id_pipeline")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel")),
        sa.UniqueConstraint(
            "pipeline_id", "space", "kind", name=op.f("uq_channel_pipeline_id_space_kind")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "region",
        sa.Column("id", _ID, nullable=False),
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("x", sa.Integer(), nullable=False),
        sa.Column("y", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("area", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Float(precision=53), nullable=False),
        sa.Column("mask", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["content.id"],
            name=op.f("fk_region_content_id_content"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_region_pipeline_id_pipeline")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_region")),
        sa.UniqueConstraint(
            "content_id",
            "pipeline_id",
            "ordinal",
            name=op.f("uq_region_content_id_pipeline_id_ordinal"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "asset_keyword",
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("keyword", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["asset.id"],
            name=op.f("fk_asset_keyword_asset_id_asset"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("asset_id", "position", name=op.f("pk_asset_keyword")),
    )
    op.create_index(op.f("ix_asset_keyword_keyword"), "asset_keyword", ["keyword"], unique=False)
    op.create_table(
        "caption",
        sa.Column("id", _ID, nullable=False),
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("region_id", _ID, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["content.id"],
            name=op.f("fk_caption_content_id_content"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_caption_pipeline_id_pipeline")
        ),
        sa.ForeignKeyConstraint(
            ["region_id"],
            ["region.id"],
            name=op.f("fk_caption_region_id_region"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_caption")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_caption_content_id_pipeline_id", "caption", ["content_id", "pipeline_id"], unique=False
    )
    op.create_index(op.f("ix_caption_region_id"), "caption", ["region_id"], unique=False)
    op.create_table(
        "change",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("embedding_id", _ID, nullable=False),
        sa.Column("added", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channel.id"], name=op.f("fk_change_channel_id_channel")
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_change")),
    )
    op.create_index(
        "ix_change_channel_id_position", "change", ["channel_id", "position"], unique=False
    )
    op.create_table(
        "embedding",
        sa.Column("id", _ID, nullable=False),
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("region_id", _ID, nullable=True),
        sa.Column("caption_id", _ID, nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["caption_id"],
            ["caption.id"],
            name=op.f("fk_embedding_caption_id_caption"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channel.id"], name=op.f("fk_embedding_channel_id_channel")
        ),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["content.id"],
            name=op.f("fk_embedding_content_id_content"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_embedding_pipeline_id_pipeline")
        ),
        sa.ForeignKeyConstraint(
            ["region_id"],
            ["region.id"],
            name=op.f("fk_embedding_region_id_region"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_embedding_caption_id"), "embedding", ["caption_id"], unique=False)
    op.create_index(
        "ix_embedding_content_id_channel_id",
        "embedding",
        ["content_id", "channel_id"],
        unique=False,
    )
    op.create_index(op.f("ix_embedding_region_id"), "embedding", ["region_id"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index(op.f("ix_embedding_region_id"), table_name="embedding")
    op.drop_index("ix_embedding_content_id_channel_id", table_name="embedding")
    op.drop_index(op.f("ix_embedding_caption_id"), table_name="embedding")
    op.drop_table("embedding")
    op.drop_index("ix_change_channel_id_position", table_name="change")
    op.drop_table("change")
    op.drop_index(op.f("ix_caption_region_id"), table_name="caption")
    op.drop_index("ix_caption_content_id_pipeline_id", table_name="caption")
    op.drop_table("caption")
    op.drop_index(op.f("ix_asset_keyword_keyword"), table_name="asset_keyword")
    op.drop_table("asset_keyword")
    op.drop_table("region")
    op.drop_table("channel")
    op.drop_index(op.f("ix_asset_taken_at"), table_name="asset")
    op.drop_index("ix_asset_content_id_collection_id", table_name="asset")
    op.drop_table("asset")
    op.drop_table("analysis")
    op.drop_table("pipeline")
    op.drop_table("lease")
    op.drop_table("counter")
    op.drop_table("content")
    op.drop_table("collection")
    op.drop_table("catalog_info")
