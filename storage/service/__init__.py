"""What the HTTP service keeps: jobs, keys and idempotent requests."""
