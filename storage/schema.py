"""The catalog's tables.

A content is analysed once and owns its regions, captions and embeddings; an asset is a place where a
content lies. Embedding ids are the ids in the vector indexes and are never reused. `change` numbers the
additions and deletions of embeddings; its positions become visible in order, because the number is
taken from `counter` at the end of a transaction and that row stays locked until the commit.

Migrations, not this module, make the tables; a test holds the two equal.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes an autoincrementing key of INTEGER alone.
Id = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *items: Column[object] | CheckConstraint | UniqueConstraint) -> Table:
    return Table(name, metadata, *items, sqlite_autoincrement=True)


catalog_info = Table(
    "catalog_info",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

counter = Table(
    "counter",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("token", String(64), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("process_started", Float(53), nullable=False),
    Column("acquired_at", Float(53), nullable=False),
    Column("heartbeat_at", Float(53), nullable=False),
)

collection = _table(
    "collection",
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

pipeline = _table(
    "pipeline",
    Column("id", Id, primary_key=True),
    Column("profile", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("live", Boolean, nullable=False),
)

channel = _table(
    "channel",
    Column("id", Id, primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("space", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("dimension", Integer, nullable=False),
    UniqueConstraint("pipeline_id", "space", "kind"),
)

content = _table(
    "content",
    Column("id", Id, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("format", String(16), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
)

analysis = Table(
    "analysis",
    metadata,
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), primary_key=True),
)

asset = _table(
    "asset",
    Column("id", Id, primary_key=True),
    Column("collection_id", Id, ForeignKey("collection.id"), nullable=False),
    # The path's bytes as the file system gave them; `uri` is their printable form.
    Column("path", LargeBinary, nullable=False),
    Column("uri", Text, nullable=False),
    Column("content_id", Id, ForeignKey("content.id"), nullable=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sidecar_stamp", Text, nullable=True),
    Column("failure", Text, nullable=True),
    Column("taken_at", DateTime, nullable=True, index=True),
    Column("utc_offset_minutes", Integer, nullable=True),
    Column("camera_make", Text, nullable=True),
    Column("camera_model", Text, nullable=True),
    Column("lens", Text, nullable=True),
    Column("latitude", Float(53), nullable=True),
    Column("longitude", Float(53), nullable=True),
    Column("title", Text, nullable=True),
    Column("description", Text, nullable=True),
    Column("rating", SmallInteger, nullable=True),
    Column("capture", Text, nullable=False),
    UniqueConstraint("collection_id", "path"),
    CheckConstraint("(content_id IS NULL) = (failure IS NOT NULL)", name="failed_without_content"),
)

asset_keyword = Table(
    "asset_keyword",
    metadata,
    Column("asset_id", Id, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("keyword", Text, nullable=False, index=True),
)

region = _table(
    "region",
    Column("id", Id, primary_key=True),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("x", Integer, nullable=False),
    Column("y", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("area", BigInteger, nullable=False),
    Column("score", Float(53), nullable=False),
    # COCO's compressed run-length counts over the content's width × height.
    Column("mask", LargeBinary, nullable=False),
    UniqueConstraint("content_id", "pipeline_id", "ordinal"),
)

caption = _table(
    "caption",
    Column("id", Id, primary_key=True),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("region_id", Id, ForeignKey("region.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("text", Text, nullable=False),
    Column("model", Text, nullable=False),
)

embedding = _table(
    "embedding",
    Column("id", Id, primary_key=True),
    Column("content_id", Id, ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("pipeline_id", Id, ForeignKey("pipeline.id"), nullable=False),
    Column("channel_id", Id, ForeignKey("channel.id"), nullable=False),
    Column("region_id", Id, ForeignKey("region.id", ondelete="CASCADE"), nullable=True, index=True),
    Column(
        "caption_id", Id, ForeignKey("caption.id", ondelete="CASCADE"), nullable=True, index=True
    ),
    # Little-endian float16, dimension × 2 bytes.
    Column("vector", LargeBinary, nullable=False),
)

change = Table(
    "change",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("channel_id", Id, ForeignKey("channel.id"), nullable=False),
    Column("embedding_id", Id, nullable=False),
    Column("added", Boolean, nullable=False),
)

Index("ix_caption_content_id_pipeline_id", caption.c.content_id, caption.c.pipeline_id)
Index("ix_embedding_content_id_channel_id", embedding.c.content_id, embedding.c.channel_id)
Index("ix_change_channel_id_position", change.c.channel_id, change.c.position)
Index("ix_asset_content_id_collection_id", asset.c.content_id, asset.c.collection_id)
