"""Analyses of pipelines; switching, pruning and reindexing."""
