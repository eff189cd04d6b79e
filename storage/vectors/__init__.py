"""Vector engines: what keeps one index for each channel, derived from the catalog."""
