from __future__ import annotations

import io
import re

import numpy as np
import pytest
from made_masks import filled, holed, rings_of_path
from made_photos import ADOBE_RGB, decoded, encoded, quadrants
from PIL import Image as Pillow
from skimage import data as samples

from regard.core.errors import DecodeError, UsageError
from regard.core.geometry import Box
from regard.core.records import BoolArray, Image
from regard.photos.decoding import DecodeLimits
from regard.photos.formats import PhotoFormat
from regard.photos.masks import encode_mask, mask_outline
from regard.photos.rendering import (
    content_type,
    cropped,
    encode_webp,
    mask_png,
    mask_svg,
    scaled,
    shown_inline,
    thumbnail,
)


def photograph(width: int, height: int) -> Pillow.Image:
    return Pillow.fromarray(samples.astronaut()).resize((width, height), Pillow.Resampling.BICUBIC)


def image_of(photo: Pillow.Image) -> Image:
    return Image(np.array(photo))


@pytest.mark.parametrize(
    ("size", "longer_side", "expected"),
    [
        ((400, 300), 256, (256, 192)),
        ((300, 400), 256, (192, 256)),
        ((5000, 1), 256, (256, 1)),
        ((257, 257), 256, (256, 256)),
        ((1000, 999), 1, (1, 1)),
    ],
)
def test_images_are_scaled_by_their_longer_side(
    size: tuple[int, int], longer_side: int, expected: tuple[int, int]
) -> None:
    small = scaled(image_of(Pillow.new("RGB", size)), longer_side)
    assert (small.width, small.height) == expected


@pytest.mark.parametrize("size", [(256, 100), (1, 1), (90, 256)])
def test_nothing_is_enlarged(size: tuple[int, int]) -> None:
    image = image_of(photograph(*size))
    assert scaled(image, 256) is image


def test_scaling_averages_and_keeps_places() -> None:
    small = scaled(image_of(quadrants(1200, 800)), 24).pixels.astype(int)
    assert np.abs(small[2, 2] - (220, 20, 20)).max() <= 3
    assert np.abs(small[2, -3] - (20, 200, 20)).max() <= 3
    assert np.abs(small[-3, 2] - (20, 20, 220)).max() <= 3
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = scaled(Image(stripes), 100).pixels[:, 5:-5].astype(int)
    assert np.abs(inner - 127).max() <= 3


def test_a_crop_is_the_part_inside_the_box() -> None:
    image = image_of(quadrants(96, 64))
    part = cropped(image, Box(48, 32, 48, 32), 512)
    assert np.array_equal(part.pixels, image.pixels[32:, 48:])
    beyond = cropped(image, Box(80, -10, 1000, 42), 512)
    assert np.array_equal(beyond.pixels, image.pixels[:32, 80:])
    small = cropped(image, Box(0, 0, 96, 32), 24)
    assert (small.width, small.height) == (24, 8)


@pytest.mark.parametrize("box", [Box(96, 0, 4, 4), Box(0, 0, 0, 5), Box(-9, 0, 9, 9)])
def test_a_box_outside_the_image_is_refused(box: Box) -> None:
    with pytest.raises(UsageError, match="outside the 96 × 64 photograph"):
        cropped(image_of(quadrants(96, 64)), box, 512)


def test_webp_shows_the_pixels_and_nothing_else() -> None:
    image = image_of(photograph(320, 200))
    data = encode_webp(image, 90)
    assert decoded(data).pixels.shape == (200, 320, 3)
    difference = np.abs(decoded(data).pixels.astype(int) - image.pixels)
    assert difference.mean() < 3
    assert len(encode_webp(image, 30)) < len(data)
    with Pillow.open(io.BytesIO(data)) as photo:
        assert not {"exif", "xmp", "icc_profile"} & photo.info.keys()


def test_a_mask_image_is_black_and_white_and_small() -> None:
    pixels = np.zeros((600, 800), np.bool_)
    pixels[100:300, 50:77] = True
    data = mask_png(encode_mask(pixels))
    with Pillow.open(io.BytesIO(data)) as photo:
        assert (photo.format, photo.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(photo), np.where(pixels, 255, 0))
    assert len(data) < 3000


