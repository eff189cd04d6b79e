from __future__ import annotations

import contextlib
import io
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
from made_photos import (
    ADOBE_RGB,
    TiffMaker,
    decoded,
    dng,
    encoded,
    grey_profile,
    png,
    png_chunk,
    quadrants,
    tiff,
)
from PIL import Image as Pillow
from PIL import ImageCms, ImageFile

from regard.core.errors import DecodeError, UnknownFormat
from regard.photos.decoding import DecodeLimits
from regard.photos.formats import PhotoFormat
from regard.photos.photo_file import PhotoFile, decode_file, looks_like_photo

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 200, 20), (20, 20, 220), (230, 220, 20)
# Corners in reading order after each EXIF orientation (EXIF 2.32, table 6).
CORNERS = {
    1: (RED, GREEN, BLUE, YELLOW),
    2: (GREEN, RED, YELLOW, BLUE),
    3: (YELLOW, BLUE, GREEN, RED),
    4: (BLUE, YELLOW, RED, GREEN),
    5: (RED, BLUE, GREEN, YELLOW),
    6: (BLUE, RED, YELLOW, GREEN),
    7: (YELLOW, GREEN, BLUE, RED),
    8: (GREEN, YELLOW, RED, BLUE),
}


@pytest.fixture(scope="module", autouse=True)
def _heif() -> None:
    pillow_heif.register_heif_opener()


def pixels_of(data: bytes) -> np.ndarray:
    return decoded(data).pixels


def declared_size(data: bytes) -> tuple[int, int]:
    header = PhotoFile(data).header
    return header.width, header.height


def assert_pixel(data: bytes, expected: tuple[int, int, int], tolerance: int = 1) -> None:
    """The middle pixel of a decoded image, within `tolerance` a channel."""
    pixels = pixels_of(data)
    found = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(int)
    assert np.abs(found - expected).max() <= tolerance, f"{found} is not {expected}"


def assert_corners(pixels: np.ndarray, orientation: int, tolerance: int = 12) -> None:
    corners = (pixels[3, 3], pixels[3, -4], pixels[-4, 3], pixels[-4, -4])
    for found, expected in zip(corners, CORNERS[orientation], strict=True):
        assert np.abs(found.astype(int) - expected).max() <= tolerance


def flat(mode: str, colour: object, size: tuple[int, int] = (16, 16)) -> Pillow.Image:
    return Pillow.new(mode, size, colour)


def exif_with(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[274] = orientation
    return exif.tobytes()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 4),
        ("JPEG", {"quality": 95, "progressive": True, "subsampling": 0}, 4),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("GIF", {}, 8),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate", "big_tiff": True}, 0),
        ("HEIF", {"quality": 95, "chroma": 444}, 8),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8),
    ],
)
def test_every_format_is_recognised_by_content(
    tmp_path: Path, kind: str, options: dict[str, object], tolerance: int
) -> None:
    data = encoded(quadrants(), kind, **options)
    (tmp_path / "misnamed.txt").write_bytes(data)
    image = decode_file(tmp_path / "misnamed.txt")
    assert (image.width, image.height) == (48, 32)
    assert image.pixels.flags.writeable
    assert image.pixels.flags.c_contiguous
    assert_corners(image.pixels, 1, tolerance)
    assert PhotoFile(data).format == kind
    assert looks_like_photo(os.fsencode(tmp_path / "misnamed.txt"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "LZW", "HEIF", "AVIF"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    options: dict[str, object] = {"exif": exif_with(orientation)}
    if kind in {"JPEG", "HEIF", "AVIF"}:
        options["quality"] = 95
    if kind == "LZW":
        kind, options["compression"] = "TIFF", "tiff_lzw"
    data = encoded(quadrants(), kind, **options)
    pixels = pixels_of(data)
    assert_corners(pixels, orientation, 40)
    size = (32, 48) if orientation > 4 else (48, 32)
    assert (pixels.shape[1], pixels.shape[0]) == size == declared_size(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_holds_across_strips(orientation: int) -> None:
    tall = quadrants(1200, 1000)
    pixels = pixels_of(encoded(tall, "JPEG", exif=exif_with(orientation), quality=90))
    expected = np.asarray(tall)
    expected = {
        1: expected,
        2: expected[:, ::-1],
        3: expected[::-1, ::-1],
        4: expected[::-1],
        5: expected.transpose(1, 0, 2),
        6: np.rot90(expected, -1),
        7: expected[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(expected),
    }[orientation]
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 2


def test_nonsense_orientation_is_ignored() -> None:
    assert_corners(pixels_of(encoded(quadrants(), "JPEG", exif=exif_with(9), quality=95)), 1)
    assert_corners(pixels_of(encoded(quadrants(), "JPEG", exif=b"Exif\0\0II*\0", quality=95)), 1)


def test_pixels_equal_pillows() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (701, 999, 3), dtype=np.uint8)
    data = encoded(Pillow.fromarray(noise), "JPEG", quality=90)
    with Pillow.open(io.BytesIO(data)) as photo:
        assert np.array_equal(pixels_of(data), np.asarray(photo))


# Sample depth


@pytest.mark.parametrize("value", [0, 257, 25700, 65535])
def test_sixteen_bits_are_scaled_not_clipped(value: int) -> None:
    grey = (round(value / 257),) * 3
    row = b"\0" + value.to_bytes(2, "big") * 16
    assert_pixel(png(16, 16, 16, 0, row * 16), grey)
    assert_pixel(png(16, 16, 16, 2, (b"\0" + value.to_bytes(2, "big") * 48) * 16), grey)
    samples = np.full((16, 16), value, "<u2").tobytes()
    one = ((258, 3, [16]), (277, 3, [1]))
    assert_pixel(tiff(16, 16, samples, (262, 3, [1]), *one), grey)
    inverted = (255 - grey[0],) * 3
    assert_pixel(tiff(16, 16, samples, (262, 3, [0]), *one), inverted)
    colour = np.full((16, 16, 3), value, "<u2").tobytes()
    fields = ((262, 3, [2]), (258, 3, [16, 16, 16]), (277, 3, [3]))
    assert_pixel(tiff(16, 16, colour, *fields), grey)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255]),
        ([0.0, 64.0, 128.0, 255.0], [0, 64, 128, 255]),
        ([-1.0, 0.0, 0.0, 1.0], [0, 128, 128, 255]),
        ([np.nan, np.inf, -np.inf, 1.0], [0, 255, 0, 255]),
        ([np.nan] * 4, [0, 0, 0, 0]),
    ],
)
def test_float_samples_are_scaled_by_their_range(samples: list[float], expected: list[int]) -> None:
    data = encoded(Pillow.fromarray(np.array([samples], np.float32)), "TIFF")
    assert np.abs(pixels_of(data)[0, :, 1].astype(int) - expected).max() <= 1


