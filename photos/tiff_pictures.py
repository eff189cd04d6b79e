"""Reads the pixels of TIFF files (TIFF 6.0 and its supplements).

Pillow knows few combinations of bits, sample formats, planes and extra samples, and takes some for
others. So libtiff decompresses the samples as stored, and this module interprets them. A form that
is not known here is refused by name. Only JPEG inside TIFF is left to Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from regard.core.errors import DecodeError
from regard.core.records import UInt8Array
from regard.photos.colour import Raster, palette_image, pillow_raster, strips
from regard.photos.tiff import SUB_DIRECTORIES, Directory, TiffBlock

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE = 254, 255
_WIDTH, LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, _SAMPLES, STRIP_ROWS, STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 320, 322, 323, 324, 325
_INK_SET, _EXTRA, _FORMAT = 332, 338, 339
_COEFFICIENTS, _CHROMA, _REFERENCE, _PREDICTOR, WHITE_POINT = 529, 530, 532, 317, 318
# Fields that decompression needs: those above, fill order, fax options, predictor, JPEG and LERC.
PIXEL_FIELDS = frozenset(
    {_WIDTH, LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, STRIPS, _SAMPLES, STRIP_ROWS}
    | {STRIP_BYTES, _PLANAR, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES, _EXTRA, _FORMAT}
    | {_CHROMA, _PREDICTOR, _COEFFICIENTS, _REFERENCE, 531}
    | {266, 292, 293, 347, *range(512, 522), 50674}
)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, YCBCR = range(7)
CIE_LAB, ICC_LAB = 8, 9
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _MASK: 1}
_COLOURS |= {_CMYK: 4, YCBCR: 3, CIE_LAB: 3, ICC_LAB: 3}
_FAX = {2, 3, 4, 32771}
JPEG = {6, 7}
# None, LZW, Deflate (two numbers), NeXT, PackBits, ThunderScan, LERC, LZMA, Zstandard and WebP.
_COMPRESSIONS = {1, 5, 8, 32946, 32766, 32773, 32809, 34887, 34925, 50000, 50001, *_FAX}
# The most bytes that one compressed byte of LZW, Deflate and PackBits can stand for.
_EXPANSIONS = {5: 2731, 8: 1032, 32946: 1032, 32773: 64}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_DEPTHS = {"u": {*range(1, 17), 24, 32, 64}, "i": {8, 16, 32, 64}, "f": {16, 32, 64}}
UNSPECIFIED, _ASSOCIATED, UNASSOCIATED, _COREL = 0, 1, 2, 999

_MAX_PIECES = 1 << 20
_MAX_SAMPLES = 64
# Samples of 16 bits in four channels fit at the default pixel limit.
_MAX_SAMPLE_BYTES = 1 << 30

# CIE XYZ under D65 to linear sRGB, and Bradford's cone response (Lindbloom).
_XYZ_TO_RGB = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)

_Samples = npt.NDArray[Any]
_Reader = Callable[[_Samples], UInt8Array]


@dataclass(frozen=True, slots=True)
class TiffPicture:
    """A picture of a TIFF file and its form.

    `kind` is u, i or f: unsigned, signed or floating-point samples of `bits`. `alpha` is the index
    of the sample that is the transparency, or None.
    """

    block: TiffBlock
    directory: Directory
    width: int
    height: int
    compression: int
    photometric: int
    samples: int
    bits: int
    kind: str
    is_planar: bool
    alpha: int | None
    alpha_kind: int


def full_picture(block: TiffBlock) -> Directory:
    """The directory of the first picture that is neither a reduced version nor a mask."""
    first = block.first
    if not _is_secondary(block, first):
        return first
    below = (entry for d in block.directories for entry in block.below(d, SUB_DIRECTORIES))
    full = [d for d in (*block.directories, *below) if not _is_secondary(block, d)]
    return max(full, key=lambda d: block.integer(d, _WIDTH) or 0, default=first)


def _is_secondary(block: TiffBlock, directory: Directory) -> bool:
    kind = block.integer(directory, _SUBFILE_TYPE) or 0
    return bool(kind & 0b101) or block.integer(directory, _OLD_SUBFILE_TYPE) == 2


def read_picture(block: TiffBlock, max_pixels: int, max_reduced_pixels: int) -> TiffPicture:
    """Read the form of the full picture; raises DecodeError if it is damaged or not supported.

    Up to `max_reduced_pixels` it may have more than `max_pixels`, but none of its tiles.
    """
    directory = full_picture(block)

    def number(tag: int, default: int) -> int:
        value = block.integer(directory, tag)
        return default if value is None else value

    width, height = number(_WIDTH, 0), number(LENGTH, 0)
    bits = block.integers(directory, _BITS) or (1,)
    samples = number(_SAMPLES, len(bits))
    formats = block.integers(directory, _FORMAT)[:samples] or (1,)
    compression = number(_COMPRESSION, 1)
    white = _WHITE_IS_ZERO if compression in _FAX else _BLACK_IS_ZERO
    photometric = number(_PHOTOMETRIC, _RGB if samples > 2 else white)
    colours = _COLOURS.get(photometric, 0)
    kind = _KINDS.get(formats[0], "")
    alpha = _alpha(block.integers(directory, _EXTRA), colours, samples)
    picture = TiffPicture(
        block,
        directory,
        width,
        height,
        compression,
        photometric,
        samples,
        bits[0],
        kind,
        samples > 1 and number(_PLANAR, 1) == 2,
        *alpha,
    )
    _check_pieces(picture, max_pixels, max_reduced_pixels)
    is_known = compression in JPEG or (
        compression in _COMPRESSIONS
        and 0 < colours <= samples <= _MAX_SAMPLES
        and len(set(bits[:samples])) == len(set(formats)) == 1
        and _is_depth_known(picture)
        and not (photometric == _CMYK and number(_INK_SET, 1) != 1)
    )
    if not is_known:
        raise _unsupported(picture)
    if not _is_complete(picture):
        raise DecodeError("its TIFF data is damaged or cut short: bytes are missing")
    return picture


def _is_depth_known(picture: TiffPicture) -> bool:
    bits, kind, photometric = picture.bits, picture.kind, picture.photometric
    if photometric == _PALETTE:
        return kind == "u" and bits <= 16
    if photometric in {CIE_LAB, ICC_LAB}:
        return kind in {"u", "i"} and bits in {8, 16}
    if photometric == YCBCR:
        return kind == "u" and bits == 8 and picture.samples == 3 and not picture.is_planar
    return bits in _DEPTHS.get(kind, ())


def _alpha(extra: tuple[int, ...], colours: int, samples: int) -> tuple[int | None, int]:
    """Index (or None) and kind of the transparency among the samples.

    A single extra sample counts, whatever it is declared to be: libtiff, libvips and ImageMagick
    show it so.
    """
    count = samples - colours
    for index, kind in enumerate(extra[: max(count, 0)]):
        if kind in {_ASSOCIATED, UNASSOCIATED, _COREL}:
            return colours + index, kind
    return (colours if count == 1 else None), UNSPECIFIED


def _check_pieces(picture: TiffPicture, max_pixels: int, max_reduced_pixels: int) -> None:
    """Refuse pieces that would make libtiff allocate far more than the picture needs."""
    block, directory = picture.block, picture.directory
    tile_width = block.integer(directory, TILE_WIDTH) or 0
    tile_length = block.integer(directory, TILE_LENGTH) or 0
    if tile_width * tile_length > max_pixels:
        raise DecodeError(f"its tiles of {tile_width} × {tile_length} pixels are too large")
    if any(directory[tag].count > _MAX_PIECES for tag in (STRIPS, TILES) if tag in directory):
        raise DecodeError(f"it is cut into more than {_MAX_PIECES:,} pieces")
    pixels = max(picture.width * picture.height, tile_width * tile_length)
    if max_pixels < pixels <= max_reduced_pixels:
        return
    size = pixels * picture.samples * max(storage_bytes(picture.bits), 1)
    if size > _MAX_SAMPLE_BYTES:
        raise DecodeError(f"its samples take {size:,} bytes, more than {_MAX_SAMPLE_BYTES:,}")


def _is_complete(picture: TiffPicture) -> bool:
    """Whether all fields and pieces end within the file and can hold all pixels.

    libtiff reads a copy to whose end a directory is added, which must not pass for pixels.
    """
    block, directory = picture.block, picture.directory
    if any(entry.end > block.size for tag, entry in directory.items() if tag in PIXEL_FIELDS):
        return False
    tag, counts_tag = (TILES, TILE_BYTES) if TILES in directory else (STRIPS, STRIP_BYTES)
    starts = block.integers(directory, tag, _MAX_PIECES)
    counts = block.integers(directory, counts_tag, _MAX_PIECES)
    if any(start + count > block.size for start, count in zip(starts, counts, strict=False)):
        return False
    # Subsampled colours take a third of the samples or more.
    least = picture.width * picture.height * picture.samples * picture.bits // 24
    expansion = _EXPANSIONS.get(picture.compression)
    if counts and expansion is not None and sum(counts) * expansion < least:
        return False
    if picture.compression != 1 or picture.photometric == YCBCR or not starts:
        return True
    # Uncompressed pieces are read whole, whatever their declared counts.
    bits = picture.bits * (1 if picture.is_planar else picture.samples)
    last = max(range(len(starts)), key=starts.__getitem__)
    if tag == TILES:
        width, rows = _number(picture, TILE_WIDTH), _number(picture, TILE_LENGTH)
    else:
        width, rows = picture.width, _number(picture, STRIP_ROWS) or picture.height
        strips_a_plane = -(-picture.height // rows)
        rows = min(rows, picture.height - last % max(strips_a_plane, 1) * rows)
    return starts[last] + rows * ((width * bits + 7) // 8) <= block.size


def storage_bytes(bits: int) -> int:
    """The bytes that a sample takes once it is decompressed."""
    return next((size for size in (1, 2, 4) if bits <= 8 * size), 8)


def _unsupported(picture: TiffPicture) -> DecodeError:
    kind = {"i": "signed ", "f": "floating-point ", "": "complex "}.get(picture.kind, "")
    return DecodeError(
        f"TIFF with {picture.samples} {kind}samples of {picture.bits} bits, photometric "
        f"{picture.photometric} and compression {picture.compression} is not supported"
    )


def decode_picture(picture: TiffPicture) -> Raster:
    """Decompress the pixels; raises whatever the decoders raise."""
    if picture.compression in JPEG:
        return _jpeg_raster(picture)
    if picture.photometric == YCBCR:
        return _ycbcr_raster(picture)
    samples = _stored_samples(picture)
    if picture.kind == "i" and (picture.bits == 8 or samples.min() < 0):
        # ImageMagick declares unsigned samples signed and, as libtiff does, reads them so.
        samples = samples.view(f"u{samples.itemsize}")
        picture = replace(picture, kind="u")
    colours = _COLOURS[picture.photometric]
    read_colours = _colour_reader(picture, samples[..., :colours])
    alpha = picture.alpha
    if alpha is not None and picture.alpha_kind == UNSPECIFIED and not samples[..., alpha].any():
        alpha = None
    read_alpha = None if alpha is None else _depth_reader(picture, samples[..., alpha])

    def strip(top: int, bottom: int) -> tuple[Image.Image, Image.Image | None]:
        part = samples[top:bottom]
        pixels = read_colours(part[..., :colours])
        if read_alpha is None:
            return sample_image(pixels), None
        opacity = read_alpha(part[..., alpha])
        if picture.alpha_kind == _ASSOCIATED:
            # Undo the multiplication, so that profiles apply to the colours.
            scale = 255.0 / np.maximum(opacity, 1)[..., None]
            pixels = np.minimum(pixels * scale + 0.5, 255).astype(np.uint8)
        return sample_image(pixels), Image.fromarray(opacity)

    return Raster(picture.width, picture.height, strip)


def sample_image(pixels: UInt8Array) -> Image.Image:
    """8-bit samples of shape (height, width, 1, 3 or 4) as an L, RGB or CMYK image."""
    height, width, samples = pixels.shape
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[samples]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels))


def _stored_samples(picture: TiffPicture) -> _Samples:
    """The samples as stored, of shape (height, width, samples)."""
    count = picture.samples
    code = next(code for code, kind in _KINDS.items() if kind == picture.kind)
    samples = _decompressed(
        picture,
        {
            _BITS: [picture.bits] * count,
            _SAMPLES: [count],
            _FORMAT: [code] * count,
            _EXTRA: [UNSPECIFIED] * (count - 1),
        },
    )
    if count == 1:
        samples = samples[..., None]
    elif picture.is_planar:
        samples = np.moveaxis(samples, 0, -1)
    if samples.shape != (picture.height, picture.width, count):
        raise DecodeError("its TIFF data is damaged or cut short")
    return samples


def _decompressed(picture: TiffPicture, fields: dict[int, list[int]]) -> _Samples:
    """What libtiff makes of the picture with some fields replaced.

    As grey with unspecified extra samples, it leaves the colours alone. Metadata, however damaged
    or large, does not reach it.
    """
    import imagecodecs

    fields = {_PHOTOMETRIC: [_BLACK_IS_ZERO], **fields}
    file = _pixel_file(picture, {tag: numbers for tag, numbers in fields.items() if numbers})
    samples: _Samples = imagecodecs.tiff_decode(file)
    return samples


def _pixel_file(picture: TiffPicture, fields: dict[int, list[int]]) -> bytes:
    """The file with a first directory of the fields that decompression needs."""
    block, directory = picture.block, picture.directory
    kept = {tag: entry for tag, entry in directory.items() if tag in PIXEL_FIELDS}
    if STRIPS in directory and STRIP_BYTES not in directory and directory[STRIPS].count == 1:
        fields = {STRIP_BYTES: [block.size - _number(picture, STRIPS)], **fields}
    return block.with_first(kept, fields)


def _colour_reader(picture: TiffPicture, samples: _Samples) -> _Reader:
    """A function that turns stored samples into 8-bit grey, RGB or CMYK."""
    if picture.photometric == _PALETTE:
        palette = _palette(picture)
        if picture.bits <= 8:
            return lambda part: np.asarray(palette_image(part[..., 0].astype(np.uint8), palette))
        return lambda part: palette[part[..., 0]]
    if picture.photometric in {CIE_LAB, ICC_LAB}:
        return _lab_reader(picture)
    read = _depth_reader(picture, samples)
    if picture.photometric == _WHITE_IS_ZERO:
        return lambda part: 255 - read(part)
    return read


def _depth_reader(picture: TiffPicture, samples: _Samples) -> _Reader:
    """A function that scales samples like these to 8 bits."""
    bits = picture.bits
    if picture.kind == "u" and bits == 8:
        return lambda part: part
    if picture.kind == "u" and bits == 16:
        # Division by 257, rounded to within 0.51, that does not leave 16 bits.
        return lambda part: ((part - (part >> 8) + 128) >> 8).astype(np.uint8)
    if picture.kind == "u" and bits < 16:
        white = (1 << bits) - 1
        table = (np.arange(white + 1) * (255.0 / white) + 0.5).astype(np.uint8)
        # One bit comes as a Boolean, which would select rows.
        return lambda part: table[part.astype(np.uint16, copy=False)]
    low, high = _range(picture, samples)

    def scale(part: _Samples) -> UInt8Array:
        values = part.astype(np.float32)
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
        values -= low
        values *= 255.0 / (high - low)
        np.clip(values, 0.0, 255.0, out=values)
        return (values + 0.5).astype(np.uint8)

    return scale


def _range(picture: TiffPicture, samples: _Samples) -> tuple[float, float]:
    """Black and white of signed, floating-point or more than 16 bits, which no field declares.

    Samples within 0 to 1 (floating-point), 255, 65535 or their type's largest value are taken to
    span that range, others their own range. Highlights above 1 are cut if most samples are below.
    """
    low, high = np.inf, -np.inf
    below_one = total = 0
    height, width = samples.shape[:2]
    for top, bottom in strips(width, height):
        part = samples[top:bottom]
        finite = part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            lit = finite[finite > 0]
            below_one += int(np.count_nonzero(lit <= 1))
            total += lit.size
    is_float = picture.kind == "f"
    if low >= 0:
        if is_float and 2 * below_one > total:
            return 0.0, 1.0
        largest = (1 << picture.bits - (picture.kind == "i")) - 1.0
        for white in (255.0, 65535.0) if is_float else (255.0, 65535.0, largest):
            if high <= white:
                return 0.0, white if is_float else min(white, largest)
    return (low, high) if low < high else (low - 1.0, low)


def _palette(picture: TiffPicture) -> UInt8Array:
    """The colour map, of shape (colours, 3); raises DecodeError if it is incomplete."""
    count = 1 << picture.bits
    stored = picture.block.integers(picture.directory, COLOUR_MAP, 3 * count)
    if len(stored) < 3 * count:
        raise DecodeError("its TIFF colour map is damaged")
    table = np.array(stored).reshape(3, count).T
    # Some programs write 8 bits instead of 16.
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)


def _lab_reader(picture: TiffPicture) -> _Reader:
    """A function that turns CIE L*a*b* into sRGB.

    a and b are signed, or offset in the form of ICC profiles. White is D50, as Adobe's note on
    TIFF has it, unless the file names another one.
    """
    bits, is_icc = picture.bits, picture.photometric == ICC_LAB
    unit = 1 << bits - 8
    top = 255 * unit if is_icc else (1 << bits) - 1
    x, y = _numbers(picture, WHITE_POINT, _D50)
    white, target = (np.array([x / y, 1, (1 - x - y) / y], np.float32) for x, y in ((x, y), _D65))
    cones = np.diag((_BRADFORD @ target) / (_BRADFORD @ white))
    to_rgb = (_XYZ_TO_RGB @ np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD).astype(np.float32)
    levels = np.arange(1 << 16) / 65535
    curve = np.where(levels <= 0.0031308, levels * 12.92, 1.055 * levels ** (1 / 2.4) - 0.055)
    encoded = (curve * 255 + 0.5).astype(np.uint8)

    def read(part: _Samples) -> UInt8Array:
        # Some programs declare all samples signed; lightness is not.
        stored = part.view(f"u{bits // 8}")
        lightness = (stored[..., 0].astype(np.float32) * (100 / top) + 16) / 116
        if is_icc:
            opponents = stored[..., 1:].astype(np.float32) - (1 << bits - 1)
        else:
            opponents = part[..., 1:].view(f"i{bits // 8}").astype(np.float32)
        a, b = opponents[..., 0] / (500 * unit), opponents[..., 1] / (200 * unit)
        f = np.stack([lightness + a, lightness, lightness - b], axis=-1)
        xyz = np.where(f > 6 / 29, f * f * f, (f - 4 / 29) * (108 / 841)) * white
        linear = np.clip(xyz @ to_rgb.T, 0, 1)
        pixels: UInt8Array = encoded[(linear * 65535 + 0.5).astype(np.uint16)]
        return pixels

    return read


def _ycbcr_raster(picture: TiffPicture) -> Raster:
    """Luminance and colour differences, whose units of neighbouring pixels share one pair."""
    block, directory = picture.block, picture.directory
    across, down = (*block.integers(directory, _CHROMA), 2, 2)[:2]
    if not {across, down} <= {1, 2, 4} or block.integer(directory, _PREDICTOR) not in {None, 1}:
        raise _unsupported(picture)
    if _CHROMA in directory:
        units = _ycbcr_units(picture, across, down)
    else:
        # The default is 2 × 2, but some programs mean 1 × 1, which takes twice as many bytes.
        try:
            units, across, down = _ycbcr_units(picture, 1, 1), 1, 1
        except RuntimeError:
            units = _ycbcr_units(picture, across, down)
    red, green, blue = _numbers(picture, _COEFFICIENTS, (0.299, 0.587, 0.114))
    reference = _numbers(picture, _REFERENCE, (0, 255, 128, 255, 128, 255))

    def strip(top: int, bottom: int) -> tuple[Image.Image, None]:
        first = top // down
        part = units[first : -(-bottom // down)]
        height, width = len(part) * down, part.shape[1] * across
        luma = part[..., :-2].reshape(len(part), -1, down, across).swapaxes(1, 2)
        planes = [luma.reshape(height, width)]
        planes += [part[..., i].repeat(down, 0).repeat(across, 1) for i in (-2, -1)]
        y, cb, cr = (
            (plane.astype(np.float32) - low) * (scale / (high - low))
            for plane, low, high, scale in zip(
                planes, reference[::2], reference[1::2], (255, 127, 127), strict=True
            )
        )
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        rgb = np.stack([r, (y - red * r - blue * b) / green, b], axis=-1)
        pixels = (np.clip(rgb, 0, 255) + 0.5).astype(np.uint8)
        return sample_image(pixels[top - first * down :][: bottom - top, : picture.width]), None

    return Raster(picture.width, picture.height, strip)


def _ycbcr_units(picture: TiffPicture, across: int, down: int) -> UInt8Array:
    """The units, of shape (rows, columns, across × down + 2).

    libtiff decompresses them as rows of bytes.
    """
    unit = across * down + 2
    sizes = {
        _WIDTH: -(-picture.width // across) * unit,
        LENGTH: -(-picture.height // down),
        STRIP_ROWS: -(-min(_number(picture, STRIP_ROWS), picture.height) // down),
        TILE_WIDTH: _number(picture, TILE_WIDTH) // across * unit,
        TILE_LENGTH: _number(picture, TILE_LENGTH) // down,
    }
    fields = {tag: [size] for tag, size in sizes.items() if tag in picture.directory}
    stored = _decompressed(picture, {**fields, _BITS: [8], _SAMPLES: [1]})
    units: UInt8Array = stored.reshape(len(stored), -1, unit)
    return units


def _number(picture: TiffPicture, tag: int) -> int:
    return picture.block.integer(picture.directory, tag) or 0


def _numbers(picture: TiffPicture, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """The numbers of a field; the default if any is missing or 0 where it would divide."""
    values = picture.block.numbers(picture.directory, tag, len(default))
    numbers = tuple(value for value in values if value is not None)
    divisors = numbers
    if tag == _REFERENCE:
        divisors = tuple(high - low for low, high in zip(numbers[::2], numbers[1::2], strict=False))
    return numbers if len(numbers) == len(default) and all(divisors) else default


def _jpeg_raster(picture: TiffPicture) -> Raster:
    """JPEG inside TIFF, which Pillow decodes."""
    try:
        image = TiffImageFile(io.BytesIO(_pixel_file(picture, {})))
    except SyntaxError as error:
        raise _unsupported(picture) from error
    image.load()
    return pillow_raster(image)
