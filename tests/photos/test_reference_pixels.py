"""regard's pixels beside those of ImageMagick and libvips, over the forms that they can write.

Every file decodes to the pixels that one of the two reads, within 2 of 255 and blended over white,
or is refused with a reason that says that its form is not supported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from regard.core.errors import DecodeError
from regard.photos.photo_file import PhotoFile

pytestmark = pytest.mark.campaign

INSTALL = "apt-get install imagemagick libvips-tools libavif-bin"
CONVERT = shutil.which("convert-im6.q16") or shutil.which("magick") or shutil.which("convert")
VIPS = shutil.which("vips")
AVIFDEC = shutil.which("avifdec")
TOLERANCE = 2


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    if None in {CONVERT, VIPS, AVIFDEC}:
        if "CI" in os.environ:
            pytest.fail(f"ImageMagick, libvips or libavif is missing: {INSTALL}")
        pytest.skip(f"needs ImageMagick, libvips and libavif: {INSTALL}")


def sources(folder: Path) -> None:
    """Pictures of many colours, with and without transparency; odd sizes show padding errors."""
    y, x = np.mgrid[0:61, 0:83]
    rgb = np.stack([x * 255 // 82, y * 255 // 60, ((x // 8 + y // 8) % 2) * 200], -1)
    alpha = np.clip((x + y) * 3 - 60, 0, 255)
    for name, channels in {
        "rgb": [rgb],
        "rgba": [rgb, alpha],
        "grey": [rgb[..., :1]],
        "bilevel": [(rgb[..., 2:] > 0) * 255],
    }.items():
        pixels = np.dstack(channels).astype(np.uint8)
        Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
            folder / f"{name}.png"
        )
    # For lossy formats: smooth, and with edges of brightness alone, because decoders differ in how
    # they enlarge reduced colours.
    large = Pillow.fromarray(rgb.astype(np.uint8)).resize((166, 122), Pillow.Resampling.BICUBIC)
    large.save(folder / "smooth.png")
    edges = ((x // 8 + y // 8) % 2)[..., None] * 60
    pale = np.dstack([x * 100 // 82, y * 100 // 60, 100 - x]) + 40 + edges
    Pillow.fromarray(pale.astype(np.uint8)).save(folder / "pale.png")


def magick_forms() -> dict[str, str]:
    """File name → arguments of ImageMagick after the source."""
    forms: dict[str, str] = {}

    def add(kind: str, source: str, *options: str) -> None:
        name = "-".join((source, *options)).replace(" ", "").replace(":", "").replace("/", "")
        forms[f"{name or 'plain'}.{kind}"] = f"{source}|{' '.join(options)}"

    for compression in ("None", "LZW", "Zip", "RLE", "ZSTD", "LZMA", "JPEG", "WebP"):
        # Neither program writes any pixels of grey as WebP.
        for source in ("rgb", "rgba", "grey")[: 2 if compression == "WebP" else 3]:
            add("tif", source, f"-compress {compression}")
    for depth in (8, 16, 32):
        for endian in ("LSB", "MSB"):
            for source in ("rgb", "rgba", "grey"):
                add("tif", source, f"-depth {depth} -define tiff:endian={endian} -compress LZW")
        for source in ("rgb", "rgba", "grey"):
            add("tif", source, f"-depth {depth} -interlace Plane -compress None")
            add("tif", source, f"-depth {depth} -interlace Plane -compress Zip")
            add("tif", source, f"-depth {depth} -define tiff:tile-geometry=32x16 -compress Zip")
        add("tif", "rgb", f"-depth {depth} -colorspace CMYK -compress LZW")
        add("tif", "rgba", f"-depth {depth} -colorspace CMYK -compress None")
    for depth in (1, 2, 4, 8, 16):
        add("tif", "grey", f"-depth {depth} -define quantum:polarity=min-is-white")
        add("tif", "grey", f"-depth {depth} -define tiff:fill-order=LSB -compress None")
        add("tif", "rgb", f"-depth {depth} -compress None")
    for depth in (16, 32, 64):
        for source in ("rgb", "rgba", "grey"):
            options = f"-depth {depth} -define quantum:format=floating-point -compress None"
            add("tif", source, options)
    for depth in (8, 16, 32):
        add("tif", "grey", f"-depth {depth} -define quantum:format=signed -compress None")
        add("tif", "rgb", f"-depth {depth} -define quantum:format=signed -compress None")
    for alpha in ("associated", "unassociated", "unspecified"):
        for depth in (8, 16):
            add("tif", "rgba", f"-depth {depth} -define tiff:alpha={alpha}")
    for colours in (2, 4, 16, 256):
        add("tif", "rgb", f"-colors {colours} -type Palette")
        add("png", "rgb", f"-colors {colours} -type Palette")
        add("bmp", "rgb", f"-colors {colours} -type Palette")
        add("gif", "rgb", f"-colors {colours}")
    for options in ("-compress Group4", "-compress Fax", "-compress RLE", "-compress LZW"):
        add("tif", "bilevel", f"-type Bilevel {options}")
        add("tif", "bilevel", f"-type Bilevel {options} -define tiff:fill-order=LSB")
    add("tif", "rgb", "-colorspace Lab -depth 16")
    add("tif", "rgb", "-colorspace YCbCr -compress LZW")
    add("tif", "rgb", "-sampling-factor 2x2 -colorspace YCbCr -compress JPEG")
    add("tif", "rgb", "-define tiff:rows-per-strip=7 -compress LZW -define tiff:predictor=2")
    for depth in (1, 2, 4, 8, 16):
        add("png", "grey", f"-depth {depth} -type Grayscale")
        add("png", "grey", f"-depth {depth} -type Grayscale -interlace PNG")
    for source in ("rgb", "rgba"):
        for kind in ("PNG8", "PNG24", "PNG32", "PNG48", "PNG64", "PNG00"):
            add("png", source, f"-define png:format={kind.lower()}")
        add("png", source, "-depth 16")
        add("png", source, "-depth 16 -interlace PNG")
    add("png", "rgb", "-transparent #C8C8C8")
    add("png", "grey", "-depth 16 -alpha on -transparent white")
    add("png", "grey", "-alpha on -transparent black -define png:color-type=0")
    for options in ("", "-compress RLE", "-type TrueColor", "-define bmp:format=bmp2"):
        for source in ("rgb", "grey", "bilevel"):
            add("bmp", source, options)
    for options in ("", "-define bmp:format=bmp3", "-define bmp3:alpha=true"):
        add("bmp", "rgba", options)
    # Its ARGB4444 and ARGB1555 come back too dark, so test_decoding.py has these by construction.
    for subtype in ("RGB565", "RGB555"):
        add("bmp", "rgba", f"-define bmp:subtype={subtype}")
    for options in ("-type Palette -compress RLE -colors 200", "-colors 12 -compress RLE"):
        add("bmp", "rgb", options)
    add("gif", "rgba")
    add("gif", "rgb", "-interlace GIF")
    add("gif", "grey")
    add("gif", "rgba", "-repage 100x90+9+11")
    for options in ("", "-sampling-factor 1x1", "-sampling-factor 2x1", "-interlace JPEG"):
        add("jpg", "smooth", options)
    add("jpg", "grey")
    add("jpg", "rgb", "-colorspace CMYK -quality 95")
    add("jpg", "smooth", "-define jpeg:arithmetic-coding=true")
    add("webp", "rgba", "-define webp:lossless=true")
    add("webp", "rgb", "-define webp:lossless=true")
    add("webp", "smooth", "-quality 95")
    add("webp", "rgba", "-quality 95")
    return forms


def vips_forms() -> dict[str, str]:
    """File name → source, saver of libvips and its options."""
    forms: dict[str, str] = {}

    def add(kind: str, source: str, options: str = "") -> None:
        name = f"vips-{source}{options.replace('--', '-').replace(' ', '')}.{kind}"
        forms[name] = f"{source}|{options}"

    for compression in ("none", "jpeg", "deflate", "packbits", "lzw", "webp", "zstd", "jp2k"):
        for source in ("rgb", "rgba", "grey")[: 2 if compression == "webp" else 3]:
            add("tif", source, f"--compression {compression}")
        add("tif", "rgb", f"--compression {compression} --tile --tile-width 64 --tile-height 32")
    for depth in (1, 2, 4):
        add("tif", "grey", f"--bitdepth {depth}")
        add("tif", "grey", f"--bitdepth {depth} --miniswhite")
    add("tif", "grey", "--miniswhite")
    add("tif", "bilevel", "--bitdepth 1 --compression ccittfax4")
    add("tif", "rgb", "--bigtiff --compression lzw --predictor horizontal")
    add("tif", "rgba", "--premultiply")
    add("tif", "rgb", "--tile --pyramid --compression deflate --tile-width 32 --tile-height 32")
    add("tif", "rgb", "--tile --pyramid --subifd --tile-width 32 --tile-height 32")
    for depth in (1, 2, 4, 8):
        add("png", "rgb", f"--palette --bitdepth {depth}")
        add("png", "rgba", f"--palette --bitdepth {depth}")
        add("png", "grey", f"--bitdepth {depth}")
    add("png", "rgba", "--bitdepth 16 --interlace")
    add("png", "rgb", "--bitdepth 16")
    add("png", "grey", "--bitdepth 16")
    add("gif", "rgba")
    add("gif", "rgb", "--bitdepth 3")
    for source in ("rgb", "rgba"):
        add("webp", source, "--lossless")
        add("webp", source, "--near-lossless --lossless")
    add("webp", "smooth", "--Q 95")
    add("webp", "rgba", "--Q 95 --alpha-q 50")
    for mode in ("on", "off"):
        add("jpg", "smooth", f"--subsample-mode {mode} --Q 95")
    add("jpg", "smooth", "--interlace --Q 90")
    add("jpg", "grey", "--Q 90")
    for suffix, compression in (("heic", "hevc"), ("avif", "av1")):
        for source in ("smooth", "rgba", "grey"):
            add(suffix, source, f"--compression {compression} --Q 95")
        for depth in (8, 10, 12):
            add(suffix, "smooth", f"--compression {compression} --bitdepth {depth} --Q 95")
        add(suffix, "pale", f"--compression {compression} --lossless")
        add(suffix, "pale", f"--compression {compression} --Q 60")
        add(suffix, "smooth", f"--compression {compression} --subsample-mode off --Q 95")
    return forms


SAVERS = {"tif": "tiffsave", "jpg": "jpegsave", "heic": "heifsave", "avif": "heifsave"}


def write(folder: Path) -> list[Path]:
    """Write every form; what this machine's programs cannot write has no file."""
    written = []
    for name, form in magick_forms().items():
        source, options = form.split("|")
        # It warns of floating-point samples, which it writes well.
        run(
            CONVERT,
            folder / f"{source}.png",
            *options.split(),
            "+set",
            "date:create",
            folder / name,
        )
        written.append(folder / name)
    for name, form in vips_forms().items():
        source, options = form.split("|")
        kind = Path(name).suffix[1:]
        saver = SAVERS.get(kind, f"{kind}save")
        if run(VIPS, saver, folder / f"{source}.png", folder / name, *options.split()):
            written.append(folder / name)
    return [path for path in written if path.exists()]


