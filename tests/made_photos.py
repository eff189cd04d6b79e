"""Photographs built byte by byte or with encoders, for the decoding tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from regard.core.records import Image as Pixels
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.photos.photo_file import PhotoFile

Field = tuple[int, int, bytes | list[int] | list[tuple[int, int]]]


def decoded(
    data: bytes, limits: DecodeLimits = DEFAULT_LIMITS, *, reduced_to: int | None = None
) -> Pixels:
    return PhotoFile(data, limits).decode(reduced_to=reduced_to)


def encoded(photo: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, kind, **options)
    return buffer.getvalue()


def quadrants(width: int = 48, height: int = 32) -> Image.Image:
    """Red, green, blue and yellow quarters in reading order, which differ in every orientation."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 200, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 220)
    pixels[height // 2 :, width // 2 :] = (230, 220, 20)
    return Image.fromarray(pixels)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of raw scanlines, each with its filter byte; `extra` chunks precede the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            *extra,
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )


class TiffMaker:
    """Builds little-endian TIFF directories and the data they point to."""

    def __init__(self) -> None:
        self.out = bytearray(b"II*\0\0\0\0\0")

    def put(self, data: bytes) -> int:
        if len(self.out) % 2:
            self.out.append(0)
        offset = len(self.out)
        self.out += data
        return offset

    def directory(self, fields: list[Field]) -> int:
        records = b""
        for tag, kind, values in sorted(fields, key=lambda field: field[0]):
            code = {1: "B", 3: "H", 4: "I", 5: "I", 7: "B", 10: "i", 12: "d"}.get(kind)
            count = len(values)
            if isinstance(values, bytes):
                data = values
            elif kind in {5, 10}:
                numbers = [number for pair in values for number in pair]
                data = struct.pack(f"<{len(numbers)}{code}", *numbers)
            else:
                data = struct.pack(f"<{count}{code}", *values)
            if len(data) > 4:
                data = struct.pack("<I", self.put(data))
            records += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        return self.put(struct.pack("<H", len(fields)) + records + bytes(4))

    def finish(self, first: int) -> bytes:
        self.out[4:8] = struct.pack("<I", first)
        return bytes(self.out)


def tiff(width: int, height: int, samples: bytes, *fields: Field) -> bytes:
    """An uncompressed one-strip TIFF; `fields` give depth, colour and the rest."""
    made = TiffMaker()
    strip = made.put(samples)
    size: list[Field] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (259, 3, [1]),
        (273, 4, [strip]),
        (278, 4, [height]),
        (279, 4, [len(samples)]),
    ]
    return made.finish(made.directory([*size, *fields]))


def dng(
    preview: Image.Image | None,
    *,
    orientation: int = 1,
    width: int = 800,
    height: int = 600,
    extra: list[Field] | None = None,
) -> bytes:
    """A minimal DNG file of flat grey, with a JPEG preview if given."""
    made = TiffMaker()
    sensor = np.full((height, width), 8000, "<u2").tobytes()
    raw: list[Field] = [
        (254, 4, [0]),
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [16]),
        (259, 3, [1]),
        (262, 3, [32803]),
        (273, 4, [made.put(sensor)]),
        (277, 3, [1]),
        (278, 4, [height]),
        (279, 4, [len(sensor)]),
        (33421, 3, [2, 2]),
        (33422, 1, [0, 1, 1, 2]),
        (50714, 3, [0]),
        (50717, 4, [65535]),
    ]
    zero, one = (0, 1), (1, 1)
    camera: list[Field] = [
        (271, 2, b"Acme\0"),
        (272, 2, b"One\0"),
        (274, 3, [orientation]),
        (50706, 1, [1, 4, 0, 0]),
        (50707, 1, [1, 1, 0, 0]),
        (50708, 2, b"Acme One\0"),
        (50721, 10, [one, zero, zero, zero, one, zero, zero, zero, one]),
        (50728, 5, [one] * 3),
        (50778, 3, [21]),
        *(extra or []),
    ]
    if preview is None:
        return made.finish(made.directory([*raw, *camera]))
    jpeg = encoded(preview, "JPEG", quality=95)
    shown: list[Field] = [
        (254, 4, [1]),
        (256, 4, [preview.width]),
        (257, 4, [preview.height]),
        (258, 3, [8, 8, 8]),
        (259, 3, [7]),
        (262, 3, [6]),
        (273, 4, [made.put(jpeg)]),
        (277, 3, [3]),
        (278, 4, [preview.height]),
        (279, 4, [len(jpeg)]),
        (330, 4, [made.directory(raw)]),
    ]
    return made.finish(made.directory([*shown, *camera]))


def rgb_profile(gamma: float, red: tuple[int, int, int], green: tuple[int, int, int]) -> bytes:
    """A matrix ICC profile; primaries as s15Fixed16 XYZ integers, blue completes D50."""
    white = (63190, 65536, 54061)
    blue = tuple(w - r - g for w, r, g in zip(white, red, green, strict=True))
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)

    def xyz(values: tuple[int, ...]) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *values)

    tags = {b"wtpt": xyz(white), b"rXYZ": xyz(red), b"gXYZ": xyz(green), b"bXYZ": xyz(blue)}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    return _profile(b"GRAY", {b"wtpt": white, b"kTRC": curve})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags |= {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(80)}
    tags |= {b"cprt": b"text" + bytes(4) + b"none\0\0\0\0"}
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        data = value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"test", 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


# Adobe RGB (1998): gamma 2.2, primaries adapted to D50.
ADOBE_RGB = rgb_profile(2.19921875, (39961, 20389, 1275), (13453, 41003, 3992))


def exif_with(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()
