"""Indexes of sealed segments in files, searched by FAISS: the default vector engine."""
