"""Columns that the database derives from others, and indexes for lists, filters and counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_MAKE, _MODEL = "coalesce(camera_make, '')", "coalesce(camera_model, '')"
_BEGIN = f"substr({_MODEL}, 1, length({_MAKE}))"
_LOWER = {"sqlite": "lower({})", "postgresql": 'lower(({}) COLLATE "C")'}
_YEAR, _MONTH = (
    f"lpad(CAST(CAST(extract({part} FROM taken_at) AS integer) AS text), {width}, '0')"
    for part, width in (("year", 4), ("month", 2))
)
_MONTHS = {
    "sqlite": ("substr(taken_at, 1, 4)", "substr(taken_at, 1, 7)"),
    "postgresql": (_YEAR, f"{_YEAR} || '-' || {_MONTH}"),
}
_DERIVED = ("camera", "camera_folded", "camera_model_folded", "taken_month", "comparable_path")

_LIVE, _TRASHED = "deleted_at IS NULL", "deleted_at IS NOT NULL"
_PARTIAL = {
    "live": ("dated_at id deleted_at", _LIVE),
    "live_in_collection": ("collection_id dated_at id deleted_at", _LIVE),
    "trashed": ("dated_at id deleted_at", _TRASHED),
    "trashed_in_collection": ("collection_id dated_at id deleted_at", _TRASHED),
    "failed": ("collection_id id failure", "failure IS NOT NULL"),
    "managed": ("collection_id id", "managed IS {true}"),
    "taken": ("taken_at taken_precision deleted_at", f"{_LIVE} AND taken_at IS NOT NULL"),
    "month": ("taken_month deleted_at", f"{_LIVE} AND taken_month IS NOT NULL"),
    "camera": ("camera taken_at id deleted_at", f"{_LIVE} AND camera IS NOT NULL"),
    "place": ("latitude longitude", f"{_LIVE} AND latitude IS NOT NULL"),
    "external_id": ("external_id", "external_id IS NOT NULL"),
    "title": ("id", f"{_LIVE} AND coalesce(edited_title, title) <> ''"),
    "description": ("id", f"{_LIVE} AND description <> ''"),
    "lens": ("id", f"{_LIVE} AND lens <> ''"),
    "rating": ("rating", f"{_LIVE} AND rating IS NOT NULL"),
}
# Of conditions within OR, SQLite uses only indexes of all assets.
_WHOLE = ("camera_folded", "camera_model_folded", "comparable_path")
_FORMER = {
    "ix_asset_taken_at": ["taken_at"],
    "ix_asset_deleted_at": ["deleted_at"],
    "ix_asset_collection_id_dated_at_id": ["collection_id", "dated_at", "id"],
}


def upgrade() -> None:
    """Add the columns and indexes."""
    dialect = op.get_bind().dialect.name
    # SQLite can add only virtual columns, PostgreSQL can index only stored ones.
    kind = "VIRTUAL" if dialect == "sqlite" else "STORED"
    for name, (type_, expression) in _expressions(dialect).items():
        op.execute(
            f"ALTER TABLE asset ADD COLUMN {name} {type_} GENERATED ALWAYS AS ({expression}) {kind}"
        )
    for name in _FORMER:
        op.drop_index(name, "asset")
    truth = "1" if dialect == "sqlite" else "true"
    for name, (columns, condition) in _PARTIAL.items():
        where = sa.text(condition.replace("{true}", truth))
        op.create_index(
            f"ix_asset_{name}",
            "asset",
            columns.split(),
            sqlite_where=where,
            postgresql_where=where,
        )
    for name in _WHOLE:
        op.create_index(f"ix_asset_{name}", "asset", [name])
    op.drop_index("ix_asset_tag_tag", "asset_tag")
    op.create_index("ix_asset_tag_tag_asset_id", "asset_tag", ["tag", "asset_id"])


def downgrade() -> None:
    """Restore the former indexes and drop the columns."""
    op.drop_index("ix_asset_tag_tag_asset_id", "asset_tag")
    op.create_index("ix_asset_tag_tag", "asset_tag", ["tag"])
    for name in (*_PARTIAL, *_WHOLE):
        op.drop_index(f"ix_asset_{name}", "asset")
    for name, columns in _FORMER.items():
        op.create_index(name, "asset", columns)
    for name in reversed(_DERIVED):
        op.execute(f"ALTER TABLE asset DROP COLUMN {name}")


def _expressions(dialect: str) -> dict[str, tuple[str, str]]:
    """The types and expressions of the derived columns, by name."""
    lower = _LOWER[dialect].format
    camera = (
        f"nullif(CASE WHEN {_MAKE} = '' OR {lower(_BEGIN)} = {lower(_MAKE)} THEN {_MODEL} "
        f"WHEN {_MODEL} = '' THEN {_MAKE} ELSE {_MAKE} || ' ' || {_MODEL} END, '')"
    )
    year, month = _MONTHS[dialect]
    return {
        "camera": ("TEXT", camera),
        "camera_folded": ("TEXT", lower(camera)),
        "camera_model_folded": ("TEXT", lower("camera_model")),
        "taken_month": (
            "TEXT",
            f"CASE WHEN taken_precision = 'year' THEN {year} ELSE {month} END",
        ),
        "comparable_path": (
            "BLOB" if dialect == "sqlite" else "BYTEA",
            "coalesce(composed_path, path)",
        ),
    }
