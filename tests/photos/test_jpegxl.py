"""JPEG XL: sizes, colours, depths, orientation, metadata, damage and limits."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_jpegxl import BT2100, GREY, HLG, LINEAR, P3, PQ, Encoding, encoding, jpegxl
from made_metadata import alternatives, packet
from made_photos import ADOBE_RGB, decoded, encoded, exif_with, grey_profile, quadrants, rgb_profile
from PIL import Image, ImageCms

from regard.core.errors import DecodeError
from regard.core.records import UInt8Array
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.photos.formats import PhotoFormat, sniff
from regard.photos.jpegxl.header import read_header
from regard.photos.photo_file import PhotoFile, PhotoHeader

ADOBE_POINTS = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
# A curve that no encoding of the standard has.
ODD_PROFILE = rgb_profile(1.37, (39961, 20389, 1275), (13453, 41003, 3992))


def patches(channels: int = 3, dtype: type = np.uint8) -> npt.NDArray[np.generic]:
    """48 colours, each of 16 × 16 pixels."""
    colours = np.random.default_rng(8).integers(0, 256, (6, 8, channels), dtype=np.uint8)
    whole = colours.repeat(16, 0).repeat(16, 1)
    if dtype == np.uint16:
        return whole.astype(np.uint16) * 257
    return (whole / 255).astype(np.float32) if dtype == np.float32 else whole


def managed(pixels: npt.NDArray[np.generic], icc: bytes) -> UInt8Array:
    """What LittleCMS makes of pixels in the profile's colours."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    image = Image.fromarray(pixels.squeeze())
    target = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(image, source, target, renderingIntent=1, outputMode="RGB")
    return np.asarray(shown)


def difference(first: UInt8Array, second: npt.NDArray[np.generic]) -> int:
    return int(np.abs(first.astype(np.int16) - second.astype(np.int16)).max())


