"""Indexes in collections of a Milvus server."""
