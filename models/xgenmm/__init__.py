"""xGen-MM (BLIP-3) v1.5 from its published weights, without its published code."""
