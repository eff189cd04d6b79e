"""Pipelines beside the live one: since when each is live or kept, what it can't analyse, jobs for
all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# SQLite makes an autoincrementing key of INTEGER alone.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIMES = ("live_since", "replaced_at", "pruned_at")


def upgrade() -> None:
    """Make them; a home that is there counts none of its positions as pruned."""
    for name in _TIMES:
        op.add_column("pipeline", sa.Column(name, sa.DateTime(), nullable=True))
    op.create_table(
        "analysis_failure",
        sa.Column("content_id", _ID, nullable=False),
        sa.Column("pipeline_id", _ID, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["content_id"],
            ["content.id"],
            name=op.f("fk_analysis_failure_content_id_content"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["pipeline.id"],
            name=op.f("fk_analysis_failure_pipeline_id_pipeline"),
        ),
        sa.PrimaryKeyConstraint("content_id", "pipeline_id", name=op.f("pk_analysis_failure")),
    )
    # A home that is only just made gets all its counters later.
    op.execute(
        "INSERT INTO counter (name, value) "
        "SELECT 'pruned', 0 FROM catalog_info WHERE key = 'catalog_uuid'"
    )
    _let_jobs_be_of_no_collection(True)


def downgrade() -> None:
    """Take them back; pipelines that are not live, and jobs of no collection, go."""
    op.execute("DELETE FROM job WHERE collection_id IS NULL")
    _let_jobs_be_of_no_collection(False)
    op.execute("DELETE FROM counter WHERE name = 'pruned'")
    op.drop_table("analysis_failure")
    for name in reversed(_TIMES):
        op.drop_column("pipeline", name)


def _let_jobs_be_of_no_collection(nullable: bool) -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        op.alter_column("job", "collection_id", existing_type=_ID, nullable=nullable)
        return
    # SQLite rebuilds the table, and would forget which ids were used.
    used = connection.execute(
        sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'job'")
    ).scalar_one_or_none()
    with op.batch_alter_table(
        "job", recreate="always", table_kwargs={"sqlite_autoincrement": True}
    ) as table:
        table.alter_column("collection_id", existing_type=_ID, nullable=nullable)
    if used is not None:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'job'"))
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('job', :used)"),
            {"used": used},
        )
