"""Indexes in tables of the catalog's PostgreSQL."""
