"""SAM2-UNet: foreground segmentation with SAM 2's image encoder and a U-shaped decoder."""