def read(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> PhotoHeader:
    return PhotoFile(data, limits).header


@pytest.mark.parametrize("size", [(1, 1), (8, 16), (256, 256), (512, 384), (70, 9000), (27, 48)])
@pytest.mark.parametrize("is_boxed", [False, True])
def test_the_size_is_read_from_the_header(size: tuple[int, int], is_boxed: bool) -> None:
    width, height = size
    boxes = [(b"xml ", packet(""))] if is_boxed else []
    data = jpegxl(np.zeros((height, width, 3), np.uint8), boxes=boxes)
    assert data.startswith(b"\0\0\0\x0cJXL " if is_boxed else b"\xff\x0a")
    assert sniff(data[:64]) is PhotoFormat.JXL
    header = PhotoFile(data).header
    assert (header.width, header.height, header.format) == (width, height, PhotoFormat.JXL)


def written(*bits: tuple[int, int]) -> bytes:
    """A codestream of numbers and how many bits they take, and zeros."""
    number = position = 0
    for count, value in bits:
        number |= value << position
        position += count
    return b"\xff\x0a" + number.to_bytes(64, "little")


@pytest.mark.parametrize("ratio", range(8))
@pytest.mark.parametrize("is_small", [False, True])
def test_every_form_of_a_size_is_read(ratio: int, is_small: bool) -> None:
    """The bits are written by hand, since libjxl chooses the shortest form."""
    bits: list[tuple[int, int]] = [(1, int(is_small))]
    bits += [(5, 20)] if is_small else [(2, 1), (13, 2699)]
    bits += [(3, ratio)]
    if ratio == 0:
        bits += [(5, 3)] if is_small else [(2, 3), (30, 123_456_788)]
    header = read_header(written(*bits, (1, 1)))
    height = 168 if is_small else 2700
    across, down = [(0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)][ratio]
    width = height * across // down or (32 if is_small else 123_456_789)
    assert (header.width, header.height) == (width, height)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("distance", [None, 0.3])
def test_depths_and_channels_are_decoded(
    dtype: type, channels: int, distance: float | None
) -> None:
    source = patches(channels)
    data = jpegxl(patches(channels, dtype), distance=distance)
    expected = source if channels in {1, 3} else source[..., :-1]
    if channels in {2, 4}:
        alpha = source[..., -1:] / 255
        expected = np.rint(expected * alpha + 255 * (1 - alpha))
    shown = decoded(data).pixels
    if distance is None:
        assert difference(shown, expected) <= 1
    else:
        assert np.abs(shown - expected.astype(np.float64)).mean() < 4


@pytest.mark.parametrize("bits", [1, 4, 7, 10, 12, 14])
def test_depths_between_are_scaled(bits: int) -> None:
    white = (1 << bits) - 1
    levels = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16, 1)
    expected = np.rint(np.rint(levels / 65535 * white) * 255 / white)
    assert difference(decoded(jpegxl(levels, bits=bits)).pixels, expected) <= (255 // white) / 2 + 1


def test_floating_point_samples_of_16_bits_are_read() -> None:
    samples = patches(dtype=np.float32).astype(np.float16).astype(np.float32)
    shown = decoded(jpegxl(samples, bits=16)).pixels
    assert difference(shown, patches()) <= 1
    other = written((1, 1), (5, 1), (3, 1), (1, 0), (1, 0), (1, 1), (2, 2), (4, 6))
    with pytest.raises(DecodeError, match="JPEG XL of 24 bits is not supported"):
        read(other)


def test_floating_point_samples_outside_0_to_1_are_cut() -> None:
    samples = np.array([-3, 0, 0.5, 1, 70_000], np.float32).repeat(8)[None, :, None].repeat(8, 0)
    assert decoded(jpegxl(samples)).pixels[0, ::8, 0].tolist() == [0, 0, 128, 255, 255]


def test_premultiplied_colours_are_divided() -> None:
    source = patches(4)
    source[..., 3] |= 128
    alpha = source[..., 3:] / 255
    multiplied = source.copy()
    multiplied[..., :3] = np.rint(source[..., :3] * alpha)
    expected = np.rint(source[..., :3] * alpha + 255 * (1 - alpha))
    shown = decoded(jpegxl(multiplied, is_premultiplied=True)).pixels
    assert difference(shown, expected) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_that_of_the_header(orientation: int) -> None:
    """EXIF may contradict it."""
    exif = (b"Exif", bytes(4) + exif_with(3 if orientation != 3 else 1)[6:])
    data = jpegxl(np.asarray(quadrants()), orientation=orientation, boxes=[exif])
    expected = decoded(encoded(quadrants(), "PNG", exif=exif_with(orientation)))
    photo = PhotoFile(data)
    assert (photo.header.width, photo.header.height) == (expected.width, expected.height)
    assert difference(photo.decode().pixels, expected.pixels) == 0


@pytest.mark.parametrize("effort", [1, 3, 7, 9])
@pytest.mark.parametrize("icc", [ADOBE_RGB, ODD_PROFILE], ids=["adobe", "odd"])
def test_a_profile_converts_colours(icc: bytes, effort: int) -> None:
    data = jpegxl(patches(), icc=icc, effort=effort)
    assert read_header(data).icc == icc
    assert difference(decoded(data).pixels, managed(patches(), icc)) <= 1


@pytest.mark.parametrize("icc", [ADOBE_RGB, ODD_PROFILE], ids=["adobe", "odd"])
def test_a_profile_of_a_lossy_file_converts_colours(icc: bytes) -> None:
    """libjxl gives colours whose space it cannot name as linear light of 8 bits."""
    shown = decoded(jpegxl(patches(), icc=icc, distance=0.1)).pixels
    away = np.abs(shown.astype(np.int16) - managed(patches(), icc))
    assert away.mean() < 1
    assert np.quantile(away, 0.98) <= 6


def test_a_profile_of_grey_converts_it() -> None:
    icc = grey_profile(1.0)
    data = jpegxl(patches(1), icc=icc)
    assert read_header(data).icc == icc
    assert difference(decoded(data).pixels, managed(patches(1), icc)) <= 1


def test_profiles_of_any_form_are_unpacked() -> None:
    """Tables, texts, few bytes and many."""
    random = np.random.default_rng(4)
    steps = np.arange(3000)
    curves = [
        (65535 * (steps / 2999) ** 1.8).astype(">u2").tobytes(),
        (steps * 40_000).astype(">u4").tobytes(),
        np.rint(128 + 90 * np.sin(steps / 40)).astype(np.uint8).tobytes(),
        random.integers(0, 256, 5000, dtype=np.uint8).tobytes(),
        b"Copyright by nobody. " * 99,
        bytes(2000),
    ]
    for body in curves:
        tags = ADOBE_RGB[128:] + body
        icc = struct.pack(">I", 128 + len(tags)) + ADOBE_RGB[4:128] + tags
        assert read_header(jpegxl(patches(), icc=icc, effort=7)).icc == icc


def curve(name: str) -> tuple[Encoding, UInt8Array]:
    """An encoding, and what its colours are in sRGB by LittleCMS or by the standard's formulas."""
    source = patches()
    if name == "p3":
        light = np.linspace(0, 1, 4096)
        table = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
        icc = imagecodecs.cms_profile(
            "rgb",
            whitepoint=[0.3127, 0.3290, 1.0],
            primaries=[0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1],
            transferfunction=np.rint(table * 65535).astype(np.uint16),
        )
        return encoding(primaries=P3), managed(source, bytes(icc))
    if name == "adobe":
        return encoding(primaries=ADOBE_POINTS, gamma=1 / 2.19921875), managed(source, ADOBE_RGB)
    light = source / 255
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return encoding(transfer=LINEAR), np.rint(level * 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["p3", "adobe", "linear"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_without_a_profile_are_converted(name: str, dtype: type) -> None:
    colours, expected = curve(name)
    assert difference(decoded(jpegxl(patches(dtype=dtype), colours=colours)).pixels, expected) <= 3


@pytest.mark.parametrize("name", ["p3", "adobe"])
def test_colours_of_lossy_files_are_converted(name: str) -> None:
    colours, expected = curve(name)
    shown = decoded(jpegxl(patches(), colours=colours, distance=0.1)).pixels
    assert np.abs(shown.astype(np.int16) - expected).mean() < 1


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.5807), (HLG, 0.75)])
def test_the_white_of_hdr_is_white(transfer: int, white: float) -> None:
    """203 cd/m² is white (ITU-R BT.2408); brighter light is cut."""
    levels = np.rint(np.array([0.0, white * 0.8, white, 1.0]) * 65535).astype(np.uint16)
    pixels = levels.repeat(8)[None, :, None].repeat(8, 0).repeat(3, 2)
    data = jpegxl(pixels, colours=encoding(primaries=BT2100, transfer=transfer))
    black, grey, bright, brightest = decoded(data).pixels[0, ::8, 0]
    assert (black, brightest) == (0, 255)
    assert 100 < grey < 220
    assert bright >= 252


