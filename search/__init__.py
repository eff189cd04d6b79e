"""Query to hits: encode, search the channels, fuse, hydrate."""
