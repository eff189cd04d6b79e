"""Finds the video of a motion photo: an MP4 file after the end of a JPEG, or at the end of a HEIC.

Google's and Samsung's cameras write them. XMP says so in several ways, or does not; the video itself
is where it is. Samsung puts further data after it. In a HEIC it is what a box `mpvd` holds.
"""

from __future__ import annotations

_TYPE = b"ftyp"
# How many beginnings are tried, and how many boxes are read from each.
_MOST_BEGINNINGS = 16
_MOST_BOXES = 1000


def motion_video_offset(photo: bytes) -> int | None:
    """Where the video begins, in bytes from the start of the file; None if there is none."""
    place = len(photo)
    for _ in range(_MOST_BEGINNINGS):
        place = photo.rfind(_TYPE, 0, place)
        # A HEIC begins with such a box, too.
        if place <= 4:
            break
        if _has_index(photo, place - 4):
            return place - 4
    return None


def _has_index(data: bytes, position: int) -> bool:
    """Whether boxes that begin here (ISO/IEC 14496-12, 4.2) are whole up to the movie's index."""
    for _ in range(_MOST_BOXES):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8 or position + length > len(data):
            return False
        if kind == b"moov":
            return True
        position += length
    return False
