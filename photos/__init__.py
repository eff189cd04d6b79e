"""A file on disk or in a store becomes bytes, pixels and facts."""