def test_one_bit_images_and_inverted_ones_are_white() -> None:
    assert_pixel(encoded(flat("1", 1), "PNG"), (255, 255, 255))
    white_is_zero = ((258, 3, [1]), (262, 3, [0]), (277, 3, [1]))
    assert_pixel(tiff(16, 1, b"\0\0", *white_is_zero), (255, 255, 255))


# Transparency


def test_transparency_is_blended_over_white() -> None:
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        half_red = flat("RGBA", (255, 0, 0, 128))
        assert_pixel(encoded(half_red, kind, **options), (255, 127, 127))
        assert_pixel(encoded(flat("RGBA", (9, 9, 9, 0)), kind, **options), (255, 255, 255))
    assert_pixel(encoded(flat("LA", (100, 51)), "PNG"), (224, 224, 224))


def test_transparent_palette_and_key_colours_are_white() -> None:
    palette = flat("P", 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert_pixel(encoded(palette, "PNG"), (10, 200, 30))
    assert_pixel(encoded(palette, "PNG", transparency=1), (255, 255, 255))
    assert_pixel(encoded(palette, "PNG", transparency=bytes([255, 128])), (132, 227, 142))
    assert_pixel(encoded(palette, "GIF", transparency=1), (255, 255, 255))
    assert_pixel(encoded(flat("RGB", (7, 8, 9)), "PNG", transparency=(7, 8, 9)), (255, 255, 255))
    assert_pixel(encoded(flat("L", 7), "PNG", transparency=7), (255, 255, 255))


# Colour


def test_cmyk_and_ycck_jpegs_are_inverted_as_adobe_writes_them() -> None:
    cyan = encoded(flat("CMYK", (255, 0, 0, 0)), "JPEG", quality=100)
    assert_pixel(cyan, (0, 255, 255), 3)
    # Pillow writes the Adobe marker's transform as 0 (CMYK); 2 declares YCCK, Y=179 Cb=171 Cr=0 of
    # the inverted samples. Decoded by hand: R = Y + 1.402 (Cr - 128), K kept.
    ycck = bytearray(encoded(flat("CMYK", (76, 84, 255, 0)), "JPEG", quality=100))
    marker = ycck.index(b"Adobe")
    ycck[marker + 11] = 2
    stored = 255 - np.array([76, 84, 255, 0], float)
    luma, blue, red = stored[0], stored[1] - 128, stored[2] - 128
    turned = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
    # libjpeg turns YCC into inverted CMY: C = 255 - R, which Pillow inverts once more.
    expected = tuple(int(v) for v in np.clip(255 - np.array(turned), 0, 255).round())
    assert_pixel(bytes(ycck), expected, 4)


def test_wide_gamut_profile_is_converted() -> None:
    # Adobe RGB (200, 100, 50) in sRGB, by the published matrices: linearise with gamma 2.2,
    # Adobe RGB → XYZ (D65) → linear sRGB, encode.
    linear = (np.array([200, 100, 50]) / 255) ** 2.19921875
    to_xyz = np.array(
        [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    )
    to_rgb = np.array(
        [[3.24097, -1.53738, -0.49861], [-0.96924, 1.87597, 0.04156], [0.05563, -0.20398, 1.05697]]
    )
    srgb = np.clip(to_rgb @ to_xyz @ linear, 0, 1)
    encoded_srgb = np.where(srgb <= 0.0031308, srgb * 12.92, 1.055 * srgb ** (1 / 2.4) - 0.055)
    expected = tuple((encoded_srgb * 255).round().astype(int))
    photo = flat("RGB", (200, 100, 50))
    for kind in ("PNG", "TIFF"):
        assert_pixel(encoded(photo, kind, icc_profile=ADOBE_RGB), expected, 2)
    assert_pixel(encoded(photo, "JPEG", quality=100, icc_profile=ADOBE_RGB), expected, 4)
    opaque = encoded(flat("RGBA", (200, 100, 50, 255)), "PNG", icc_profile=ADOBE_RGB)
    assert_pixel(opaque, expected, 2)
    half = encoded(flat("RGBA", (200, 100, 50, 128)), "PNG", icc_profile=ADOBE_RGB)
    over_white = tuple(round((c * 128 + 255 * 127) / 255) for c in expected)
    assert_pixel(half, over_white, 2)


def test_grey_profile_is_applied() -> None:
    # Gamma 1.0: stored 55 is 21.6 % light, which sRGB writes as 128.
    linear = grey_profile(1.0)
    assert_pixel(encoded(flat("L", 55), "PNG", icc_profile=linear), (128, 128, 128), 2)
    assert_pixel(encoded(flat("LA", (55, 255)), "PNG", icc_profile=linear), (128, 128, 128), 2)
    # An RGB profile on a grey photograph holds too: Adobe RGB's greys are near sRGB's.
    assert_pixel(encoded(flat("L", 100), "JPEG", icc_profile=ADOBE_RGB), (100, 100, 100), 3)


def test_unusable_profiles_are_ignored() -> None:
    photo = flat("RGB", (200, 100, 50))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"garbage" * 40, ADOBE_RGB[:200], grey_profile(1.0), srgb):
        assert_pixel(encoded(photo, "PNG", icc_profile=profile), (200, 100, 50), 0)
    cyan = encoded(flat("CMYK", (255, 0, 0, 0)), "JPEG", quality=100, icc_profile=ADOBE_RGB)
    assert_pixel(cyan, (0, 255, 255), 3)


# First frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_is_decoded(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    others = [flat("RGB", (0, 0, 255)), flat("RGB", (0, 255, 0))]
    data = encoded(flat("RGB", (255, 0, 0)), kind, save_all=True, append_images=others, **options)
    assert_pixel(data, (255, 0, 0), 3)


# RAW


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_raw_gives_its_preview_oriented(orientation: int) -> None:
    data = dng(quadrants(800, 600), orientation=orientation)
    assert PhotoFile(data).format is PhotoFormat.RAW
    assert_corners(pixels_of(data), orientation)
    assert declared_size(data) == ((600, 800) if orientation > 4 else (800, 600))


@pytest.mark.parametrize("preview", [None, flat("RGB", (255, 0, 0), (160, 120))])
def test_raw_without_a_useful_preview_is_developed(preview: Pillow.Image | None) -> None:
    data = dng(preview, orientation=6)
    image = decoded(data)
    assert (image.width, image.height) == (600, 800) == declared_size(data)
    middle = image.pixels[400, 300].astype(int)
    assert middle.max() - middle.min() <= 3


def test_a_real_tiff_never_reaches_libraw() -> None:
    script = (
        "import sys, pathlib; from regard.photos.photo_file import PhotoFile;"
        "PhotoFile(sys.stdin.buffer.read()).decode(); assert 'rawpy' not in sys.modules;"
        "assert 'pillow_heif' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script], input=encoded(quadrants(), "TIFF"), check=True, timeout=200
    )


# Refused files


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"hello, world\n" * 50,
        b"BM is how this text starts, and it is no bitmap at all",
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
        "raw": dng(quadrants(640, 480), width=64, height=48),
    }
    return files


FORMATS = ["jpeg", "png", "webp", "gif", "bmp", "tiff", "lzw", "heif", "avif", "raw"]


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
