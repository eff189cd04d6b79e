"""xGen-MM (BLIP-3) v1.5, built from its published weights without its published code."""
