"""The Library interface, and the wiring of the concrete parts behind it."""
