"""Every form in which a format stores pixels gives the same picture, or is refused by name."""

from __future__ import annotations

import io
import itertools
import logging
import struct
import zlib

import numpy as np
import pytest
import tifffile
from made_photos import Field, TiffMaker, decoded, encoded, png, png_chunk, tiff
from PIL import Image as Pillow

from regard.core.errors import DecodeError

# Odd sizes, so that padding shows.
HEIGHT, WIDTH = 37, 53
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([X * 4, Y * 6, ((X // 8 + Y // 8) % 2) * 200], -1).astype(np.uint8)
GREY = RGB[..., :1]
ALPHA = np.clip((X + Y) * 4 - 50, 0, 255).astype(np.uint8)[..., None]
CMYK = np.dstack([255 - RGB, np.zeros_like(GREY)])


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha / 255
    return colours * share + 255 * (1 - share)


def assert_shows(data: bytes, expected: np.ndarray, tolerance: float = 1.01) -> None:
    pixels = decoded(data).pixels
    assert pixels.shape == (*expected.shape[:2], 3)
    assert np.abs(pixels.astype(float) - expected).max() <= tolerance


def packed(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples of any number of bits, each row padded to a byte."""
    rows = samples.reshape(len(samples), -1).astype(np.uint32)
    planes = rows[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(planes.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def fields(samples: int, bits: int, photometric: int, *more: Field) -> list[Field]:
    return [(258, 3, [bits] * samples), (262, 3, [photometric]), (277, 3, [samples]), *more]


# TIFF

TYPES = ["uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "int8"]
LAYOUTS = [
    {},
    {"byteorder": ">", "rowsperstrip": 7},
    {"compression": "zlib", "predictor": True},
    {"compression": "lzw", "tile": (16, 32)},
    {"compression": "zstd", "bigtiff": True},
]


def as_type(pixels: np.ndarray, kind: str) -> np.ndarray:
    if kind.startswith("float"):
        return (pixels / 255).astype(kind)
    if kind == "int8":
        # ImageMagick declares unsigned samples so.
        return pixels.view("int8")
    return pixels.astype(kind) * (np.iinfo(kind).max // 255)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff_of_every_type_layout_and_plane(
    kind: str, planar: str, layout: dict[str, object]
) -> None:
    if layout.get("predictor") and kind == "uint64":
        layout = {"compression": "zlib"}
    forms = {
        "minisblack": (GREY, np.repeat(GREY, 3, -1)),
        "miniswhite": (255 - GREY, np.repeat(GREY, 3, -1)),
        "rgb": (RGB, RGB),
        "separated": (CMYK, RGB),
    }
    for photometric, (colours, expected) in forms.items():
        for alpha in (None, "unassalpha", "assocalpha", "unspecified"):
            stored, shown = colours, expected
            if alpha == "assocalpha":
                if photometric == "miniswhite" or kind == "int8":
                    continue
                stored = np.round(colours * (ALPHA / 255)).astype(np.uint8)
            if alpha is not None:
                stored, shown = np.dstack([stored, ALPHA]), over_white(expected, ALPHA)
            samples = as_type(stored, kind)
            if planar == "separate":
                samples = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
            file = io.BytesIO()
            tifffile.imwrite(
                file,
                samples if samples.shape[-1] > 1 and samples.shape[0] > 1 else samples.squeeze(),
                photometric=photometric,
                planarconfig=planar if stored.shape[-1] > 1 else None,
                extrasamples=None if alpha is None else [alpha],
                metadata=None,
                **layout,
            )
            # Colours multiplied by a low alpha lose precision.
            assert_shows(file.getvalue(), shown, 2.01)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", [1, 2])
def test_tiff_of_every_depth(bits: int, order: int) -> None:
    white = (1 << bits) - 1
    levels = np.round(RGB / 255 * white).astype(int)
    expected = levels * (255 / white)

    def stored(samples: np.ndarray) -> bytes:
        data = packed(samples, bits)
        if bits == 16:
            data = samples.astype("<u2").tobytes()
        reverse = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
        return data.translate(reverse) if order == 2 else data

    grey = np.repeat(expected[..., :1], 3, -1)
    fill: Field = (266, 3, [order])
    for photometric, samples in ((1, levels[..., :1]), (0, white - levels[..., :1])):
        data = stored(samples)
        assert_shows(tiff(WIDTH, HEIGHT, data, *fields(1, bits, photometric, fill)), grey)
    assert_shows(tiff(WIDTH, HEIGHT, stored(levels), *fields(3, bits, 2, fill)), expected)
    if bits <= 8:
        # A map of 16 bits, and one of 8 as some programs write.
        ramp = np.arange(white + 1)
        colours = np.stack([ramp * 255 // white, 255 - ramp * 255 // white, ramp * 0 + 77], -1)
        for scale in (257, 1):
            table: Field = (320, 3, (colours.T * scale).ravel().tolist())
            data = tiff(WIDTH, HEIGHT, stored(levels[..., :1]), *fields(1, bits, 3, table, fill))
            assert_shows(data, colours[levels[..., 0]])


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 4)])
def test_tiff_of_subsampled_colour_differences(across: int, down: int, compression: int) -> None:
    small = np.asarray(Pillow.fromarray(RGB).convert("YCbCr"))[::4, ::4]
    ycbcr = small.repeat(4, 0).repeat(4, 1)
    height, width = len(ycbcr), ycbcr.shape[1]
    luma = ycbcr[..., 0].reshape(height // down, down, width // across, across)
    units = np.concatenate(
        [
            luma.swapaxes(1, 2).reshape(height // down, width // across, -1),
            ycbcr[::down, ::across, 1:],
        ],
        axis=-1,
    )
    expected = np.asarray(Pillow.fromarray(ycbcr, "YCbCr").convert("RGB")).astype(int)
    # The last units may reach beyond the picture.
    expected = expected[: height - (down > 1), : width - (across > 1)]
    made = TiffMaker()
    rows = 16 // down * down
    strips = [units[top // down : (top + rows) // down].tobytes() for top in range(0, height, rows)]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    places = [made.put(strip) for strip in strips]
    more: list[Field] = [
        (256, 4, [expected.shape[1]]),
        (257, 4, [len(expected)]),
        (259, 3, [compression]),
        (273, 4, places),
        (278, 4, [rows]),
        (279, 4, [len(strip) for strip in strips]),
    ]
    chroma: list[Field] = [(530, 3, [across, down])]
    for optional in (chroma, []):
        if optional or (across, down) in {(1, 1), (2, 2)}:
            data = made.finish(made.directory([*fields(3, 8, 6), *more, *optional]))
            assert_shows(data, expected, 2)


# L*a*b* under D50 of sRGB white, grey, red, green and blue (Lindbloom's calculator).
LAB = {
    (255, 255, 255): (100, 0, 0),
    (119, 119, 119): (50.03, 0, 0),
    (255, 0, 0): (54.29, 80.81, 69.89),
    (0, 255, 0): (87.82, -79.29, 80.99),
    (0, 0, 255): (29.57, 68.30, -112.03),
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [8, 9])
def test_tiff_of_lab_colours(bits: int, photometric: int) -> None:
    unit = 1 << bits - 8
    lab = np.array([list(LAB.values())])
    top = 255 * unit if photometric == 9 else (1 << bits) - 1
    stored = np.round(lab * [top / 100, unit, unit]).astype(int)
    if photometric == 9:
        stored[..., 1:] += 1 << bits - 1
    samples = (stored % (1 << bits)).astype(f"<u{bits // 8}")
    expected = np.array([list(LAB)])
    for signed in ([], [(339, 3, [2, 2, 2])] if photometric == 8 else []):
        data = tiff(len(LAB), 1, samples.tobytes(), *fields(3, bits, photometric, *signed))
        # Eight bits cannot say more of a saturated colour.
        assert_shows(data, expected, 2 if bits == 16 else 12)


@pytest.mark.parametrize("compression", [1, 8])
def test_a_tiff_without_byte_counts_is_read_or_found_cut_short(compression: int) -> None:
    pixels = zlib.compress(RGB.tobytes()) if compression == 8 else RGB.tobytes()
    size: list[Field] = [(256, 4, [WIDTH]), (257, 4, [HEIGHT]), (259, 3, [compression])]
    made = TiffMaker()
    data = made.finish(made.directory([*size, (273, 4, [0]), *fields(3, 8, 2)]))
    # The pixels come last.
    strip = struct.pack("<HHI", 273, 4, 1)
    data = data.replace(strip + bytes(4), strip + struct.pack("<I", len(data))) + pixels
    assert_shows(data, RGB)
    # The last four bytes of Deflate are a checksum, not pixels.
    for cut in (1, 7, 500) if compression == 1 else (20, 90):
        with pytest.raises(DecodeError, match="cut short"):
            decoded(data[:-cut])


def test_float_tiff_keeps_its_middle_tones_beside_highlights() -> None:
    samples = (RGB / 255).astype("<f4")
    samples[3:5, 3:5] = 40.0
    expected = RGB.copy()
    expected[3:5, 3:5] = 255
    data = tiff(WIDTH, HEIGHT, samples.tobytes(), *fields(3, 32, 2, (339, 3, [3] * 3)))
    assert_shows(data, expected)


@pytest.mark.parametrize(
    ("stored", "white"),
    [(RGB.astype("<i2") * 128, 32640), (RGB.astype("<i4"), 255), (RGB.astype("<u4") * 257, 65535)],
)
def test_wide_integers_span_the_range_that_they_use(stored: np.ndarray, white: int) -> None:
    code = 2 if stored.dtype.kind == "i" else 1
    more: Field = (339, 3, [code] * 3)
    data = tiff(WIDTH, HEIGHT, stored.tobytes(), *fields(3, 8 * stored.itemsize, 2, more))
    assert_shows(data, stored * (255 / white), 2)


def test_an_unspecified_alpha_that_is_nowhere_set_is_none() -> None:
    nothing = np.zeros_like(ALPHA)
    for extra, expected in ((0, RGB), (2, np.full_like(RGB, 255))):
        samples = np.dstack([RGB, nothing]).tobytes()
        data = tiff(WIDTH, HEIGHT, samples, *fields(4, 8, 2, (338, 3, [extra])))
        assert_shows(data, expected)


def test_the_full_picture_of_a_tiff_is_decoded() -> None:
    def page(made: TiffMaker, pixels: np.ndarray, *more: Field) -> list[Field]:
        height, width = pixels.shape[:2]
        place = made.put(pixels.tobytes())
        size: list[Field] = [(256, 4, [width]), (257, 4, [height]), (259, 3, [1])]
        strip: list[Field] = [(273, 4, [place]), (278, 4, [height]), (279, 4, [pixels.size])]
        return [*size, *strip, *fields(3, 8, 2), *more]

    small = np.ascontiguousarray(RGB[::4, ::4])
    for secondary in ((254, 4, [1]), (255, 3, [2]), (254, 4, [4])):
        # A reduced version or a mask first, then the picture.
        made = TiffMaker()
        second = made.directory(page(made, RGB, (274, 3, [3])))
        first = made.directory(page(made, small, secondary))
        made.out[first + 2 + 12 * 10 : first + 6 + 12 * 10] = struct.pack("<I", second)
        assert_shows(made.finish(first), RGB[::-1, ::-1])
        # The picture below its preview.
        made = TiffMaker()
        below = made.directory(page(made, RGB))
        data = made.finish(made.directory(page(made, small, secondary, (330, 4, [below]))))
        assert_shows(data, RGB)
    made = TiffMaker()
    second = made.directory(page(made, RGB))
    first = made.directory(page(made, small))
    made.out[first + 2 + 12 * 9 : first + 6 + 12 * 9] = struct.pack("<I", second)
    assert_shows(made.finish(first), small)


@pytest.mark.parametrize(
    "changed",
    [
        [(339, 3, [6] * 3)],  # complex numbers
        [(258, 3, [5, 6, 5])],
        [(258, 3, [40] * 3)],
        [(262, 3, [32844])],
        [(262, 3, [10])],
        [(259, 3, [34712])],  # JPEG 2000
        [(259, 3, [50002])],  # JPEG XL
        [(259, 3, [9999])],
        [(277, 3, [2])],
        [(262, 3, [5]), (258, 3, [8] * 4), (277, 3, [4]), (332, 3, [2])],  # inks other than CMYK
    ],
)
def test_a_tiff_of_an_unknown_form_is_refused_by_name(changed: list[Field]) -> None:
    made = TiffMaker()
    place = made.put(RGB.tobytes())
    size: list[Field] = [(256, 4, [WIDTH]), (257, 4, [HEIGHT]), (259, 3, [1]), (273, 4, [place])]
    strip: list[Field] = [(278, 4, [HEIGHT]), (279, 4, [RGB.size])]
    described = {field[0]: field for field in (*size, *strip, *fields(3, 8, 2), *changed)}
    with pytest.raises(DecodeError, match="is not supported"):
        decoded(made.finish(made.directory(list(described.values()))))


# BMP


def bmp(
    rows: bytes,
    bits: int,
    *,
    header: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    is_top_down: bool = False,
) -> bytes:
    height = -HEIGHT if is_top_down else HEIGHT
    if header == 12:
        fields = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        fields = struct.pack("<IiiHHI", header, WIDTH, height, 1, bits, compression)
        fields = fields.ljust(40, b"\0")[:header]
        fields += struct.pack(f"<{len(masks)}I", *masks)
        fields = fields.ljust(header, b"\0")
    start = 14 + len(fields) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + fields + palette + rows


def bmp_rows(pixels: np.ndarray, *, is_top_down: bool = False) -> bytes:
    """Rows of bytes, padded to four and from the bottom up."""
    rows = pixels.reshape(HEIGHT, -1)
    rows = np.ascontiguousarray(rows).view(np.uint8).reshape(HEIGHT, -1)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    return (padded if is_top_down else padded[::-1]).tobytes()


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x07E0, 0x001F)),
        (16, (0x7C00, 0x03E0, 0x001F)),
        (16, (0x0F00, 0x00F0, 0x000F, 0xF000)),
        (16, (0x7C00, 0x03E0, 0x001F, 0x8000)),
        (32, (0xFF0000, 0x00FF00, 0x0000FF)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        (32, (0x3FF00000, 0x000FFC00, 0x000003FF, 0xC0000000)),
    ],
)
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_bmp_of_any_colour_masks(bits: int, masks: tuple[int, ...], header: int) -> None:
    if header == 52:
        # It has no room for a mask of alpha.
        masks = masks[:3]
    channels = np.dstack([RGB, ALPHA]).astype(int)
    stored, shown = np.zeros((HEIGHT, WIDTH), np.uint32), []
    for index, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        white = mask >> shift
        levels = np.round(channels[..., index] * white / 255).astype(np.uint32)
        stored |= levels << shift
        shown.append(levels * (255 / white))
    compression = 6 if header == 40 and len(masks) == 4 else 3
    expected = np.dstack(shown[:3])
    for is_set in (True, False) if len(masks) == 4 else (True,):
        samples = stored if is_set else stored & ~np.uint32(masks[3])
        rows = bmp_rows(samples.astype(f"<u{bits // 8}"))
        data = bmp(rows, bits, header=header, compression=compression, masks=masks)
        # An alpha that is nowhere set is none.
        has_alpha = is_set and len(masks) == 4
        assert_shows(data, over_white(expected, shown[3][..., None]) if has_alpha else expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 24, 32])
@pytest.mark.parametrize(
    ("header", "is_top_down"),
    [(12, False), *itertools.product((16, 40, 64, 108), (False, True))],
)
def test_bmp_of_every_depth_and_header(bits: int, header: int, is_top_down: bool) -> None:
    palette = b""
    if bits <= 8:
        indices = (GREY[..., 0] >> (8 - bits)).astype(np.uint8)
        colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3), dtype=np.uint8)
        entries = colours[:, ::-1]
        palette = (entries if header == 12 else np.pad(entries, ((0, 0), (0, 1)))).tobytes()
        stored = np.frombuffer(packed(indices, bits), np.uint8).reshape(HEIGHT, -1)
        expected = colours[indices]
    elif bits == 16:
        levels = RGB.astype(np.uint16) >> 3
        stored = levels[..., 0] << 10 | levels[..., 1] << 5 | levels[..., 2]
        expected = levels * (255 / 31)
    else:
        # The fourth byte is unused, not transparency.
        unused = [np.full_like(GREY, 9)] if bits == 32 else []
        stored, expected = np.dstack([RGB[..., ::-1], *unused]), RGB
    rows = bmp_rows(stored, is_top_down=is_top_down)
    assert_shows(bmp(rows, bits, header=header, palette=palette, is_top_down=is_top_down), expected)


def test_bmp_of_run_lengths() -> None:
    colours = np.random.default_rng(4).integers(0, 256, (256, 3), dtype=np.uint8)
    palette = np.pad(colours[:, ::-1], ((0, 0), (0, 1))).tobytes()
    indices = (X // 5 + Y) % 16
    for bits, compression in ((8, 1), (4, 2)):
        data = b""
        for row in indices[::-1].tolist():
            if bits == 8:
                data += b"".join(bytes([1, value]) for value in row[:20])
                data += bytes([0, 33, *row[20:], 0])
            else:
                nibbles = [
                    high << 4 | low for high, low in zip(row[::2], [*row[1::2], 0], strict=True)
                ]
                data += bytes([0, WIDTH, *nibbles])
                data += bytes(len(nibbles) % 2)
            data += b"\0\0"
        file = bmp(data + b"\0\1", bits, compression=compression, palette=palette[: 4 << bits])
        assert_shows(file, colours[indices])
        with pytest.raises(DecodeError, match="cut short"):
            decoded(file[:-80])
    # One pixel after a jump over two rows and three columns; the rest is empty.
    file = bmp(b"\0\2\3\2\1\7\0\1", 8, compression=1, palette=palette)
    expected = np.full((HEIGHT, WIDTH, 3), 255)
    expected[-3, 3] = colours[7]
    assert_shows(file, expected)


@pytest.mark.parametrize(("bits", "compression", "header"), [(0, 4, 40), (24, 5, 40), (64, 0, 40)])
def test_a_bmp_of_an_unknown_form_is_refused_by_name(
    bits: int, compression: int, header: int
) -> None:
    with pytest.raises(DecodeError, match="is not supported"):
        decoded(bmp(bytes(99_999), bits, header=header, compression=compression))


# PNG and GIF


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_colour_of_a_png_in_every_depth(depth: int) -> None:
    white = (1 << depth) - 1
    grey = np.round(GREY[..., 0] / 255 * white).astype(int)
    if depth == 16:
        # Differs from its neighbours in the lower byte only.
        grey = grey & ~1 | (X & 1)
    for kind, samples in ((0, grey[..., None]), (2, np.repeat(grey[..., None], 3, -1))):
        if kind == 2 and depth < 8:
            continue
        key = int(grey[20, 30])
        rows = samples.astype(">u2").tobytes() if depth == 16 else packed(samples, depth)
        filtered = np.frombuffer(rows, np.uint8).reshape(HEIGHT, -1)
        lines = np.pad(filtered, ((0, 0), (1, 0))).tobytes()
        chunk = png_chunk(b"tRNS", struct.pack(">H", key) * (3 if kind == 2 else 1))
        shown = np.repeat(grey[..., None] * (255 / white), 3, -1)
        assert_shows(
            png(WIDTH, HEIGHT, depth, kind, lines, chunk),
            np.where(grey[..., None] == key, 255, shown),
        )
        assert (grey == key).any()
        assert (grey != key).any()


def test_a_gif_smaller_than_its_canvas_lies_on_white() -> None:
    picture = Pillow.fromarray(RGB).quantize(64)
    data = bytearray(encoded(picture, "GIF"))
    data[6:10] = struct.pack("<HH", WIDTH + 20, HEIGHT + 10)
    place = data.index(b",\0\0\0\0" + struct.pack("<HH", WIDTH, HEIGHT))
    data[place + 1 : place + 5] = struct.pack("<HH", 7, 4)
    expected = np.full((HEIGHT + 10, WIDTH + 20, 3), 255)
    expected[4 : 4 + HEIGHT, 7 : 7 + WIDTH] = np.asarray(picture.convert("RGB"))
    assert_shows(bytes(data), expected)


logging.getLogger("tifffile").setLevel(logging.ERROR)
