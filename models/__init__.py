"""What sees and reads: encoders, captioners, segmenters, and the profiles that name them."""
