"""Profiles: which models work together, as TOML files, and how they are found, checked and
composed."""
