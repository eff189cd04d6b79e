"""Fewer index entries for each new photograph.

No query looks for keywords, only for tags. Few assets have an external id, and few captions a
region, so the indexes of these leave out all others.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_HAS_ID = sa.text("external_id IS NOT NULL")
_HAS_REGION = sa.text("region_id IS NOT NULL")


def upgrade() -> None:
    """Drop or replace them."""
    op.drop_index("ix_asset_keyword_keyword", "asset_keyword")
    op.drop_index("ix_asset_external_id", "asset")
    op.drop_index("uq_asset_collection_id_external_id", "asset")
    op.create_index(
        "uq_asset_external_id_collection_id",
        "asset",
        ["external_id", "collection_id"],
        unique=True,
        sqlite_where=_HAS_ID,
        postgresql_where=_HAS_ID,
    )
    op.drop_index("ix_caption_region_id", "caption")
    op.create_index(
        "ix_caption_region_id",
        "caption",
        ["region_id"],
        sqlite_where=_HAS_REGION,
        postgresql_where=_HAS_REGION,
    )


def downgrade() -> None:
    """Restore the former indexes."""
    op.drop_index("ix_caption_region_id", "caption")
    op.create_index("ix_caption_region_id", "caption", ["region_id"])
    op.drop_index("uq_asset_external_id_collection_id", "asset")
    op.create_index(
        "uq_asset_collection_id_external_id", "asset", ["collection_id", "external_id"], unique=True
    )
    op.create_index(
        "ix_asset_external_id",
        "asset",
        ["external_id"],
        sqlite_where=_HAS_ID,
        postgresql_where=_HAS_ID,
    )
    op.create_index("ix_asset_keyword_keyword", "asset_keyword", ["keyword"])
