"""Videos written by PyAV for the tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

# Encoders that are fast on small frames, by suffix.
CODECS = {".mp4": "mpeg4", ".mov": "libx264", ".mkv": "mpeg4", ".webm": "libvpx", ".avi": "mpeg4"}
# libvpx takes most of its time for quality.
_REALTIME = {"deadline": "realtime", "cpu-used": "8"}
_OPTIONS = {
    **{"libvpx": _REALTIME, "libvpx-vp9": _REALTIME},
    "libx264": {"preset": "ultrafast"},
}


def write_video(
    path: Path,
    scenes: Sequence[tuple[Image.Image, float]],
    *,
    size: tuple[int, int] = (96, 64),
    rate: int = 10,
    tags: Mapping[str, str] | None = None,
    key_frames: int = 12,
    codec: str | None = None,
) -> Path:
    """A video that shows each picture for some seconds, with small movements."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = codec or CODECS[path.suffix]
    options = {"movflags": "use_metadata_tags"} if tags and path.suffix in {".mp4", ".mov"} else {}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(chosen, rate=rate, options=_OPTIONS.get(chosen, {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.gop_size = key_frames
        for picture, seconds in scenes:
            pixels = np.asarray(picture.convert("RGB").resize(size))
            for number in range(round(seconds * rate)):
                moved = np.roll(pixels, number % 2, axis=1)
                for packet in stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_audio(path: Path) -> Path:
    """A file of the same container without a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = np.zeros((1, 1024), np.float32)
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def turned(data: bytes, quarters: int) -> bytes:
    """An MP4 whose frames are shown turned clockwise by quarters (ISO/IEC 14496-12, 8.3.2)."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
    one = 1 << 16
    matrix = struct.pack(
        ">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30
    )
    place = data.index(b"tkhd") + 4 + 40
    return data[:place] + matrix + data[place + len(matrix) :]
