"""Exports the catalog as files that other programs read, and imports them."""
