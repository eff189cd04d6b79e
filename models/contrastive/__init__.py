"""Contrastive encoders in transformers form: SigLIP, SigLIP 2 and CLIP, images and texts in one
space."""
