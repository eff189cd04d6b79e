"""Files that are refused, and the time, memory and threads that decoding takes."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_jpegxl import jpegxl
from made_photos import (
    ADOBE_RGB,
    TiffMaker,
    decoded,
    dng,
    encoded,
    exif_with,
    png,
    png_chunk,
    quadrants,
    tiff,
)
from PIL import Image as Pillow
from PIL import ImageFile

from regard.core.errors import DecodeError, UnknownFormat
from regard.photos.decoding import DecodeLimits
from regard.photos.formats import PhotoFormat
from regard.photos.photo_file import PhotoFile, decode_file, looks_like_photo


@pytest.fixture(scope="module", autouse=True)
def _heif() -> None:
    pillow_heif.register_heif_opener()


def pixels_of(data: bytes) -> np.ndarray:
    return decoded(data).pixels


# Refused files


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"hello, world\n" * 50,
        b"BM is how this text starts, and it is not a bitmap",
        b"PK\x03\x04" + bytes(100),
        b"%PDF-1.7\n" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"8BPS" + bytes(100),
        b"P6 2 2 255\n" + bytes(12),
        b"\x00\x00\x00\x18ftypisom" + bytes(100),
    ],
)
def test_other_files_are_an_unknown_format(data: bytes) -> None:
    with pytest.raises(UnknownFormat):
        PhotoFile(data)


def test_only_allowed_formats_are_opened() -> None:
    data = encoded(quadrants(), "BMP")
    with pytest.raises(DecodeError, match="BMP files are not allowed"):
        decoded(data, DecodeLimits(formats=frozenset({PhotoFormat.JPEG})))


@cache
def sample_files() -> dict[str, bytes]:
    pillow_heif.register_heif_opener()
    photo = Pillow.fromarray(np.random.default_rng(5).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    files = {
        "jpeg": encoded(photo, "JPEG", exif=exif_with(6), icc_profile=ADOBE_RGB),
        "png": encoded(photo, "PNG", exif=exif_with(6), icc_profile=ADOBE_RGB),
        "webp": encoded(photo, "WEBP", exif=exif_with(6)),
        "gif": encoded(photo, "GIF"),
        "bmp": encoded(photo, "BMP"),
        "tiff": encoded(photo, "TIFF", exif=exif_with(6)),
        "lzw": encoded(photo, "TIFF", compression="tiff_lzw"),
        "heif": encoded(photo, "HEIF", exif=exif_with(6)),
        "avif": encoded(photo, "AVIF"),
        "jxl": jpegxl(np.asarray(photo), icc=ADOBE_RGB, orientation=6),
        "raw": dng(quadrants(640, 480), width=64, height=48),
    }
    return files


FORMATS = ["jpeg", "png", "webp", "gif", "bmp", "tiff", "lzw", "heif", "avif", "jxl", "raw"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(name: str, share: float) -> None:
    data = sample_files()[name]
    if name == "raw":
        # The sensor data comes first in this file, then the preview.
        share = min(share, 0.5)
    with pytest.raises(DecodeError):
        decoded(data[: int(len(data) * share)])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(1, 255)), max_size=24),
)
def test_damaged_files_raise_only_decode_errors(
    name: str, cut: float | None, flips: list[tuple[float, bool, int]]
) -> None:
    data = bytearray(sample_files()[name])
    for place, in_header, bits in flips:
        # Many of the flips go to the header, where they matter most.
        reach = min(len(data), 600) if in_header else len(data)
        if reach:
            data[int(place * (reach - 1))] ^= bits
    damaged = bytes(data if cut is None else data[: int(len(data) * cut)])
    try:
        image = decoded(damaged, DecodeLimits(max_pixels=4_000_000))
    except DecodeError as error:
        reason = error.message
    else:
        reason = "none"
        assert image.pixels.size
    assert reason
    assert "\n" not in reason
    assert " at 0x" not in reason
    with contextlib.suppress(DecodeError):
        PhotoFile(damaged).facts()


def test_enormous_dimensions_are_refused_before_any_pixel() -> None:
    huge = 60_000
    with pytest.raises(DecodeError, match="more than"):
        decoded(png(huge, huge, 8, 2, b""))
    gif = b"GIF89a" + huge.to_bytes(2, "little") * 2 + b"\x80\0\0" + bytes(6)
    gif += b"\x2c" + bytes(4) + huge.to_bytes(2, "little") * 2 + b"\0\x02\x02\x4c\x01\0\x3b"
    with pytest.raises(DecodeError):
        decoded(gif)
    size = (16_382).to_bytes(3, "little")
    vp8x = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + size * 2
    with pytest.raises(DecodeError, match="16383 × 16383 pixels, more than 60,000,000"):
        decoded(b"RIFF" + (22).to_bytes(4, "little") + b"WEBP" + vp8x)
    three = ((258, 3, [8] * 3), (262, 3, [2]), (277, 3, [3]))
    with pytest.raises(DecodeError, match="more than"):
        decoded(tiff(huge, huge, b"", *three))
    bmp = bytearray(encoded(quadrants(), "BMP"))
    bmp[18:26] = huge.to_bytes(4, "little") * 2
    with pytest.raises(DecodeError, match="more than"):
        decoded(bytes(bmp))
    jpeg = bytearray(encoded(quadrants(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = huge.to_bytes(2, "big") * 2
    with pytest.raises(DecodeError, match="more than"):
        decoded(bytes(jpeg))


def test_the_pixel_limit_is_exact() -> None:
    data = encoded(quadrants(), "PNG")
    assert decoded(data, DecodeLimits(max_pixels=48 * 32)).width == 48
    with pytest.raises(DecodeError, match="more than"):
        decoded(data, DecodeLimits(max_pixels=48 * 32 - 1))
    with pytest.raises(DecodeError, match="bytes, more than"):
        decoded(data, DecodeLimits(max_bytes=len(data) - 1))


def bomb(name: str) -> bytes:
    zeros = zlib.compress(bytes(300_000_000), 1)
    chunk = {
        "iCCP": png_chunk(b"iCCP", b"icc\0\0" + zeros),
        "zTXt": png_chunk(b"zTXt", b"Comment\0\0" + zeros),
        "iTXt": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros),
    }.get(name)
    if chunk is not None:
        return png(16, 16, 8, 2, (b"\0" + bytes(48)) * 16, chunk)
    if name == "IDAT":
        empty = png_chunk(b"IDAT", zlib.compress(b""))
        return png(16, 16, 8, 2, b"").replace(empty, png_chunk(b"IDAT", zeros))
    made = TiffMaker()
    if name == "tile":
        size = [(256, 4, [16]), (257, 4, [16]), (258, 3, [8]), (259, 3, [8]), (262, 3, [1])]
        tile = [(322, 4, [17_000]), (323, 4, [17_000]), (324, 4, [made.put(zeros)])]
        return made.finish(made.directory([*size, (277, 3, [1]), *tile, (325, 4, [len(zeros)])]))
    # Thousands of fields that all claim the same megabyte.
    body = made.put(bytes(1_000_000))
    fields = b"".join(
        struct.pack("<HHII", tag, 7, 1_000_000, body) for tag in range(40_000, 42_000)
    )
    directory = made.put(struct.pack("<H", 2_000) + fields + bytes(4))
    if name == "overlapping EXIF":
        exif = made.finish(made.directory([(34665, 4, [directory])]))
        return png(16, 16, 8, 2, (b"\0" + bytes(48)) * 16, png_chunk(b"eXIf", exif))
    return made.finish(directory)


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = encoded(quadrants(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(DecodeError, match="scans"):
        decoded(data[:scan] + data[scan:-2] * 1000 + b"\xff\xd9")
    # Data after the image, such as the film of a live photograph, does not count.
    assert decoded(data + b"\xff\xda\0\2" * 1000).width == 48


# Files


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    names = ["pipe.jpg", "loop.jpg", "dangling.jpg", "folder.jpg", "empty.jpg", "missing.jpg"]
    for path in (*(tmp_path / name for name in names), "/dev/zero", b"/dev/null", "a\0b"):
        with pytest.raises(DecodeError) as caught:
            decode_file(path)
        assert caught.value.message
        assert not looks_like_photo(path)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shut.jpg"
    path.write_bytes(encoded(quadrants(), "JPEG"))
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(DecodeError, match="Permission denied"):
            decode_file(path)
        return
    # Root reads everything, so a child process changes its user.
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            decode_file(path)
        except DecodeError as error:
            os._exit(0 if "Permission denied" in error.message else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_symlinks_and_undecodable_names_are_opened(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9 \n.jpg"
    Path(os.fsdecode(path)).write_bytes(encoded(quadrants(), "JPEG"))
    (tmp_path / "link").symlink_to(os.fsdecode(path))
    assert decode_file(path).width == decode_file(tmp_path / "link").width == 48


def test_a_file_above_the_byte_limit_is_not_read(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.jpg"
    with sparse.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(DecodeError, match="more than"):
        decode_file(sparse)


# Threads and warnings


def test_threads_decode_the_same_pixels_without_warnings() -> None:
    # Corrupt EXIF makes Pillow warn, which pytest turns into errors.
    corrupt = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + b"\x12\x01\x02\0\xff\xff\0\0\xff\xff\0\0" * 2
    files = [
        encoded(quadrants(320, 240), "JPEG", exif=corrupt),
        encoded(quadrants(320, 240), "PNG", icc_profile=ADOBE_RGB),
        encoded(quadrants(320, 240), "HEIF"),
        encoded(quadrants(320, 240), "TIFF", compression="tiff_lzw"),
    ]
    expected = [pixels_of(data) for data in files]
    barrier = threading.Barrier(8)

    def work(_: int) -> bool:
        barrier.wait(120)
        return all(
            np.array_equal(pixels_of(data), pixels)
            for data, pixels in zip(files * 4, expected * 4, strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


PEAK = """
import pathlib, sys
from regard.photos.photo_file import PhotoFile
from regard.core.errors import DecodeError

