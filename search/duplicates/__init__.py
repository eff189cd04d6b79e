"""Finding copies, bursts and photographs of the same thing, and choosing which to keep."""
