"""SAM 2 as a segmenter of everything in an image, prompted with a grid of points."""