def peak():
    # Not getrusage: its peak outlives exec, so it would be that of pytest.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

for name in sys.argv[1:]:
    data = pathlib.Path(name).read_bytes()
    before = peak()
    try:
        photo = PhotoFile(data)
        photo.facts()
        photo.decode()
    except DecodeError:
        pass
    print(peak() - before)
"""


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)


def peaks_kib(folder: Path, *files: bytes) -> list[int]:
    """What reading and decoding each file adds to the peak memory of one process, in KiB."""
    paths = [folder / str(number) for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *paths], check=True, timeout=200, capture_output=True
    )
    return [int(line) for line in done.stdout.split()]


@needs_proc
def test_files_that_unpack_to_hundreds_of_megabytes_take_little_memory(tmp_path: Path) -> None:
    names = ("IDAT", "iCCP", "zTXt", "iTXt", "tile", "overlapping fields", "overlapping EXIF")
    peaks = dict(zip(names, peaks_kib(tmp_path, *map(bomb, names)), strict=True))
    assert all(peak < 64 << 10 for peak in peaks.values()), peaks


@needs_proc
def test_decoding_holds_no_third_copy_of_the_pixels(tmp_path: Path) -> None:
    photo = encoded(Pillow.new("RGB", (6000, 5000), (90, 120, 150)), "JPEG")
    # 30 megapixels: 120 MB in Pillow's form and 90 MB of result.
    (peak,) = peaks_kib(tmp_path, photo)
    assert 180 << 10 < peak < 240 << 10


@pytest.mark.parametrize(("share", "reduction"), [(1, 1), (2, 2), (7, 4), (40, 8)])
def test_large_jpeg_is_read_at_a_part_of_its_size(share: int, reduction: int) -> None:
    width, height = 244, 161
    data = encoded(quadrants(width, height), "JPEG", quality=95)
    limits = DecodeLimits(max_pixels=width * height // share)
    size = (-(-width // reduction), -(-height // reduction))
    header = PhotoFile(data, limits).header
    image = decoded(data, limits)
    assert (header.width, header.height) == (image.width, image.height) == size
    expected = np.asarray(Pillow.fromarray(pixels_of(data)).resize(size, Pillow.Resampling.BOX))
    assert np.abs(image.pixels.astype(int) - expected).mean() < 4
    # A smaller rendition is that of the photograph as it is.
    small = decoded(data, limits, reduced_to=20)
    assert small.width == width // 8 + 1
    assert np.array_equal(small.pixels, decoded(data, reduced_to=20).pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_of_several_scans_is_refused(progressive: bool) -> None:
    """Reading it at a part of its size would keep the coefficients of all its pixels."""
    data = encoded(quadrants(244, 161), "JPEG", progressive=progressive)
    if not progressive:
        # A second scan, before the end of the file.
        start = data.index(b"\xff\xda")
        data = data[:-2] + data[start:]
    with pytest.raises(DecodeError, match="more than 39,283"):
        decoded(data, DecodeLimits(max_pixels=244 * 161 - 1))


def gigapixel() -> bytes:
    """60,000 × 16,000 pixels: a row of blocks again and again, between restart markers."""
    width, rows = 60_000, 1000
    row = np.zeros((16, width, 3), np.uint8)
    row[:, :, 0] = np.linspace(0, 255, width)
    data = encoded(Pillow.fromarray(row), "JPEG", quality=80, subsampling=2, restart_marker_rows=1)
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    head = bytearray(data[:start])
    head[frame + 5 : frame + 7] = (16 * rows).to_bytes(2, "big")
    body = data[start:-2]
    scans = (body + bytes([0xFF, 0xD0 + number % 8]) for number in range(rows - 1))
    return bytes(head) + b"".join(scans) + body + b"\xff\xd9"


@needs_proc
def test_a_gigapixel_is_read_in_bounded_memory(tmp_path: Path) -> None:
    data = gigapixel()
    assert PhotoFile(data).header.width == 15_000
    # 60 megapixels: 240 MB in Pillow's form and 180 MB of result.
    (peak,) = peaks_kib(tmp_path, data)
    assert 360 << 10 < peak < 480 << 10
