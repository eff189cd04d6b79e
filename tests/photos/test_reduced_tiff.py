"""TIFF of more pixels than the limit, read at a part of its size in little memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from made_photos import ADOBE_RGB, TiffMaker, decoded, encoded, exif_with
from PIL import Image

from regard.core.errors import DecodeError
from regard.photos.decoding import DecodeLimits
from regard.photos.photo_file import PhotoFile

WIDTH, HEIGHT = 203, 150
LIMITS = DecodeLimits(max_pixels=WIDTH * HEIGHT // 3)


def photo(channels: int = 3) -> npt.NDArray[np.uint8]:
    """Smooth colours with some noise, of shape (150, 203, channels)."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [127 + 100 * np.sin(x / (9 + 4 * i) + y / (17 - 3 * i)) for i in range(channels)]
    noise = random.integers(-9, 10, (HEIGHT, WIDTH, channels))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def planes(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(samples, -1, 0))


FORMS = {
    "one strip": tiff(photo()),
    "rows": tiff(photo(), rowsperstrip=1),
    "strips": tiff(photo(), rowsperstrip=13, compression="zlib", predictor=True),
    "one deflated strip": tiff(photo(), rowsperstrip=HEIGHT, compression="zlib"),
    "tiles": tiff(photo(), tile=(16, 16), compression="lzw"),
    "uncompressed tiles": tiff(photo(), tile=(16, 32)),
    "planes of strips": tiff(
        planes(photo()), rowsperstrip=7, planarconfig="separate", compression="zstd"
    ),
    "planes of tiles": tiff(planes(photo()), tile=(16, 16), planarconfig="separate"),
    "one strip a plane": tiff(planes(photo()), planarconfig="separate"),
    "jpeg": tiff(photo(), tile=(16, 16), compression="jpeg", compressionargs={"level": 95}),
    "jpeg strips": tiff(photo(), rowsperstrip=16, compression="jpeg", subsampling=(2, 2)),
    "big endian": tiff(photo(), rowsperstrip=10, byteorder=">"),
    "big": tiff(photo(), rowsperstrip=10, bigtiff=True, compression="packbits"),
    "big, big endian": tiff(photo(), tile=(16, 16), bigtiff=True, byteorder=">"),
    "16 bits": tiff(photo().astype(np.uint16) * 257, rowsperstrip=9, compression="lzma"),
    "grey": tiff(photo(1)[..., 0], photometric="minisblack", rowsperstrip=31),
    "white is zero": tiff(photo(1)[..., 0], photometric="miniswhite", tile=(16, 32)),
    "bits": encoded(Image.fromarray(photo(1)[..., 0]).convert("1"), "TIFF", compression="group4"),
    "palette": encoded(Image.fromarray(photo()).quantize(99), "TIFF", compression="tiff_lzw"),
    "cmyk": tiff(photo(4), photometric="separated", rowsperstrip=8),
    "lab": encoded(Image.fromarray(photo()).convert("LAB"), "TIFF"),
    "transparency": tiff(photo(4), extrasamples=["unassalpha"], rowsperstrip=11),
    "a profile": tiff(photo(), rowsperstrip=11, iccprofile=ADOBE_RGB),
    # Blocks begin at another edge once a picture is turned, so its sides are multiples of 8.
    "turned": encoded(Image.fromarray(photo()[:144, :200]), "TIFF", exif=exif_with(6)),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_blocks_of_pixels_are_averaged(name: str, reduction: int) -> None:
    """The whole picture, reduced, is the reference; profiles, which cut colours, apply to
    averages."""
    data = FORMS[name]
    whole = decoded(data)
    limits = DecodeLimits(max_pixels=int(1.3 * whole.width * whole.height / reduction**2))
    file = PhotoFile(data, limits)
    size = (-(-whole.width // reduction), -(-whole.height // reduction))
    assert (file.header.width, file.header.height) == size
    shown = file.decode().pixels
    expected = np.asarray(Image.fromarray(whole.pixels).reduce(reduction))
    difference = np.abs(shown.astype(np.int16) - expected)
    assert difference.mean() < 2.5
    if name != "a profile":
        assert difference.max() <= {"cmyk": 6, "lab": 3, "jpeg strips": 3}.get(name, 2)


def test_the_smallest_reduction_is_taken_that_fits() -> None:
    data = FORMS["tiles"]
    sizes = {
        pixels: PhotoFile(data, DecodeLimits(max_pixels=pixels)).header.width
        for pixels in (WIDTH * HEIGHT, WIDTH * HEIGHT - 1, 102 * 75, 102 * 75 - 1, 51 * 38 - 1)
    }
    assert list(sizes.values()) == [203, 102, 102, 51, 26]
    with pytest.raises(DecodeError, match=r"203 × 150 pixels, more than 1,000,000,000"):
        decoded(data, DecodeLimits(max_pixels=26 * 19 - 1))
    with pytest.raises(DecodeError, match=r"203 × 150 pixels, more than 30,000"):
        decoded(data, DecodeLimits(max_pixels=20_000, max_reduced_pixels=30_000))


@pytest.mark.parametrize("is_shown", [True, False])
def test_undeclared_transparency_that_is_0_everywhere_is_ignored(is_shown: bool) -> None:
    samples = photo(4)
    samples[..., 3] = 0
    samples[140:, 190:, 3] = 255 * is_shown
    data = tiff(samples, extrasamples=["unspecified"], rowsperstrip=8)
    shown = decoded(data, LIMITS).pixels[:60]
    if is_shown:
        assert (shown == 255).all()
    else:
        expected = np.asarray(Image.fromarray(samples[..., :3]).reduce(2))[:60]
        assert np.abs(shown.astype(np.int16) - expected).max() <= 1


def test_premultiplied_colours_are_averaged_by_their_transparency() -> None:
    samples = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    samples[::2] = (200, 100, 50, 255)
    shown = decoded(tiff(samples, extrasamples=["assocalpha"], rowsperstrip=8), LIMITS).pixels
    assert np.abs(shown.astype(np.int16) - [228, 178, 153]).max() <= 3


@pytest.mark.parametrize(
    "data",
    [
        tiff(photo().astype(np.float32)),
        tiff(photo().astype(np.uint32)),
        tiff(photo().astype(np.int16)),
    ],
    ids=["float", "32 bits", "signed"],
)
def test_forms_whose_white_needs_all_samples_keep_the_limit(data: bytes) -> None:
    assert decoded(data).width == WIDTH
    with pytest.raises(DecodeError, match=r"203 × 150 pixels, more than 10,150"):
        decoded(data, LIMITS)


@pytest.mark.parametrize("name", ["strips", "tiles", "one strip", "planes of strips", "jpeg"])
def test_cut_files_are_refused(name: str) -> None:
    data = FORMS[name]
    for share in (0.2, 0.6, 0.95):
        with pytest.raises(DecodeError):
            decoded(data[: int(len(data) * share)], LIMITS)


def test_strips_that_overlap_take_no_memory() -> None:
    """A thousand strips of the same megabyte would be a gigabyte."""
    made = TiffMaker()
    strip = made.put(bytes(1 << 20))
    size = [(256, 4, [1000]), (257, 4, [1000]), (258, 3, [8]), (259, 3, [8]), (262, 3, [1])]
    strips = [(273, 4, [strip] * 1000), (277, 3, [1]), (278, 4, [1]), (279, 4, [1 << 20] * 1000)]
    data = made.finish(made.directory([*size, *strips]))
    with pytest.raises(DecodeError, match="strips or tiles overlap"):
        decoded(data, DecodeLimits(max_pixels=300_000))


@pytest.mark.parametrize("name", ["strips", "tiles", "planes of tiles", "jpeg", "palette"])
@settings(max_examples=30)
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(1, 255)), max_size=9))
def test_damaged_files_raise_only_decode_errors(
    name: str, flips: list[tuple[float, bool, int]]
) -> None:
    data = bytearray(FORMS[name])
    for place, in_header, bits in flips:
        reach = min(len(data), 500) if in_header else len(data)
        data[int(place * (reach - 1))] ^= bits
    limits = DecodeLimits(max_pixels=10_000, max_reduced_pixels=400_000)
    try:
        assert decoded(bytes(data), limits).width > 0
    except DecodeError as error:
        assert error.message  # noqa: PT017