def test_only_formats_of_browsers_are_shown_inline() -> None:
    shown = {photo_format for photo_format in PhotoFormat if shown_inline(photo_format)}
    assert shown == {"JPEG", "PNG", "WEBP", "GIF", "AVIF"}
    assert all(str(content_type(photo_format)).startswith("image/") for photo_format in shown)
    assert content_type("JPEG") == "image/jpeg"
    assert content_type("HEIF") == "image/heic"
    assert content_type("JXL") == "image/jxl"
    for unknown in ("RAW", "SVG", "HTML", "image/svg+xml", "", None):
        assert content_type(unknown) is None
        assert not shown_inline(unknown)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG"])
def test_a_thumbnail_looks_as_if_made_from_all_pixels(kind: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[274] = orientation
    data = encoded(photograph(1501, 1003), kind, quality=92, exif=exif.tobytes())
    small = decoded(thumbnail(io.BytesIO(data), 256, quality=95))
    expected = scaled(decoded(data), 256)
    assert small.pixels.shape == expected.pixels.shape
    assert np.abs(small.pixels.astype(int) - expected.pixels).mean() < 3


def test_reduced_decoding_keeps_profiles_and_never_goes_below_the_size() -> None:
    photo = photograph(1600, 1064)
    data = encoded(photo, "JPEG", quality=92, icc_profile=ADOBE_RGB)
    whole = decoded(data)
    assert decoded(data, reduced_to=1600).width == 1600
    assert decoded(data, reduced_to=9999).width == 1600
    sizes = {side: decoded(data, reduced_to=side) for side in (801, 800, 400, 200, 1)}
    assert [image.width for image in sizes.values()] == [1600, 800, 400, 200, 200]
    for image in sizes.values():
        again = np.asarray(Pillow.fromarray(image.pixels).resize((100, 66)), dtype=int)
        expected = np.asarray(Pillow.fromarray(whole.pixels).resize((100, 66)), dtype=int)
        assert np.abs(again - expected).mean() < 3
    without = decoded(encoded(photo, "JPEG", quality=92), reduced_to=400).pixels
    assert np.abs(without.astype(int) - sizes[400].pixels).mean() > 3


def test_reduced_decoding_has_the_same_limits() -> None:
    data = encoded(photograph(400, 400), "JPEG", progressive=True)
    with pytest.raises(DecodeError, match="more than 79,000"):
        decoded(data, DecodeLimits(max_pixels=79_000), reduced_to=10)
    with pytest.raises(DecodeError, match="damaged or cut short"):
        thumbnail(io.BytesIO(data[: len(data) // 2]), 64)


def test_a_thumbnail_of_a_large_jpeg_is_made_from_a_reduced_decoding() -> None:
    data = encoded(photograph(4000, 3000), "JPEG", quality=90)
    reduced, whole = decoded(data, reduced_to=512), decoded(data)
    assert (reduced.width, whole.width) == (1000, 4000)
    assert thumbnail(io.BytesIO(data), 256) == encode_webp(scaled(reduced, 256))
    assert thumbnail(io.BytesIO(data), 256) != encode_webp(scaled(whole, 256))


@pytest.mark.parametrize(
    ("pixels", "rings"),
    [
        (holed(), 6),
        (np.ones((3, 4), np.bool_), 1),
        (np.ones((1, 1), np.bool_), 1),
        (np.zeros((5, 5), np.bool_), 0),
        (np.random.default_rng(1).random((30, 50)) < 0.5, None),
    ],
)
def test_the_outline_of_a_mask_holds_its_pixels_and_no_others(
    pixels: BoolArray, rings: int | None
) -> None:
    outline = mask_outline(encode_mask(pixels))
    assert rings is None or len(outline) == rings
    assert (filled(outline, pixels.shape) == pixels).all()
    # One path in half pixels says the same.
    path = re.search(' d="([^"]*)"', mask_svg(encode_mask(pixels)))
    assert path is not None
    assert (filled(rings_of_path(path[1]), pixels.shape) == pixels).all()


def test_the_outline_of_a_large_mask_is_nearly_its_edge() -> None:
    pixels = np.zeros((300, 9000), np.bool_)
    pixels[100:200, 1000:9000] = True
    pixels[50, 17] = True
    dot, large = sorted(mask_outline(encode_mask(pixels)), key=len)[0:2]
    low, high = np.concatenate([dot, large]).min(axis=0), np.concatenate([dot, large]).max(axis=0)
    assert np.abs(low - [17, 50]).max() <= 9000 / 4096
    assert np.abs(high - [9000, 200]).max() <= 9000 / 4096
