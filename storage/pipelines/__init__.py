"""Pipelines and what they made: analyses, switching, pruning and reindexing."""
