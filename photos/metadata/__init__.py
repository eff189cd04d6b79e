"""EXIF, IPTC and XMP become a photograph's facts."""
