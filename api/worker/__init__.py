"""The process that does the service's jobs."""