def run(*arguments: str | Path | None) -> bool:
    command = [str(argument) for argument in arguments]
    return subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 0


def read_by_magick(path: Path) -> np.ndarray | None:
    target = path.with_suffix(".magick.png")
    white = ("-colorspace", "sRGB", "-background", "white", "-alpha", "remove", "-depth", "8")
    run(CONVERT, f"{path}[0]", *white, f"PNG24:{target}")
    return pixels_of(target)


def read_by_vips(path: Path) -> np.ndarray | None:
    srgb, target = path.with_suffix(".srgb.v"), path.with_suffix(".vips.png")
    run(VIPS, "colourspace", path, srgb, "srgb")
    if not run(VIPS, "flatten", srgb, target, "--background", "255 255 255"):
        run(VIPS, "copy", srgb, target)
    srgb.unlink(missing_ok=True)
    return pixels_of(target)


def read_by_avifdec(path: Path) -> np.ndarray | None:
    """libavif's own reading: it enlarges halved colours smoothly, as browsers do."""
    target = path.with_suffix(".avifdec.png")
    if path.suffix != ".avif" or not run(AVIFDEC, path, target):
        return None
    with Pillow.open(target) as image:
        ground = Pillow.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
    target.unlink()
    return np.asarray(ground.convert("RGB"))


