"""Writes, reads, edits and filters assets."""
