"""Duplicates: which photographs are copies, bursts or show the same thing, and which of them to
keep."""
