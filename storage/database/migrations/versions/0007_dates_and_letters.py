"""Partial dates, and names with composed letters (NFC): collections, keywords, tags, paths."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PAGE = 1000
_asset = sa.table(
    "asset", *(sa.column(name) for name in ("id", "taken_at", "taken_precision")),
    sa.column("path", sa.LargeBinary()), sa.column("composed_path", sa.LargeBinary()),
)  # fmt: skip
_collection = sa.table("collection", sa.column("id"), sa.column("name"))
_keyword = sa.table("asset_keyword", *map(sa.column, ("asset_id", "position", "keyword")))
_tag = sa.table("asset_tag", sa.column("asset_id"), sa.column("tag"))
_field = sa.table("asset_field", *map(sa.column, ("asset_id", "name", "value")))
_key = sa.table("api_key", sa.column("id"), sa.column("collections"))


def upgrade() -> None:
    """Add the columns, and compose what was written in parts; equal names become one."""
    op.add_column("asset", sa.Column("taken_precision", sa.String(8), nullable=True))
    op.add_column("asset", sa.Column("composed_path", sa.LargeBinary(), nullable=True))
    connection = op.get_bind()
    connection.execute(
        sa.update(_asset).where(_asset.c.taken_at.is_not(None)).values(taken_precision="time")
    )
    _compose_paths(connection)
    _compose_collections(connection)
    for table, column in ((_keyword, "keyword"), (_field, "value")):
        for row in _in_parts(connection, table, column):
            same = (item == row[item.name] for item in table.columns if item.name != column)
            connection.execute(
                sa.update(table).where(*same).values({column: _composed(row[column])})
            )
    for row in _in_parts(connection, _tag, "tag"):
        of_asset = _tag.c.asset_id == row["asset_id"]
        this, composed = of_asset & (_tag.c.tag == row["tag"]), _composed(row["tag"])
        if connection.execute(sa.select(_tag).where(of_asset, _tag.c.tag == composed)).first():
            connection.execute(sa.delete(_tag).where(this))
        else:
            connection.execute(sa.update(_tag).where(this).values(tag=composed))


def downgrade() -> None:
    """Drop the columns; names stay composed."""
    op.drop_column("asset", "composed_path")
    op.drop_column("asset", "taken_precision")


def _compose_paths(connection: sa.Connection) -> None:
    after = 0
    while rows := connection.execute(
        sa.select(_asset.c.id, _asset.c.path)
        .where(_asset.c.id > after)
        .order_by(_asset.c.id)
        .limit(_PAGE)
    ).all():
        for row in rows:
            path = bytes(row.path)
            text = _composed(path.decode("utf-8", "surrogateescape"))
            composed = text.encode("utf-8", "surrogateescape")
            if composed != path:
                connection.execute(
                    sa.update(_asset).where(_asset.c.id == row.id).values(composed_path=composed)
                )
        after = rows[-1].id


def _compose_collections(connection: sa.Connection) -> None:
    """Compose the names; a collection whose name is taken gets a number."""
    rows = connection.execute(sa.select(_collection).order_by(_collection.c.id)).all()
    names = {row.name for row in rows}
    renamed = {}
    for row in rows:
        composed = _composed(row.name)
        if composed == row.name:
            continue
        name, number = composed, 2
        while name in names:
            name, number = f"{composed} ({number})", number + 1
        names.add(name)
        renamed[row.name] = name
        connection.execute(
            sa.update(_collection).where(_collection.c.id == row.id).values(name=name)
        )
    for key in connection.execute(sa.select(_key).where(_key.c.collections.is_not(None))).all():
        bound = [renamed.get(name, name) for name in json.loads(key.collections)]
        connection.execute(
            sa.update(_key).where(_key.c.id == key.id).values(collections=json.dumps(bound))
        )


def _in_parts(
    connection: sa.Connection, table: sa.TableClause, column: str
) -> Iterator[sa.RowMapping]:
    """The rows whose text is not composed."""
    for row in connection.execute(sa.select(table)).mappings().all():
        if _composed(row[column]) != row[column]:
            yield row


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
