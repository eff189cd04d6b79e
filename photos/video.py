"""Reads videos by PyAV: what the container says, where its moments are, and single frames.

Videos are not trusted, and may be of any length. A file is read in portions and never whole, and
frames are decoded one at a time; the size of each is checked before it is decoded. Only the demuxer
of the container that the first bytes name is used, so that no file can make FFmpeg open another one.
Damaged parts are passed over. A file that ends before its container does is refused, as is one in
which most is damaged; like those of photographs, all failures are a DecodeError with the reason.

Times are milliseconds from the beginning of the container.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from regard.core.catalog import ContentHeader
from regard.core.errors import DecodeError, UnknownFormat
from regard.core.facts import PhotoFacts
from regard.core.records import Float32Array, Image
from regard.photos.buckets import ObjectCopy, ObjectStatus
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits, check_pixels, decoder_errors
from regard.photos.formats import SNIFF_BYTES, VideoFormat, sniff_video
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import read_facts
from regard.photos.metadata.video import container_facts
from regard.photos.metadata.xmp import XmpPacket
from regard.photos.moments import SIDE, MomentChooser, Moments
from regard.photos.video_ends import missing_bytes

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_DEMUXERS = {
    VideoFormat.MP4: "mov",
    VideoFormat.MOV: "mov",
    VideoFormat.MKV: "matroska",
    VideoFormat.WEBM: "matroska",
    VideoFormat.AVI: "avi",
}
# 8K, in which a decoder may keep 16 frames of 57 MB.
_MOST_PIXELS = 8192 * 4608
_THREADS = 4
# Frames are compared twice a second, so that a moment is at most half a second late.
_STEP_MS = 500
# What has key frames at least this often is compared by these alone.
_KEY_STEP_MS = 1000
_PROBED_PACKETS, _PROBED_MS = 2000, 20_000
# Up to this far ahead, decoding on is no slower than seeking.
_NEAR_MS = 2000
# Decoding for longer, or errors in more than half of what was decoded, ends the search for moments.
_MOST_SECONDS = 3600.0
# A request of a server waits for the header of an upload.
_MOST_SECONDS_OF_HEADER = 20.0
_FEW_ERRORS = 20
# What a column of 32 bits holds: 24 days.
_LAST_MS = 2**31 - 1
_DURATION_SLACK_MS = 2000

Checkpoint = Callable[[], None]
"""Called often while a video is decoded; raises what should end that."""


def _go_on() -> None:
    """A checkpoint that never ends anything."""


@cache
def has_decoder() -> bool:
    """Whether the package that decodes videos is installed."""
    return importlib.util.find_spec("av") is not None


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a container and its first frame say: pixels as shown, and the duration if it is told."""

    width: int
    height: int
    duration_ms: int | None


