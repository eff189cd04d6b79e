"""The folded name of the lens, for filters."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_LOWER = {"sqlite": "lower(lens)", "postgresql": 'lower(lens COLLATE "C")'}


def upgrade() -> None:
    """Add the column and its index."""
    dialect = op.get_bind().dialect.name
    # SQLite can add only virtual columns, PostgreSQL can index only stored ones.
    kind = "VIRTUAL" if dialect == "sqlite" else "STORED"
    op.execute(
        f"ALTER TABLE asset ADD COLUMN lens_folded TEXT GENERATED ALWAYS AS ({_LOWER[dialect]}) {kind}"
    )
    op.create_index("ix_asset_lens_folded", "asset", ["lens_folded"])


def downgrade() -> None:
    """Drop the column."""
    op.drop_index("ix_asset_lens_folded", "asset")
    op.execute("ALTER TABLE asset DROP COLUMN lens_folded")
