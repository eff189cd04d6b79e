"""The vector indexes: one a channel, exact, derived from the catalog, kept on disk as immutable files."""
