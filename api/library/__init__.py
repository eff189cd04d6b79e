"""The Library interface, over a home and over a server, and what is behind it."""
