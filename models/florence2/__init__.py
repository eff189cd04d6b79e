"""Florence-2: captions of images and regions, and the place that a text names, by one model."""