def test_grey_of_another_curve_is_converted() -> None:
    shown = decoded(jpegxl(patches(1), colours=encoding(GREY, transfer=LINEAR))).pixels
    light = patches(1) / 255
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert difference(shown, np.rint(level * 255)) <= 1


def test_the_first_frame_of_an_animation_is_shown() -> None:
    frames = np.stack([np.full((16, 24, 3), value, np.uint8) for value in (40, 120, 240)])
    assert set(decoded(jpegxl(frames, frames=3)).pixels.ravel()) == {40}


@pytest.mark.parametrize("icc", [None, ADOBE_RGB])
def test_a_packed_jpeg_shows_as_the_jpeg(icc: bytes | None) -> None:
    options = {} if icc is None else {"icc_profile": icc}
    source = encoded(quadrants(), "JPEG", quality=95, subsampling=0, **options)
    data = imagecodecs.jpegxl_encode_jpeg(source)
    assert difference(decoded(bytes(data)).pixels, decoded(source).pixels) <= 3


@pytest.mark.parametrize("is_compressed", [False, True])
def test_metadata_is_read(is_compressed: bool) -> None:
    xmp = packet(alternatives("dc:title", en="A quiet lake"))
    exif = Image.Exif()
    exif[0x0110] = "Camera 8"
    boxes = [(b"Exif", bytes(4) + exif.tobytes()[6:]), (b"xml ", xmp)]
    photo = PhotoFile(jpegxl(patches(), boxes=boxes, is_compressed=is_compressed))
    assert photo.facts().camera_model == "Camera 8"
    assert photo.header.metadata.xmp == (xmp,)


def test_a_bomb_of_metadata_is_left_out() -> None:
    box = (b"xml ", b"<x:xmpmeta>" + bytes(64 << 20))
    data = jpegxl(patches(), boxes=[box], is_compressed=True)
    assert len(data) < 100_000
    assert PhotoFile(data).header.metadata.xmp == ()
    assert difference(decoded(data).pixels, patches()) == 0


def test_a_huge_size_is_refused_before_decoding() -> None:
    with pytest.raises(DecodeError, match=r"1048577 × 1048577 pixels, more than"):
        read(written((1, 0), (2, 3), (30, 1 << 20), (3, 1), (1, 1)))
    with pytest.raises(DecodeError, match=r"128 × 96 pixels, more than 12,000"):
        read(jpegxl(patches()), DecodeLimits(max_pixels=12_000))
    # Floating-point samples take more memory.
    with pytest.raises(DecodeError, match=r"128 × 96 pixels, more than 10,000"):
        read(jpegxl(patches(dtype=np.float32)), DecodeLimits(max_pixels=20_000))


def damaged_files() -> Iterator[bytes]:
    random = np.random.default_rng(11)
    sources = [
        jpegxl(patches(), icc=ADOBE_RGB),
        jpegxl(patches(4), distance=1.0, boxes=[(b"xml ", packet(""))], is_compressed=True),
        jpegxl(patches(1, np.uint16)),
    ]
    for source in sources:
        yield from (source[:size] for size in range(0, len(source), 1 + len(source) // 25))
        for _ in range(75):
            data = bytearray(source)
            for _ in range(random.integers(1, 6)):
                data[random.integers(len(data))] = random.integers(256)
            yield bytes(data)


def test_damaged_files_end_with_a_reason() -> None:
    limits = DecodeLimits(max_pixels=4_000_000)
    reasons = []
    for data in damaged_files():
        try:
            photo = PhotoFile(data, limits)
            assert photo.decode().width == photo.header.width
        except DecodeError as error:
            reasons.append(str(error))
    assert len(reasons) > 100
    assert all(reasons)


@given(st.binary(max_size=400))
def test_any_header_is_read_or_refused(body: bytes) -> None:
    try:
        header = read_header(b"\xff\x0a" + body)
    except DecodeError:
        return
    assert 0 < header.width <= 1 << 31
    assert 0 < header.height <= 1 << 30
    assert 1 <= header.orientation <= 8


@given(st.data())
def test_any_packed_profile_is_read_or_ignored(data: st.DataObject) -> None:
    file = bytearray(jpegxl(patches(), icc=ODD_PROFILE))
    start = data.draw(st.integers(4, 300))
    change = data.draw(st.binary(min_size=1, max_size=40))
    file[start : start + len(change)] = change
    try:
        icc = read_header(bytes(file)).icc
    except DecodeError:
        return
    assert icc is None or len(icc) <= 1 << 19
