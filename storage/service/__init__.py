"""Stored state of the HTTP service: jobs, keys and idempotent requests."""
