"""Opens files that are photographs or videos, told apart by their first bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from regard.core.records import Image
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.photos.files import Confinement, FilePath, open_regular
from regard.photos.formats import SNIFF_BYTES, sniff_video
from regard.photos.photo_file import PhotoFile
from regard.photos.video import VideoFile

# A server's request waits for a single frame.
_MOST_SECONDS_A_FRAME = 20.0


@contextmanager
def open_media(
    path: FilePath,
    limits: DecodeLimits = DEFAULT_LIMITS,
    within: Confinement | None = None,
    name: str = "",
) -> Iterator[PhotoFile | VideoFile]:
    """Open the photograph or video at `path`, unless it leads out of `within`.

    A photograph is read, as by `PhotoFile.open`; a video is not, and may be of any size. Its facts
    depend on the `name` that a camera gave to the file, too. Raises DecodeError.
    """
    with (
        open_regular(path, within, limits.max_bytes) as file,
        media_in(file, limits, name) as media,
    ):
        yield media


@contextmanager
def media_in(
    file: BinaryIO, limits: DecodeLimits = DEFAULT_LIMITS, name: str = ""
) -> Iterator[PhotoFile | VideoFile]:
    """The photograph or video in an open file, which a photograph closes; raises DecodeError."""
    if _is_video(file):
        with VideoFile(file, limits, name) as video:
            yield video
        return
    with PhotoFile.read_from(file, limits) as photo:
        yield photo


def decode_picture(
    file: BinaryIO,
    limits: DecodeLimits = DEFAULT_LIMITS,
    *,
    time_ms: int | None = None,
    reduced_to: int | None = None,
) -> Image:
    """The pixels of an open file, of a video those of the frame at `time_ms`; raises DecodeError.

    With `reduced_to`, a JPEG may be decoded at a smaller size, whose longer side is at least as
    long, and the frame of a video is scaled down to it.
    """
    if not _is_video(file):
        return PhotoFile(file.read(limits.max_bytes + 1), limits).decode(reduced_to=reduced_to)
    with VideoFile(file, limits) as video:
        (frame,) = video.frames(
            [time_ms or 0], reduced_to=reduced_to, most_seconds=_MOST_SECONDS_A_FRAME
        )
        return frame[1]


def _is_video(file: BinaryIO) -> bool:
    head = file.read(SNIFF_BYTES)
    file.seek(0)
    return sniff_video(head) is not None
