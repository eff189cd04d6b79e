"""Compose the labelled photographs that search quality is measured on.

Photographic cut-outs of objects, each with a one-line description, are pasted onto photographs of
landscapes and surfaces. All of it comes from three Debian packages, and the random choices are
seeded, so that every run gives the same bytes as long as Pillow's JPEG encoder does. The cut-outs
are under GPL-2, so the photographs are made and not distributed.

    python benchmarks/photoset/make_photoset.py FOLDER [--packages DIR]

Writes into FOLDER: `singles/*.jpg` (640 × 480, one object each), `scenes/*.jpg` (960 × 720, two
to four objects each), `captions.json` and `instances.json` (COCO forms; each annotation has a
`description`), and `absent.txt` (queries for things that no photograph shows).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

PACKAGES = ("tuxpaint-stamps-default", "mate-backgrounds", "plasma-workspace-wallpapers")
# SHA-256 over the names and bytes of all files, as made with Pillow 13.0.
REFERENCE_DIGEST = "ea8a1a97da83b60082d869874ea57165ffe85156c51185b14a5627833a0d34a2"
SEED = 20261122
SCENES = 120
SINGLE_SIZE, SCENE_SIZE = (640, 480), (960, 720)
JPEG_QUALITY = 88

_OBJECTS = Path(__file__).with_name("objects.txt")
_ABSENT = Path(__file__).with_name("absent.txt")
_BACKGROUNDS = (
    "mate/nature/Dune.jpg",
    "mate/nature/Wood.jpg",
    "mate/nature/Storm.jpg",
    "mate/nature/GreenMeadow.jpg",
    "mate/nature/Blinds.jpg",
    "wallpapers/BytheWater/",
    "wallpapers/ColdRipple/",
    "wallpapers/DarkestHour/",
    "wallpapers/Kite/",
    "wallpapers/OneStandsOut/",
    "wallpapers/Path/",
    "wallpapers/summer_1am/",
)
# Where the objects of a scene stand, by their number: x, y, width and height as shares of the
# scene.
_CELLS = {
    2: ((0, 0, 0.5, 1), (0.5, 0, 0.5, 1)),
    3: ((0, 0, 0.5, 0.5), (0.5, 0, 0.5, 0.5), (0.2, 0.5, 0.6, 0.5)),
    4: ((0, 0, 0.5, 0.5), (0.5, 0, 0.5, 0.5), (0, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)),
}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stamp:
    """A cut-out of an object with transparency, and what it shows."""

    file: Path
    description: str

    def cutout(self) -> Image.Image:
        """The object as RGBA, cropped to its opaque part."""
        image = Image.open(self.file).convert("RGBA")
        return image.crop(image.getchannel("A").getbbox())


@dataclass(frozen=True)
class PlacedObject:
    """An object in a photograph: its box [x, y, width, height] and its mask (height, width)."""

    description: str
    bbox: list[int]
    mask: Mask


@dataclass
class LabelledSet:
    """Photographs written so far, and their labels in COCO's forms."""

    folder: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    captions: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, image: Image.Image, objects: Sequence[PlacedObject]) -> None:
        """Write a photograph and label its objects."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, quality=JPEG_QUALITY)
        number = len(self.images) + 1
        self.images.append(
            {"id": number, "file_name": name, "width": image.width, "height": image.height}
        )
        for placed in objects:
            self.captions.append(
                {
                    "id": len(self.captions) + 1,
                    "image_id": number,
                    "caption": placed.description,
                }
            )
            self.instances.append(
                {
                    "id": len(self.instances) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": placed.bbox,
                    "area": int(placed.mask.sum()),
                    "iscrowd": 0,
                    "segmentation": _run_lengths(placed.mask),
                    "description": placed.description,
                }
            )

    def write_labels(self) -> None:
        """Write `captions.json`, `instances.json` and `absent.txt`."""
        captions = {"images": self.images, "annotations": self.captions}
        instances = {
            "images": self.images,
            "annotations": self.instances,
            "categories": [{"id": 1, "name": "object"}],
        }
        self.folder.joinpath("captions.json").write_text(json.dumps(captions))
        self.folder.joinpath("instances.json").write_text(json.dumps(instances))
        shutil.copyfile(_ABSENT, self.folder / "absent.txt")


def compose(packages: Path, folder: Path, scenes: int = SCENES) -> LabelledSet:
    """Compose the whole set into `folder` from unpacked packages."""
    generator = random.Random(SEED)
    backgrounds = find_backgrounds(packages)
    stamps = find_stamps(packages)
    made = LabelledSet(folder)
    for number, stamp in enumerate(stamps):
        background = generator.choice(backgrounds)
        image = _canvas(background, SINGLE_SIZE, generator, blurs=(0, 2, 5))
        share = generator.uniform(0.62, 0.88)
        width, height = (int(side * share) for side in SINGLE_SIZE)
        x = generator.randint(0, SINGLE_SIZE[0] - width)
        y = generator.randint(0, SINGLE_SIZE[1] - height)
        placed = _place(image, stamp, (x, y, width, height))
        made.add(f"singles/{number:04d}.jpg", image, [placed])
    for number in range(scenes):
        background = generator.choice(backgrounds)
        image = _canvas(background, SCENE_SIZE, generator, blurs=(0, 2))
        count = generator.choice([2, 3, 3, 4])
        objects = []
        cells = _CELLS[count]
        for cell, stamp in zip(cells, generator.sample(stamps, count), strict=True):
            left, top, across, down = (
                share * side for share, side in zip(cell, SCENE_SIZE * 2, strict=True)
            )
            share = generator.uniform(0.7, 0.92)
            width, height = int(across * share), int(down * share)
            x = int(left + generator.uniform(0, 1) * (across - width))
            y = int(top + generator.uniform(0, 1) * (down - height))
            objects.append(_place(image, stamp, (x, y, width, height)))
        made.add(f"scenes/{number:04d}.jpg", image, objects)
    made.write_labels()
    return made


def find_backgrounds(packages: Path) -> list[Path]:
    """The photographs that objects are pasted onto, one for each of `_BACKGROUNDS`."""
    pictures = sorted(
        str(file)
        for file in packages.rglob("*.*")
        if file.suffix.lower() in {".jpg", ".png"} and "screenshot" not in str(file)
    )
    chosen = []
    for place in _BACKGROUNDS:
        here = [file for file in pictures if place in file]
        preferred = [file for file in here if "1920x1080" in file or "mate/" in file]
        if not here:
            raise SystemExit(f"no background {place} below {packages}")
        chosen.append(Path((preferred or here)[0]))
    return chosen


def find_stamps(packages: Path) -> list[Stamp]:
    """The listed objects that are cut out well enough and described, in the order of their
    paths."""
    roots = sorted(packages.glob("**/tuxpaint/stamps"))
    if not roots:
        raise SystemExit(f"no tuxpaint/stamps below {packages}")
    listed = set(_OBJECTS.read_text(encoding="utf-8").splitlines())
    stamps = []
    for file in sorted(roots[0].rglob("*.png"), key=str):
        text = file.with_suffix(".txt")
        if file.relative_to(roots[0]).as_posix() not in listed or not text.exists():
            continue
        with text.open(encoding="utf-8", errors="ignore") as lines:
            description = lines.readline().strip()
        alpha = np.asarray(Image.open(file).convert("RGBA").getchannel("A"))
        is_cut_out = (alpha > 250).mean() <= 0.97 and (alpha > 128).sum() >= 400
        if is_cut_out and len(description) >= 4:
            stamps.append(Stamp(file, description))
    return stamps


def _canvas(
    background: Path, size: tuple[int, int], generator: random.Random, blurs: Sequence[int]
) -> Image.Image:
    """A random crop of a background at `size`, blurred by one of the radii."""
    blur = generator.choice(blurs)
    image = Image.open(background).convert("RGB")
    share = generator.uniform(0.6, 1.0)
    width = int(min(image.width, image.height * size[0] / size[1]) * share)
    height = int(width * size[1] / size[0])
    x = generator.randint(0, image.width - width)
    y = generator.randint(0, image.height - height)
    image = image.crop((x, y, x + width, y + height)).resize(size, Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur else image


def _place(image: Image.Image, stamp: Stamp, box: tuple[int, int, int, int]) -> PlacedObject:
    """Paste an object into the middle of a box, as large as fits."""
    x, y, width, height = box
    cutout = stamp.cutout()
    scale = min(width / cutout.width, height / cutout.height)
    size = max(8, int(cutout.width * scale)), max(8, int(cutout.height * scale))
    cutout = cutout.resize(size, Image.Resampling.LANCZOS)
    x += (width - cutout.width) // 2
    y += (height - cutout.height) // 2
    image.paste(cutout, (x, y), cutout)
    mask = np.zeros((image.height, image.width), np.bool_)
    alpha = np.asarray(cutout.getchannel("A"))
    mask[y : y + cutout.height, x : x + cutout.width] = alpha > 128
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    bbox = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    return PlacedObject(stamp.description, bbox, mask)


def _run_lengths(mask: Mask) -> dict[str, list[int]]:
    """Uncompressed COCO run lengths: column-major, starting with the zeros."""
    flat = mask.flatten(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + runs}


def download_packages(folder: Path) -> None:
    """Download the Debian packages and unpack them below `folder`, installing nothing."""
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(
            f"{missing[0]} is not installed; unpack the Debian packages {', '.join(PACKAGES)} "
            "on a Debian machine and name the folder: make photoset PACKAGES=DIR"
        )
    print(f"downloading {', '.join(PACKAGES)}: about 300 MB", flush=True)
    fetched = subprocess.run(
        ["apt-get", "download", *PACKAGES],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        raise SystemExit(
            f"{fetched.stderr.strip()}\nif apt knows no packages yet: sudo apt-get update"
        )
    for archive in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        archive.unlink()


def digest(folder: Path) -> str:
    """SHA-256 over the relative paths and bytes of all files, in the order of their paths."""
    total = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, help="unpacked Debian packages; else downloaded")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Make the set aside and move it into place when it is complete."""
    options = _parse(arguments)
    folder: Path = options.folder
    if folder.exists():
        raise SystemExit(f"{folder} exists; delete it to make the photographs again")
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".photoset-") as scratch:
        packages = options.packages
        if packages is None:
            packages = Path(scratch, "packages")
            packages.mkdir()
            download_packages(packages)
        made = compose(packages, Path(scratch, "set"))
        is_reference = digest(Path(scratch, "set")) == REFERENCE_DIGEST
        Path(scratch, "set").rename(folder)
    print(f"{len(made.images)} photographs of {len(made.instances)} objects in {folder}")
    if not is_reference:
        print(
            "the bytes differ from those that the documented figures were measured on: another "
            "version of Pillow or of the packages",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