class VideoFile:
    """An open video; close it. For one thread at a time."""

    def __init__(
        self, file: BinaryIO, limits: DecodeLimits = DEFAULT_LIMITS, name: str = ""
    ) -> None:
        """Recognise the container; `file` stays the caller's. Raises DecodeError.

        `name` is the one that a camera gave to the file.
        """
        if not has_decoder():
            raise UnknownFormat("it is a video, which needs the package av: regard[video]")
        kind = sniff_video(file.read(SNIFF_BYTES))
        if kind is None:
            raise DecodeError("it is not a video of a known format")
        self.format = kind
        self.object_status: ObjectStatus | None = (
            file.status if isinstance(file, ObjectCopy) else None
        )
        self._file = file
        self._limits = limits
        self._name = name
        self._opened = contextlib.ExitStack()
        if missing := missing_bytes(file, kind):
            raise DecodeError(f"it is cut short: {missing:,} bytes are missing at its end")

    def close(self) -> None:
        """Free the decoder."""
        self._opened.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hex."""
        self._file.seek(0)
        digest = hashlib.sha256()
        while portion := self._file.read(1 << 20):
            digest.update(portion)
        return digest.hexdigest()

    @cached_property
    def header(self) -> VideoHeader:
        """Size and duration; raises DecodeError if no frame can be decoded."""
        ends_at = time.monotonic() + _MOST_SECONDS_OF_HEADER

        def check() -> None:
            if time.monotonic() >= ends_at:
                raise DecodeError("it takes too long to find its first frame")

        for _, frame in self._frames(check):
            width, height = self._shown_size(frame)
            if frame.rotation % 180:
                width, height = height, width
            duration_ms = (self._container.duration or 0) // 1000
            is_told = 0 < duration_ms <= _LAST_MS
            return VideoHeader(width, height, duration_ms if is_told else None)
        raise DecodeError(f"no frame of its {self.format} video can be decoded")

    def facts(self, sidecar: XmpPacket | None = None) -> PhotoFacts:
        """What the container, a sidecar and the name that a camera gave say; raises DecodeError."""
        # Those of the stream are rarer, and the container's own come first.
        tags = {**self._stream.metadata, **self._container.metadata}
        duration_ms = (self._container.duration or 0) // 1000
        known = read_facts(MetadataBlocks(), sidecar)
        return container_facts(tags, known, self._name, min(max(duration_ms, 0), _LAST_MS))

    def content(self, image: Image | None = None) -> ContentHeader:
        """Identity and form; raises DecodeError."""
        del image
        header = self.header
        return ContentHeader(
            *(self.sha256, str(self.format), header.width, header.height),
            duration_ms=header.duration_ms or 0,
        )

    def moments(
        self, chooser: MomentChooser, checkpoint: Checkpoint = _go_on
    ) -> tuple[Moments, int]:
        """The moments, and the duration in ms, as far as the video can be decoded.

        Raises DecodeError if no frame can be.
        """
        step = self._step()
        next_ms = last_ms = -1
        ends_at = time.monotonic() + _MOST_SECONDS
        for at_ms, frame in self._frames(checkpoint, step):
            if at_ms >= next_ms:
                chooser.add(at_ms, self._picture(frame))
                next_ms = at_ms + _STEP_MS
            last_ms = max(last_ms, at_ms)
            if time.monotonic() >= ends_at:
                break
        if last_ms < 0:
            raise DecodeError(f"no frame of its {self.format} video can be decoded")
        told = self.header.duration_ms or 0
        is_likely = last_ms <= told <= last_ms + _DURATION_SLACK_MS
        duration = told if is_likely else last_ms + 1
        return chooser.choose(duration), duration

    def frames(
        self,
        times: Sequence[int],
        *,
        reduced_to: int | None = None,
        checkpoint: Checkpoint = _go_on,
        most_seconds: float = _MOST_SECONDS,
    ) -> Iterator[tuple[int, Image]]:
        """The first frame at or after each of ascending times, as (time asked for, pixels).

        Frames whose longer side is more than `reduced_to` are scaled down to it. A time after the
        last frame gives that one. Raises DecodeError, also once the search for frames has taken
        `most_seconds`; the time that the caller takes between them does not count.
        """
        ends_at = time.monotonic() + most_seconds

        def check() -> None:
            checkpoint()
            if time.monotonic() >= ends_at:
                raise DecodeError("it takes too long to find its frames")

        for found in self._frames_at(times, reduced_to, check):
            given_at = time.monotonic()
            yield found
            ends_at += time.monotonic() - given_at

    def _frames_at(
        self, times: Sequence[int], reduced_to: int | None, checkpoint: Checkpoint
    ) -> Iterator[tuple[int, Image]]:
        waiting = list(times)
        last: VideoFrame | None = None
        last_ms, near_ms = -1, _NEAR_MS
        with decoder_errors(self.format, self._limits):
            while waiting:
                has_sought = True
                for at_ms, frame in self._frames(checkpoint, seek_ms=waiting[0]):
                    if has_sought:
                        # Where seeking led back by some time, only seek for more than that, so
                        # that all seeks together decode the video at most a few times.
                        near_ms = max(near_ms, last_ms - at_ms)
                        has_sought = False
                    last, last_ms = frame, at_ms
                    if at_ms < waiting[0]:
                        continue
                    while waiting and at_ms >= waiting[0]:
                        yield waiting.pop(0), self._image(frame, reduced_to)
                    if not waiting or waiting[0] - at_ms > near_ms:
                        break
                else:
                    if last is None:
                        raise DecodeError(f"no frame of its {self.format} video can be decoded")
                    while waiting:
                        yield waiting.pop(0), self._image(last, reduced_to)

    @property
    def _most_pixels(self) -> int:
        return min(self._limits.max_pixels, _MOST_PIXELS)

    @cached_property
    def _container(self) -> InputContainer:
        import av

        with decoder_errors(self.format, self._limits):
            self._file.seek(0)
            opened = av.open(
                *(self._file, "r", _DEMUXERS[self.format]),
                metadata_errors="replace",
                # Opening decodes a frame where the container does not tell enough.
                options={"max_pixels": str(self._most_pixels)},
            )
            self._opened.callback(opened.close)
            return opened

    @cached_property
    def _stream(self) -> VideoStream:
        stream: Any = self._container.streams.best("video")
        # A cover of music is a stream of video, too.
        if stream is None or int(stream.disposition) & _attached_picture():
            raise DecodeError("it has no video")
        context = stream.codec_context
        most = self._most_pixels
        if not context.width or not context.height:
            # FFmpeg forgets a size above the limit that it was opened with.
            raise DecodeError(f"it has more than {most:,} pixels, or does not tell its size")
        if context.width * context.height > most:
            raise DecodeError(
                f"it has {context.width} × {context.height} pixels, more than {most:,}"
            )
        # Frames may become larger later on.
        context.options = {"max_pixels": str(most)}
        context.thread_type = "AUTO"
        context.thread_count = _THREADS
        found: VideoStream = stream
        return found

    def _step(self) -> int | None:
        """How often key frames are compared, in ms; None if they are too rare for that."""
        keys: list[int] = []
        for seen, (at_ms, packet) in enumerate(self._packets(_go_on)):
            if packet.is_keyframe:
                keys.append(at_ms)
            if seen >= _PROBED_PACKETS or at_ms >= _PROBED_MS:
                break
        gaps = [after - before for before, after in itertools.pairwise(keys)]
        return _STEP_MS if len(gaps) >= 2 and max(gaps) <= _KEY_STEP_MS else None

    def _packets(
        self, checkpoint: Checkpoint, seek_ms: int | None = None
    ) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """The packets from the key frame before a time, with their times."""
        import av

        start = self._container.start_time or 0
        target = start + 1000 * (seek_ms or 0)
        with contextlib.suppress(av.FFmpegError):
            # What can't be searched is read on, from where it is.
            self._container.seek(target)
        try:
            for packet in self._container.demux(self._stream):
                checkpoint()
                yield self._time_of(packet.pts, packet.dts), packet
        except (av.FFmpegError, EOFError):
            # Nothing can be read beyond this place.
            return

    def _frames(
        self, checkpoint: Checkpoint, step: int | None = None, seek_ms: int | None = None
    ) -> Iterator[tuple[int, VideoFrame]]:
        """The sound frames from a time on; with a `step`, only key frames about that far apart."""
        import av

        with decoder_errors(self.format, self._limits):
            context = self._stream.codec_context
            # Frames that no other one needs are not decoded where many are compared.
            context.skip_frame = "NONREF" if seek_ms is None else "DEFAULT"
            decoded = errors = 0
            next_ms = -1
            for packet_ms, packet in self._packets(checkpoint, seek_ms):
                if step is not None and packet.size:
                    if not packet.is_keyframe or packet_ms < next_ms:
                        continue
                    next_ms = packet_ms + step
                try:
                    frames = packet.decode()
                except EOFError:
                    continue
                except av.FFmpegError:
                    errors += 1
                    if errors > _FEW_ERRORS + decoded:
                        raise
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        errors += 1
                        continue
                    decoded += 1
                    yield self._time_of(frame.pts, frame.dts), frame

    def _time_of(self, pts: int | None, dts: int | None) -> int:
        """Milliseconds from the start; 0 where no time is told."""
        ticks = dts if pts is None else pts
        base = self._stream.time_base
        if ticks is None or base is None:
            return 0
        start = (self._container.start_time or 0) // 1000
        return min(max(round(1000 * ticks * base) - start, 0), _LAST_MS)

    def _shown_size(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height in square pixels, before the frame is turned."""
        check_pixels(frame.width, frame.height, self._limits)
        shape = self._stream.sample_aspect_ratio
        if not shape or not 0.2 <= shape <= 5:
            return frame.width, frame.height
        return max(round(frame.width * shape), 1), frame.height

    def _image(self, frame: VideoFrame, reduced_to: int | None) -> Image:
        width, height = self._shown_size(frame)
        longest = max(width, height)
        scale = 1.0 if reduced_to is None else min(1.0, reduced_to / longest)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        small = frame.reformat(*size, format="rgb24", interpolation="AREA")
        pixels = np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4)
        return Image(np.ascontiguousarray(pixels))

    @staticmethod
    def _picture(frame: VideoFrame) -> Float32Array:
        """A tiny picture of a frame, (SIDE, SIDE, 3) with values from 0 to 1."""
        small = frame.reformat(SIDE, SIDE, format="rgb24", interpolation="AREA")
        return np.asarray(small.to_ndarray() / 255, np.float32)


def _attached_picture() -> int:
    from av.stream import Disposition

    return int(Disposition.attached_pic)
