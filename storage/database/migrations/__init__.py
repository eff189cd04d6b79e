"""Alembic's environment and the numbered, append-only migrations of the catalog."""