def pixels_of(png: Path) -> np.ndarray | None:
    if not png.exists():
        return None
    with Pillow.open(png) as image:
        assert image.mode in {"RGB", "L"}
        pixels = np.asarray(image.convert("RGB"))
    png.unlink()
    return pixels


def difference(first: np.ndarray, second: np.ndarray | None) -> int:
    """The largest difference of a sample; 256 if the sizes differ or nothing was read."""
    if second is None or first.shape != second.shape:
        return 256
    return int(np.abs(first.astype(int) - second).max())


def test_pixels_equal_a_references_or_the_form_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources(tmp_path)
    outcomes: Counter[str] = Counter()
    wrong = []
    for path in write(tmp_path):
        try:
            pixels = PhotoFile(path.read_bytes()).decode().pixels
        except DecodeError as error:
            refused = "is not supported" in error.message
            outcomes["not supported" if refused else "wrong"] += 1
            if not refused:
                wrong.append(f"{path.name}: {error.message}")
            continue
        readings = (read_by_magick(path), read_by_vips(path), read_by_avifdec(path))
        differences = [difference(pixels, reading) for reading in readings]
        is_equal = min(differences) <= TOLERANCE
        outcomes[f"{path.suffix} equal" if is_equal else "wrong"] += 1
        if not is_equal:
            wrong.append(f"{path.name}: differs by {differences}")
    total = sum(outcomes.values())
    with capsys.disabled():
        print(f"\n{total} files: {dict(sorted(outcomes.items()))}")
    assert not wrong, "\n".join(wrong)
    assert total >= 120
