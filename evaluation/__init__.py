"""Measures search, regions and captions on labelled data."""
