"""Assets: written, read, edited and filtered."""
