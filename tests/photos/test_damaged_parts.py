"""Damage outside the pixels does not fail a picture, and damage to the pixels does."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import pillow_heif
import pytest
from made_photos import ADOBE_RGB, decoded, encoded, grey_profile, png_chunk
from PIL import Image as Pillow
from PIL import ImageCms

from regard.core.errors import DecodeError
from regard.photos.photo_file import PhotoFile

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GARBAGE = bytes(range(256)) * 3
# An EXIF block whose directory lies beyond the end, and one whose entries claim gigabytes.
BAD_EXIF = (
    b"Exif\0\0II*\0\xff\xff\xff\0" + bytes(8),
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x0e\x01\x02\0\xff\xff\xff\x7f\xff\xff\xff\x7f" * 9,
    b"Exif\0\0" + GARBAGE,
)
JPEG_MODES = ("RGB", "L", "CMYK")


@cache
def photo(mode: str = "RGB") -> Pillow.Image:
    y, x = np.mgrid[0:60, 0:80]
    noise = np.random.default_rng(2).integers(0, 40, (60, 80, 3))
    pixels = np.stack([x * 2, y * 3, x + y], -1) + noise
    return Pillow.fromarray(pixels.astype(np.uint8)).convert(mode)


def big_profile() -> bytes:
    """A valid profile of more than 1 MiB: padding behind the tags that its header counts."""
    padding = 1_200_000
    return struct.pack(">I", len(SRGB) + padding) + SRGB[4:] + bytes(padding)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpegs() -> Iterator[tuple[str, bytes, bytes]]:
    """Name, damaged file and sound file."""
    for mode in JPEG_MODES:
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}):
            sound = encoded(photo(mode), "JPEG", quality=90, **options)
            name = f"{mode} {options}"
            yield f"{name} without an end marker", sound[:-2], sound
            yield f"{name} with half an end marker", sound[:-1], sound
            yield f"{name} with zeros for the end marker", sound[:-2] + bytes(900), sound
    sound = encoded(photo(), "JPEG", quality=90)
    yield "bytes after the end", sound + GARBAGE + sound[:99], sound
    bodies = {
        "a short Adobe segment": (0xEE, b"Adobe\0"),
        "a short JFIF segment": (0xE0, b"JFIF\0\1"),
        "a cut Photoshop resource": (0xED, b"Photoshop 3.0\x008BIM\x04\x04"),
        "a Photoshop resource of gigabytes": (
            0xED,
            b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff" + GARBAGE,
        ),
        "a bad index of pictures": (0xE2, b"MPF\0" + GARBAGE),
        "a bad XMP packet": (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + GARBAGE),
        "a profile without a number": (0xE2, b"ICC_PROFILE\0"),
        "the second half of a profile": (0xE2, b"ICC_PROFILE\0\2\2" + GARBAGE),
        "a profile that is none": (0xE2, b"ICC_PROFILE\0\1\1" + GARBAGE),
        "an empty comment": (0xFE, b""),
        "an empty segment": (0xEB, b""),
    }
    bodies |= {f"bad EXIF {i}": (0xE1, block) for i, block in enumerate(BAD_EXIF)}
    for name, (marker, body) in bodies.items():
        yield name, sound[:2] + segment(marker, body) + sound[2:], sound
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + ADOBE_RGB)
    wide = sound[:2] + profile + sound[2:]
    yield "the same profile twice", sound[:2] + profile * 2 + sound[2:], wide
    # Its second picture is an empty promise.
    mpo = encoded(photo(), "MPO", quality=90, save_all=True, append_images=[photo()])
    yield "a cut second picture", mpo[: len(mpo) * 3 // 4], sound


def pngs() -> Iterator[tuple[str, bytes, bytes]]:
    sound = encoded(photo(), "PNG")
    pixels = sound.index(b"IDAT") - 4

    def insert(*chunks: bytes, at: int = pixels) -> bytes:
        return sound[:at] + b"".join(chunks) + sound[at:]

    zeros = zlib.compress(bytes(4 << 20), 1)
    bodies = {
        b"iCCP": [b"", b"x", b"icc\0\1" + zlib.compress(SRGB), b"icc\0\0" + GARBAGE],
        b"zTXt": [b"", b"x", b"x\0\1x", b"Comment\0\0" + zeros, b"Comment\0\0" + GARBAGE],
        b"iTXt": [b"", b"x\0", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros, b"\xff\0\0\0\xff\0\xff\0"],
        b"tEXt": [b"", b"\0", b"Comment\0hello"],
        b"eXIf": [b"", *(block[6:] for block in BAD_EXIF)],
        b"tIME": [b"", GARBAGE],
        b"gAMA": [b"", bytes(4)],
        b"cHRM": [b"", bytes(32)],
        b"sRGB": [b"", b"\xff"],
        b"pHYs": [b"", b"\xff" * 9],
        b"acTL": [b"", bytes(8), b"\xff" * 8],
        b"fcTL": [b"", b"\xff" * 26],
        b"fdAT": [b"", bytes(4)],
        b"bKGD": [b""],
        b"sBIT": [b""],
        b"hIST": [GARBAGE],
        b"vpAg": [GARBAGE],
    }
    for kind, values in bodies.items():
        chunks = [png_chunk(kind, body) for body in values]
        name = kind.decode()
        yield f"bad {name}", insert(*chunks), sound
        yield f"bad {name} after the pixels", insert(*chunks, at=len(sound) - 12), sound
        wrong = [chunk[:-1] + bytes([chunk[-1] ^ 0xFF]) for chunk in chunks]
        yield f"bad {name} with wrong checksums", insert(*wrong), sound
    profile = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(ADOBE_RGB))
    wide = insert(profile)
    yield "a profile of more than 1 MiB", encoded(photo(), "PNG", icc_profile=big_profile()), sound
    yield "a profile with a wrong checksum", insert(profile[:-4] + bytes(4)), wide
    yield "the same profile twice", insert(profile, profile), wide
    for space, icc in (("grey", grey_profile(1.0)), ("cut", ADOBE_RGB[:200])):
        yield f"a {space} profile", encoded(photo(), "PNG", icc_profile=icc), sound
    yield "a thousand texts", insert(*[png_chunk(b"tEXt", b"a\0" + GARBAGE * 99)] * 1000), sound
    for cut in (4, 12, 16, 20):
        yield f"{cut} bytes missing after the last pixel", sound[:-cut], sound
    yield "bytes after the end", sound + GARBAGE, sound
    yield "a wrong checksum at the end", sound[:-4] + bytes(4), sound
    idat = sound[pixels:-12]
    yield "a wrong checksum of sound pixels", sound[:pixels] + idat[:-4] + bytes(4), sound


def webps() -> Iterator[tuple[str, bytes, bytes]]:
    def with_size(data: bytes, size: int) -> bytes:
        return data[:4] + struct.pack("<I", size) + data[8:]

    for options in ({"lossless": True}, {"quality": 90}):
        sound = encoded(photo(), "WEBP", **options)
        exif, xmp = BAD_EXIF[1], GARBAGE
        extended = encoded(photo(), "WEBP", exif=exif, xmp=xmp, icc_profile=GARBAGE, **options)
        yield f"bad metadata {options}", extended, sound
        yield f"cut in its metadata {options}", extended[: -len(GARBAGE) // 2], sound
        for size in (0, 4, 2**32 - 1):
            yield f"a file size of {size} {options}", with_size(sound, size), sound
        yield f"bytes after the end {options}", sound + GARBAGE, sound
    frames = [photo().rotate(180), photo().rotate(90)]
    film = encoded(photo(), "WEBP", save_all=True, append_images=frames, lossless=True)
    yield "a cut second frame", film[: len(film) * 2 // 3], film
    rgba = encoded(photo().convert("RGBA"), "WEBP", lossless=True, exif=BAD_EXIF[0])
    yield "transparency and bad EXIF", rgba, encoded(photo(), "WEBP", lossless=True)


def gifs() -> Iterator[tuple[str, bytes, bytes]]:
    sound = encoded(photo(), "GIF")
    start = 13 + 3 * 256
    extensions = {
        "a bad comment": b"\x21\xfe\xff" + bytes(255) + b"\0",
        "a short graphic control": b"\x21\xf9\x02\0\0\0",
        "a bad application": b"\x21\xff\x0bNETSCAPE2.0\x01\xff\0",
        "an XMP packet": b"\x21\xff\x0bXMP DataXMP" + bytes(range(255, -1, -1)) + b"\0",
        "an unknown extension": b"\x21\x77\x03abc\0",
    }
    for name, block in extensions.items():
        yield name, sound[:start] + block + sound[start:], sound
    yield "no trailer", sound[:-1], sound
    yield "bytes for a trailer", sound[:-1] + GARBAGE, sound
    film = encoded(photo(), "GIF", save_all=True, append_images=[photo().rotate(180)])
    yield "a cut second frame", film[: len(film) * 3 // 4], film


def tiffs() -> Iterator[tuple[str, bytes, bytes]]:
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}):
        sound = encoded(photo(), "TIFF", **options)
        fields = {
            270: b"\xff" * 99,
            282: b"\0" * 8,
            283: b"\0" * 8,
            700: GARBAGE,
            33723: GARBAGE,
            34377: b"8BIM" + GARBAGE,
            34675: GARBAGE,
        }
        damaged = with_tiff_fields(sound, {tag: (7, len(v), v) for tag, v in fields.items()})
        yield f"bad metadata {options}", damaged, sound
        for tag in (270, 305, 700, 34377, 34665, 34675, 34853, 50839):
            huge = with_tiff_fields(sound, {tag: (4, 1 << 30, b"")})
            yield f"field {tag} of gigabytes {options}", huge, sound
        yield f"bytes after the end {options}", sound + GARBAGE, sound
    sound = encoded(photo(), "TIFF")
    pages = encoded(photo(), "TIFF", save_all=True, append_images=[photo()] * 2)
    yield "a cut third page", pages[: len(pages) - 5000], sound


def with_tiff_fields(data: bytes, fields: dict[int, tuple[int, int, bytes]]) -> bytes:
    """A little-endian TIFF whose directory, moved to the end, has more fields."""
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    entries = [data[first + 2 + 12 * i :][:12] for i in range(count)]
    out = bytearray(data)
    for tag, (kind, length, value) in fields.items():
        offset = len(out) if value else 0x7FFF_FFF0
        out += value + bytes(len(value) % 2)
        entries.append(struct.pack("<HHII", tag, kind, length, offset))
    out[4:8] = struct.pack("<I", len(out))
    entries.sort(key=lambda entry: entry[:2][::-1])
    out += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return bytes(out)


def others() -> Iterator[tuple[str, bytes, bytes]]:
    sound = encoded(photo(), "BMP")
    yield "BMP with a wrong file size", sound[:2] + b"\xff" * 4 + sound[6:], sound
    yield "BMP with bytes after the end", sound + GARBAGE, sound
    narrow = photo().crop((0, 0, 79, 60))
    padded = encoded(narrow, "BMP")
    yield "BMP without the padding of its last row", padded[:-3], padded
    for kind in ("HEIF", "AVIF"):
        sound = encoded(photo(), kind, quality=90)
        for index, bad in enumerate(BAD_EXIF):
            # Encoders refuse bad EXIF, so it replaces a valid block of the same length.
            valid = b"II*\0\x08\0\0\0\0\0".ljust(len(bad) - 6, b"\0")
            data = encoded(photo(), kind, quality=90, exif=b"Exif\0\0" + valid)
            assert valid in data
            yield f"{kind} with bad EXIF {index}", data.replace(valid, bad[6:]), sound
        extra = {"xmp": GARBAGE, "icc_profile": GARBAGE}
        yield f"{kind} with bad metadata", encoded(photo(), kind, quality=90, **extra), sound
        yield f"{kind} with bytes after the end", sound + GARBAGE, sound


def cases() -> list[object]:
    pillow_heif.register_heif_opener()
    makers = (jpegs, pngs, webps, gifs, tiffs, others)
    return [
        pytest.param(damaged, sound, id=f"{maker.__name__}: {name}")
        for maker in makers
        for name, damaged, sound in maker()
    ]


@pytest.mark.parametrize(("damaged", "sound"), cases())
def test_damage_outside_the_pixels_does_not_fail_a_picture(damaged: bytes, sound: bytes) -> None:
    picture = PhotoFile(damaged)
    picture.facts()
    assert np.array_equal(picture.decode().pixels, decoded(sound).pixels)


@pytest.mark.parametrize("mode", JPEG_MODES)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_a_jpeg_whose_last_pixels_are_missing_is_refused(
    mode: str, options: dict[str, object]
) -> None:
    whole = encoded(photo(mode), "JPEG", quality=90, **options)
    expected = decoded(whole).pixels.astype(int)
    for cut in range(3, 60):
        for filling in (b"", bytes(cut), bytes(5000)):
            with contextlib.suppress(DecodeError):
                pixels = decoded(whole[:-cut] + filling).pixels
                # The last bits of a block may be too weak to show.
                assert np.abs(pixels - expected).max() <= 1


def test_a_jpeg_without_an_end_marker_decodes_reduced() -> None:
    whole = encoded(photo().resize((800, 600)), "JPEG", quality=90)
    expected = decoded(whole, reduced_to=200).pixels
    assert expected.shape == (150, 200, 3)
    assert np.array_equal(decoded(whole[:-2], reduced_to=200).pixels, expected)


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    whole = encoded(photo(), "JPEG", quality=90, progressive=True)
    for scan in range(2, whole.count(b"\xff\xda")):
        end = -1
        for _ in range(scan):
            end = whole.index(b"\xff\xda", end + 1)
        tables = whole.rindex(b"\xff\xc4", 0, end)
        with pytest.raises(DecodeError, match="cut short"):
            decoded(whole[:tables])


def test_damaged_pixels_of_a_png_are_refused() -> None:
    whole = encoded(photo(), "PNG")
    start = whole.index(b"IDAT") + 4
    for position in range(start, len(whole) - 20, 97):
        for damage in (b"\0" * 20, b"\xff"):
            damaged = bytearray(whole)
            damaged[position : position + len(damage)] = damage
            if damaged != whole:
                with pytest.raises(DecodeError):
                    decoded(bytes(damaged))
    header = bytearray(whole)
    header[19] += 1
    with pytest.raises(DecodeError, match="wrong checksum of IHDR"):
        decoded(bytes(header))


def test_forms_that_no_decoder_has_are_named() -> None:
    jpeg = bytearray(encoded(photo(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 4] = 12
    with pytest.raises(DecodeError, match="JPEG of 12 bits is not supported"):
        decoded(bytes(jpeg))
    jpeg[frame + 1] = 0xC3
    with pytest.raises(DecodeError, match="lossless JPEG is not supported"):
        decoded(bytes(jpeg))
    png = encoded(photo(), "PNG")
    with pytest.raises(DecodeError, match=r"CgBI\) is not supported"):
        decoded(png[:8] + png_chunk(b"CgBI", b"\x50\0\x20\2") + png[8:])
