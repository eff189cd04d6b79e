"""Exact vector indexes, one per channel, derived from the catalog and stored as immutable
files."""
