"""The HTTP service: its routes under `/v1`, who may use them, and what it says when it refuses."""