MEASURE = """
import resource, sys
from regard.photos.decoding import DecodeLimits
from regard.photos.photo_file import PhotoFile

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

with open(sys.argv[1], "rb") as file:
    data = file.read()
photo = PhotoFile(data, DecodeLimits(max_pixels=int(sys.argv[2])))
PhotoFile(open(sys.argv[3], "rb").read()).decode()
before = peak()
image = photo.decode()
print(peak() - before, image.width, image.height)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in other units elsewhere")
@pytest.mark.parametrize("options", [{"tile": (512, 512)}, {"rowsperstrip": 64}])
def test_memory_is_that_of_a_band_and_the_result(
    tmp_path: Path, options: dict[str, object]
) -> None:
    """36 million pixels, whose samples take 108 MB."""
    rows = np.arange(6000, dtype=np.uint16)[:, None, None]
    samples = (rows + np.arange(6000)[None, :, None] // 7 + np.arange(3) * 50).astype(np.uint8)
    large, small = tmp_path / "large.tif", tmp_path / "small.tif"
    large.write_bytes(tiff(samples, compression="zlib", **options))
    small.write_bytes(FORMS["strips"])
    arguments = [sys.executable, "-c", MEASURE, large, "2500000", small]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    added, width, height = map(int, output.split())
    assert (width, height) == (1500, 1500)
    assert added < 64 << 20
