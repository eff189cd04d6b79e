"""Finds in a photograph what a text names: a box by a grounding model, its mask by SAM 2."""
