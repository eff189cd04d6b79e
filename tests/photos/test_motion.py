"""The video inside the JPEG or HEIC of a motion photo."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from made_videos import write_video
from PIL import Image

from regard.photos.photo_file import PhotoFile


def jpeg(comment: bytes = b"") -> bytes:
    pixels = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", comment=comment)
    return file.getvalue()


def heic() -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "green")).save(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("motion") / "clip.mp4"
    return write_video(path, [(Image.new("RGB", (96, 64), "red"), 0.5)]).read_bytes()


def offset_in(data: bytes) -> int | None:
    return PhotoFile(data).facts().capture.motion_video_offset


@pytest.mark.parametrize("after", [b"", b"\0\0\x30\x0aMotionPhoto_DataSEFT", bytes(5000)])
def test_the_video_is_found_and_plays(video: bytes, after: bytes, tmp_path: Path) -> None:
    # Samsung's cameras put further data on both sides of it.
    data = jpeg() + after[:16] + video + after
    offset = offset_in(data)
    assert offset == len(jpeg() + after[:16])
    with av.open(io.BytesIO(data[offset:]), format="mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


@pytest.mark.parametrize("after", [b"", b"\0\0\0\x10sefdSEFHSEFT"])
def test_the_video_in_a_heic_is_found(video: bytes, after: bytes) -> None:
    # Both Google and Samsung keep it in a box `mpvd`, and Samsung has one of its own behind.
    box = (len(video) + 8).to_bytes(4, "big") + b"mpvd"
    picture = heic()
    assert offset_in(picture + box + video + after) == len(picture + box)
    assert offset_in(picture) is None


def test_a_photograph_alone_has_no_video(video: bytes) -> None:
    assert offset_in(jpeg()) is None
    assert offset_in(jpeg(comment=b"xxxx" + b"ftyp" + bytes(40))) is None
    # One that was cut has no index, and can't be played.
    assert offset_in(jpeg() + video[: len(video) // 2]) is None
    assert offset_in(jpeg() + b"\0\0\0\x08ftyp" * 3000) is None
