"""Captions by any image-text-to-text model of transformers, with its own processor."""
