"""Stacks of assets. All folders are marked, so that the next run or server finds theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_PAGE = 5000
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LIVE = "deleted_at IS NULL"
_LISTS = {
    "live": ["dated_at", "id", "deleted_at"],
    "live_in_collection": ["collection_id", "dated_at", "id", "deleted_at"],
}
_asset = sa.table("asset", *map(sa.column, ("id", "collection_id", "path", "managed")))
_folder = sa.table("stale_folder", sa.column("collection_id"), sa.column("path"))


def upgrade() -> None:
    """Add the column, the table and the indexes."""
    op.add_column("asset", sa.Column("stack_id", _ID, nullable=True))
    op.create_table(
        "stale_folder",
        sa.Column("id", _ID, primary_key=True),
        sa.Column(
            "collection_id",
            _ID,
            sa.ForeignKey("collection.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_stale_folder_collection_id_path", "stale_folder", ["collection_id", "path"])
    _mark_folders(op.get_bind())
    _create("stack", ["stack_id", "id", "deleted_at"], "stack_id IS NOT NULL")
    for name, columns in _LISTS.items():
        op.drop_index(f"ix_asset_{name}", "asset")
        _create(name, [*columns, "stack_id"], _LIVE)


def downgrade() -> None:
    """Drop them."""
    for name, columns in _LISTS.items():
        op.drop_index(f"ix_asset_{name}", "asset")
        _create(name, columns, _LIVE)
    op.drop_index("ix_asset_stack", "asset")
    op.drop_table("stale_folder")
    op.execute("ALTER TABLE asset DROP COLUMN stack_id")


def _create(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(
        f"ix_asset_{name}", "asset", columns, sqlite_where=where, postgresql_where=where
    )


def _mark_folders(connection: sa.Connection) -> None:
    """One row for each folder with an asset that is not an upload."""
    folders: set[tuple[int, bytes]] = set()
    after = 0
    while rows := connection.execute(
        sa.select(_asset.c.id, _asset.c.collection_id, _asset.c.path)
        .where(_asset.c.id > after, _asset.c.managed.is_not(True))
        .order_by(_asset.c.id)
        .limit(_PAGE)
    ).all():
        folders.update((row.collection_id, bytes(row.path).rpartition(b"/")[0]) for row in rows)
        after = rows[-1].id
    if folders:
        connection.execute(
            sa.insert(_folder),
            [{"collection_id": collection, "path": path} for collection, path in sorted(folders)],
        )
