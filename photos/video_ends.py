"""Whether a video's container ends before it says it does, by its outermost structure."""

from __future__ import annotations

import os
from typing import BinaryIO

from regard.photos.formats import VideoFormat

_SEGMENT = b"\x18\x53\x80\x67"
_EBML_START = 4096
_MOST_BOXES = 100_000
# Outermost boxes of ISO base media and QuickTime files; some cameras append bytes of other kinds.
_BOXES = frozenset(
    b"ftyp styp moov moof mfra mdat sidx ssix prft emsg pdin meta uuid udta free skip wide pnot".split()
)
_UNKNOWN_RIFF_SIZE = 0xFFFFFFFF


def missing_bytes(file: BinaryIO, kind: VideoFormat) -> int:
    """How many bytes are missing at the end of a file; 0 if it is whole or its container is silent.

    Leaves the file at its start.
    """
    size = file.seek(0, os.SEEK_END)
    match kind:
        case VideoFormat.MP4 | VideoFormat.MOV:
            end = _end_of_boxes(file, size)
        case VideoFormat.AVI:
            file.seek(4)
            # Large files are of several such chunks, the first of which is at most 4 GiB.
            length = int.from_bytes(file.read(4), "little")
            # Programs that write a stream put 0 or this, and may never correct it.
            end = 0 if length in {0, _UNKNOWN_RIFF_SIZE} else 8 + length
        case _:
            file.seek(0)
            end = _end_of_segment(file.read(_EBML_START))
    file.seek(0)
    return max(end - size, 0)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Where the last box of an ISO base media file ends (ISO/IEC 14496-12, 4.2)."""
    position = 0
    for _ in range(_MOST_BOXES):
        if position + 8 > size:
            break
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        # 0 reaches to the end of the file. Less than a header is padding, or damage.
        if length < 8 or (position + length > size and header[4:8] not in _BOXES):
            break
        position += length
    return position


def _end_of_segment(start: bytes) -> int:
    """Where the segment of a Matroska file ends (RFC 8794, 4); 0 if it is of unknown size."""
    place = start.find(_SEGMENT)
    if place < 0 or place + 5 > len(start):
        return 0
    place += len(_SEGMENT)
    width = 9 - start[place].bit_length()
    number = int.from_bytes(start[place : place + width], "big")
    limit = 1 << 7 * width
    length = number & (limit - 1)
    return 0 if width > 8 or length == limit - 1 else place + width + length
