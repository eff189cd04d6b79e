"""Decoded photographs: recognised by content, upright, sRGB, eight bits."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from made_photos import (
    ADOBE_RGB,
    decoded,
    dng,
    encoded,
    exif_with,
    grey_profile,
    png,
    quadrants,
    tiff,
)
from PIL import Image as Pillow
from PIL import ImageCms

from regard.core.errors import DecodeError
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


def test_raw_of_a_sensor_above_the_limit_gives_its_preview() -> None:
    limits = DecodeLimits(max_pixels=400_000)
    assert decoded(dng(quadrants(640, 480), width=1000, height=800), limits).width == 640
    with pytest.raises(DecodeError, match=r"it has 1000 × 800 pixels, more than 400,000"):
        decoded(dng(quadrants(320, 240), width=1000, height=800), limits)


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
