"""Compose photographs with text in them, that reading text is measured on.

Short texts as on signs, labels and banners are painted onto photographs, in the fonts of Debian, in
many sizes, colours and angles: straight, rotated, upright, or in perspective; on panels, or on the
photograph itself. The random choices are seeded.

    python benchmarks/photoset/make_text_photos.py FOLDER [--photos DIR] [--fonts DIR]

Without `--photos`, the photographs are those that scikit-image carries. Writes into FOLDER: 1 to 3
texts in each of `*.jpg` (960 × 720); `plain/*.jpg`, the photographs without them; and `texts.json`: a
list of texts for each file, each with its `text` and its box in pixels, `bbox` [x, y, width, height].
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SEED = 20261130
SIZE = (960, 720)
JPEG_QUALITY = 88
_SIGNS = Path(__file__).with_name("signs.txt")
# Debian's fonts-dejavu-core, fonts-liberation and fonts-urw-base35.
FONTS = (
    "truetype/dejavu/DejaVuSans.ttf",
    "truetype/dejavu/DejaVuSans-Bold.ttf",
    "truetype/dejavu/DejaVuSerif.ttf",
    "truetype/liberation/LiberationSans-Regular.ttf",
    "truetype/liberation/LiberationSansNarrow-Bold.ttf",
    "truetype/liberation/LiberationSerif-Italic.ttf",
    "truetype/liberation/LiberationMono-Regular.ttf",
    "opentype/urw-base35/C059-BdIta.otf",
    "opentype/urw-base35/P052-Roman.otf",
    "opentype/urw-base35/URWBookman-Light.otf",
    "opentype/urw-base35/URWGothic-Demi.otf",
    "opentype/urw-base35/Z003-MediumItalic.otf",
)
# The height of capital letters is about seven tenths of these pixels.
_SIZES = (20, 80)
_TILT = 25.0
_FORMS = ("straight", "straight", "rotated", "rotated", "upright", "perspective")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the set; returns the exit code."""
    parser = argparse.ArgumentParser(description="Composes photographs with text in them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, help="backgrounds instead of scikit-image's")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    given = parser.parse_args(arguments)
    missing = [name for name in FONTS if not (given.fonts / name).is_file()]
    if missing:
        print(f"{given.fonts / missing[0]} is missing", file=sys.stderr)
        return 3
    make(given.folder, _backgrounds(given.photos), [given.fonts / name for name in FONTS])
    return 0


def make(folder: Path, backgrounds: Sequence[Image.Image], fonts: Sequence[Path]) -> None:
    """Paint every text of `signs.txt` once, 1 to 3 on a photograph."""
    chance = random.Random(SEED)
    signs = _SIGNS.read_text(encoding="utf-8").splitlines()
    chance.shuffle(signs)
    labels: dict[str, list[dict[str, object]]] = {}
    (folder / "plain").mkdir(parents=True, exist_ok=True)
    while signs:
        name = f"text{len(labels):03}.jpg"
        photo = backgrounds[len(labels) % len(backgrounds)].copy()
        boxes: list[list[int]] = []
        labels[name] = []
        for text in [signs.pop() for _ in range(min(chance.randint(1, 3), len(signs)))]:
            box = _paint(photo, text, fonts, boxes, chance)
            boxes.append(box)
            labels[name].append({"text": text, "bbox": box})
        photo.save(folder / name, quality=JPEG_QUALITY)
    for number in range(min(len(backgrounds), len(labels))):
        name = f"plain/text{number:03}.jpg"
        backgrounds[number].save(folder / name, quality=JPEG_QUALITY)
        labels[name] = []
    (folder / "texts.json").write_text(json.dumps(labels, indent=1), encoding="utf-8")


def _backgrounds(photos: Path | None) -> list[Image.Image]:
    """Photographs at the set's size."""
    if photos is not None:
        files = sorted(photos.rglob("*.jpg"))
        found = [Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // 60)]]
    else:
        from skimage import data

        names = (
            "astronaut",
            "cat",
            "chelsea",
            "coffee",
            "rocket",
            "retina",
            "immunohistochemistry",
        )
        found = [Image.fromarray(getattr(data, name)()) for name in names]
    return [photo.resize(SIZE, Image.Resampling.LANCZOS) for photo in found]


def _paint(
    photo: Image.Image,
    text: str,
    fonts: Sequence[Path],
    taken: Sequence[list[int]],
    chance: random.Random,
) -> list[int]:
    """Paint a text where no other is; returns its box."""
    while True:
        font = ImageFont.truetype(str(chance.choice(fonts)), chance.randint(*_SIZES))
        layer = _turned(_lettering(text, font, photo, chance), chance.choice(_FORMS), chance)
        width, height = layer.size
        if width > photo.width or height > photo.height:
            continue
        x, y = (
            chance.randint(0, photo.width - width),
            chance.randint(0, photo.height - height),
        )
        box = [x, y, width, height]
        if not any(_overlaps(box, other) for other in taken):
            photo.paste(layer, (x, y), layer)
            return box


def _lettering(
    text: str, font: ImageFont.FreeTypeFont, photo: Image.Image, chance: random.Random
) -> Image.Image:
    """The text as RGBA, on a panel or with a thin outline."""
    left, top, right, bottom = font.getbbox(text)
    margin = max(6, int(font.size) // 3)
    size = (math.ceil(right - left) + 2 * margin, math.ceil(bottom - top) + 2 * margin)
    hue = chance.randint(0, 255)
    dark = Image.new("HSV", (1, 1), (hue, chance.randint(0, 255), chance.randint(0, 90)))
    light = Image.new("HSV", (1, 1), (hue, chance.randint(0, 60), chance.randint(200, 255)))
    inks = [image.convert("RGB").getpixel((0, 0)) for image in (dark, light)]
    chance.shuffle(inks)
    ink, ground = inks
    has_panel = chance.random() < 0.5
    layer = Image.new("RGBA", size, (*ground, 255 if has_panel else 0))
    ImageDraw.Draw(layer).text(
        (margin - left, margin - top),
        text,
        font=font,
        fill=(*ink, 255),
        stroke_width=0 if has_panel else max(1, int(font.size) // 24),
        stroke_fill=(*ground, 255),
    )
    return layer


def _turned(layer: Image.Image, form: str, chance: random.Random) -> Image.Image:
    """The lettering in one of `_FORMS`, cropped to what is opaque."""
    if form == "rotated":
        layer = layer.rotate(chance.uniform(-_TILT, _TILT), Image.Resampling.BICUBIC, expand=True)
    elif form == "upright":
        layer = layer.rotate(chance.choice([90, 270]), expand=True)
    elif form == "perspective":
        width, height = layer.size
        near = chance.uniform(0.6, 0.85)
        inset = height * (1 - near) / 2
        corners = [(0, 0), (width, inset), (width, height - inset), (0, height)]
        if chance.random() < 0.5:
            corners = [(0, inset), (width, 0), (width, height), (0, height - inset)]
        source = [(0, 0), (width, 0), (width, height), (0, height)]
        layer = layer.transform(
            layer.size,
            Image.Transform.PERSPECTIVE,
            _coefficients(corners, source),
            Image.Resampling.BICUBIC,
        )
    box = layer.getbbox()
    return layer.crop(box) if box else layer


def _coefficients(
    corners: Sequence[tuple[float, float]], source: Sequence[tuple[float, float]]
) -> list[float]:
    """Pillow's coefficients of the perspective that maps `source` to `corners`."""
    rows = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    targets = np.asarray([value for point in source for value in point])
    return np.linalg.solve(np.asarray(rows), targets).tolist()  # type: ignore[no-any-return]


def _overlaps(box: Sequence[int], other: Sequence[int]) -> bool:
    return (
        box[0] < other[0] + other[2]
        and other[0] < box[0] + box[2]
        and box[1] < other[1] + other[3]
        and other[1] < box[1] + box[3]
    )


if __name__ == "__main__":
    sys.exit(main())
