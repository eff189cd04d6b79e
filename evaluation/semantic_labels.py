"""Reads photographs in which every pixel has a class, in the layout of ADE20K's scene parsing
challenge.

A folder of photographs, a folder of PNG masks with the same names, one value per pixel, and a file
of class names: value 1 is the first class, and so on; 0 is everything else and is not measured
(Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017).
"""

from __future__ import annotations

import csv
import fnmatch
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from regard.core.errors import CannotWork, DecodeError, NotFound
from regard.photos.files import read_file

Int32Array = npt.NDArray[np.int32]

_LISTED_IN_ERRORS = 3
_PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".webp")
_MAX_MASK_BYTES = 256 * 2**20
# Values of one byte, of a palette, of 16 bits, and black and white.
_VALUE_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B"})


@dataclass(frozen=True, slots=True)
class SemanticClass:
    """A class by its names: the first one is shown, the others are synonyms."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name to show."""
        return self.names[0]


@dataclass(frozen=True, slots=True)
class MaskedPhotograph:
    """A photograph and its mask; `file_name` is the photograph's below its folder."""

    file_name: str
    path: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class SemanticSet:
    """Photographs with masks by file name, and the classes; `classes[0]` is the value 1."""

    classes: tuple[SemanticClass, ...]
    photographs: tuple[MaskedPhotograph, ...]


def read_semantic_set(
    images: Path, masks: Path, classes: Path, *, only: str | None = None
) -> SemanticSet:
    """Pair the masks at or below `masks` with the photographs of the same name below `images`.

    `only` is a glob over the photographs' file names (case matters, `*` crosses slashes);
    photographs without a mask are left out. No mask is opened yet.

    Raises NotFound when a folder, the classes' file or a mask's photograph is not there, or
    nothing is selected; CannotWork when the classes cannot be read.
    """
    named = read_classes(classes)
    for folder, holds in ((images, "photographs"), (masks, "masks")):
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder", remedy=f"name the folder of the {holds}")
    # Archives made on macOS contain a hidden file beside each.
    found = sorted(
        path for path in masks.rglob("*.png") if path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise NotFound(f"{masks} holds no masks (*.png)", remedy="name the folder of the masks")
    pairs, alone = [], []
    for mask in found:
        stem = mask.relative_to(masks).with_suffix("")
        photograph = _photograph(images, stem)
        if photograph is None:
            if only is None or fnmatch.fnmatchcase(f"{stem.as_posix()}.jpg", only):
                alone.append(stem.as_posix())
            continue
        name = photograph.relative_to(images).as_posix()
        if only is None or fnmatch.fnmatchcase(name, only):
            pairs.append(MaskedPhotograph(name, Path(os.path.abspath(photograph)), mask))
    if alone:
        some = ", ".join(alone[:_LISTED_IN_ERRORS]) + (", …" if alone[_LISTED_IN_ERRORS:] else "")
        raise NotFound(
            f"{len(alone)} of {len(found)} masks have no photograph under {images}: {some}",
            remedy="name the folder that the masks' names start from, or leave them out with --only",
        )
    if not pairs:
        raise NotFound(
            f"no photograph's file name matches {only!r}", remedy="give --only another glob"
        )
    return SemanticSet(tuple(named), tuple(pairs))


def read_classes(path: Path) -> list[SemanticClass]:
    """The classes of a file, in the order of their values: 1, 2, …

    Either ADE20K's `objectInfo150.txt` or `object150_info.csv`, separated by tabs or commas under
    a header with the columns `Idx` and `Name`, or one class per line. Commas and semicolons
    separate names that mean the same.

    Raises NotFound when the file is not there, CannotWork when it is neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", remedy="name a file of classes") from None
    except OSError as error:
        raise CannotWork(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise CannotWork(f"{path} is not UTF-8", remedy="name a file of classes") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise CannotWork(f"{path} names no classes", remedy="write one class a line")
    for separator in ("\t", ","):
        columns = [cell.strip().lower() for cell in lines[0].split(separator)]
        if {"idx", "name"} <= set(columns):
            return _of_table(path, columns, list(csv.reader(lines[1:], delimiter=separator)))
    return [_class(path, line) for line in lines]


def read_annotation(
    photograph: MaskedPhotograph, height: int, width: int, classes: int
) -> Int32Array:
    """The class of every pixel of a photograph of `height` × `width` pixels, int32 from 0 to
    `classes`.

    Raises CannotWork when the mask cannot be read, has colours in place of values, differs in size
    from the oriented photograph, or holds a value above `classes`.
    """
    path = photograph.mask
    try:
        with Pillow.open(io.BytesIO(read_file(path, _MAX_MASK_BYTES)), formats=["PNG"]) as picture:
            # The size is in the header, so a mask of another size is never decoded.
            if picture.size != (width, height):
                raise CannotWork(
                    f"the mask {path} has {picture.width}×{picture.height} pixels, "
                    f"its photograph {width}×{height}",
                    remedy="name the photographs that the masks were made for",
                )
            if picture.mode not in _VALUE_MODES:
                raise CannotWork(
                    f"the mask {path} holds colours ({picture.mode}), not one value a pixel",
                    remedy="use the masks of ADE20K's scene parsing challenge, or others of its form",
                )
            values = np.asarray(picture).astype(np.int32)  # (height, width)
    except DecodeError as error:
        raise CannotWork(f"the mask {path} cannot be used: {error.message}") from error
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise CannotWork(f"the mask {path} is not a PNG that can be decoded") from error
    highest = int(values.max())
    if highest > classes:
        raise CannotWork(
            f"the mask {path} holds the value {highest}, but there are {classes} classes",
            remedy="name the file of classes that belongs to the masks",
        )
    return values


def _of_table(
    path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[SemanticClass]:
    index, name = columns.index("idx"), columns.index("name")
    classes = []
    for number, cells in enumerate(rows, start=1):
        if len(cells) <= max(index, name) or cells[index].strip() != str(number):
            raise CannotWork(
                f"{path} does not list its classes as 1, 2, …: {' '.join(cells)!r} is the row {number}",
                remedy="name objectInfo150.txt as ADE20K has it, or a file of one class a line",
            )
        classes.append(_class(path, cells[name]))
    if not classes:
        raise CannotWork(f"{path} names no classes", remedy="name another file of classes")
    return classes


def _class(path: Path, text: str) -> SemanticClass:
    names = tuple(dict.fromkeys(name for part in re.split("[,;]", text) if (name := part.strip())))
    if not names:
        raise CannotWork(f"{path} has a class without a name: {text.strip()!r}")
    return SemanticClass(names)


def _photograph(images: Path, stem: Path) -> Path | None:
    for suffix in _PHOTOGRAPHS:
        for ending in (suffix, suffix.upper()):
            candidate = images / f"{stem}{ending}"
            if candidate.is_file():
                return candidate
    return None
