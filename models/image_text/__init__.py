"""Captions by any image-text-to-text model of transformers, through its own processor."""
