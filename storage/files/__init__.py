"""Originals, thumbnails and durable writes."""
