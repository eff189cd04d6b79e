"""What the service keeps: edits and trash of assets, their change log, jobs, keys, repeated
requests."""

from __future__ import annotations

import datetime
import os
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite makes an autoincrementing key of INTEGER alone.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ASSET_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "file_name": sa.Text(),
    "external_id": sa.Text(),
    "managed": sa.Boolean(),
    "edited_title": sa.Text(),
    "custom": sa.Text(),
    "added_at": sa.DateTime(),
    "dated_at": sa.DateTime(),
    "deleted_at": sa.DateTime(),
}
_PAGE = 1000


def upgrade() -> None:
    """Make the tables and columns, and fill them for the assets that are there."""
    op.add_column("collection", sa.Column("created_at", sa.DateTime(), nullable=True))
    for name, kind in _ASSET_COLUMNS.items():
        op.add_column("asset", sa.Column(name, kind, nullable=True))
    op.create_table(
        "asset_tag",
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["asset.id"],
            name=op.f("fk_asset_tag_asset_id_asset"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("asset_id", "tag", name=op.f("pk_asset_tag")),
    )
    op.create_index(op.f("ix_asset_tag_tag"), "asset_tag", ["tag"])
    op.create_table(
        "asset_field",
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["asset.id"],
            name=op.f("fk_asset_field_asset_id_asset"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("asset_id", "name", name=op.f("pk_asset_field")),
    )
    op.create_index("ix_asset_field_name_value", "asset_field", ["name", "value"])
    op.create_table(
        "asset_change",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("asset_id", _ID, nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_asset_change")),
    )
    op.create_table(
        "job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collection.id"],
            name=op.f("fk_job_collection_id_collection"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_job_state"), "job", ["state"])
    op.create_table(
        "api_key",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("collections", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_key_secret_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency",
        sa.Column("caller", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_idempotency")),
    )
    _fill(op.get_bind())
    op.create_index(
        "ix_asset_change_collection_id_position", "asset_change", ["collection_id", "position"]
    )
    op.create_index(
        "uq_asset_collection_id_external_id", "asset", ["collection_id", "external_id"], unique=True
    )
    op.create_index(
        "ix_asset_collection_id_dated_at_id", "asset", ["collection_id", "dated_at", "id"]
    )
    op.create_index("ix_asset_deleted_at", "asset", ["deleted_at"])


def downgrade() -> None:
    """Remove them."""
    for name in (
        "ix_asset_deleted_at",
        "ix_asset_collection_id_dated_at_id",
        "uq_asset_collection_id_external_id",
    ):
        op.drop_index(name, "asset")
    for name in ("idempotency", "api_key", "job", "asset_change", "asset_field", "asset_tag"):
        op.drop_table(name)
    for name in reversed(_ASSET_COLUMNS):
        op.drop_column("asset", name)
    op.drop_column("collection", "created_at")


def _fill(connection: sa.Connection) -> None:
    """Names, dates, tags and the first entries of the change log, page by page."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    connection.execute(sa.text("UPDATE collection SET created_at = :now"), {"now": now})
    connection.execute(
        sa.text(
            "INSERT INTO asset_tag (asset_id, tag) SELECT DISTINCT asset_id, keyword FROM asset_keyword"
        )
    )
    asset = sa.table(
        "asset",
        *(sa.column(name) for name in ("id", "collection_id", "uri", "mtime_ns", "file_name")),
        *(sa.column(name, sa.DateTime()) for name in ("taken_at", "added_at", "dated_at")),
    )
    change = sa.table(
        "asset_change",
        *(sa.column(name) for name in ("position", "asset_id", "collection_id", "kind")),
        sa.column("changed_at", sa.DateTime()),
    )
    # The counter of assets numbers their changes from now on; no cached filter outlives an
    # upgrade.
    position = connection.execute(
        sa.text("SELECT value FROM counter WHERE name = 'assets'")
    ).scalar_one_or_none()
    if position is None:  # a new database: the counters come later
        return
    after = 0
    while True:
        rows = connection.execute(
            sa.select(asset).where(asset.c.id > after).order_by(asset.c.id).limit(_PAGE)
        ).all()
        if not rows:
            break
        for row in rows:
            connection.execute(
                sa.update(asset)
                .where(asset.c.id == row.id)
                .values(
                    file_name=os.path.basename(row.uri),
                    added_at=now,
                    dated_at=row.taken_at or _time_of(row.mtime_ns),
                )
            )
        connection.execute(
            sa.insert(change),
            [
                {
                    "position": position + number,
                    "asset_id": row.id,
                    "collection_id": row.collection_id,
                    "kind": "added",
                    "changed_at": now,
                }
                for number, row in enumerate(rows, start=1)
            ],
        )
        position += len(rows)
        after = rows[-1].id
    connection.execute(
        sa.text("UPDATE counter SET value = :position WHERE name = 'assets'"),
        {"position": position},
    )


def _time_of(mtime_ns: int) -> datetime.datetime:
    epoch = datetime.datetime(1970, 1, 1)
    try:
        return epoch + datetime.timedelta(microseconds=mtime_ns // 1000)
    except OverflowError:
        return epoch
