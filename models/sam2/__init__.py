"""SAM 2 as a segmenter: everything in a photograph, found by asking about a grid of points."""
