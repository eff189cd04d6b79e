"""Tiny random checkpoints in the published layouts, written without the code that loads them."""
