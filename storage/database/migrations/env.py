"""Runs the migrations over the connection that `storage.database` hands in, in one transaction."""

from __future__ import annotations

from alembic import context

from regard.storage.database.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
