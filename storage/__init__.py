"""The catalog, which is the truth, and the vector indexes, which are derived from it."""
