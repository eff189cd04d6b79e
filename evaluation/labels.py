"""Reads labelled photographs: COCO captions, and instances of COCO and LVIS.

The two files are joined by `file_name`, so each may number its images as it likes. Everything that
the measures rely on is checked here, once: a `LabelledSet` is known to be valid.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from pycocotools import mask as coco_mask

from regard.core.errors import CannotWork, NotFound, UsageError
from regard.core.geometry import Box, Mask
from regard.photos.masks import decode_mask, mask_from_runs

_LISTED_IN_ERRORS = 3


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """An outlined object: its text, box and, where given, mask."""

    text: str
    box: Box
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A photograph with its reference captions and its objects; sizes in pixels."""

    file_name: str
    width: int
    height: int
    captions: tuple[str, ...]
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """The labelled photographs under `folder` that were selected, by file name."""

    folder: Path
    images: tuple[LabelledImage, ...]

    def path(self, file_name: str) -> Path:
        """The absolute path of the photograph, symlinks unresolved."""
        return Path(os.path.abspath(self.folder / file_name))

    def by_path(self) -> dict[str, str]:
        """Absolute path (symlinks unresolved) → file name, to match hits with labels."""
        return {str(self.path(image.file_name)): image.file_name for image in self.images}


def read_labels(
    folder: Path,
    *,
    captions: Path | None = None,
    instances: Path | None = None,
    only: str | Collection[str] | None = None,
) -> LabelledSet:
    """Read the labels of the photographs under `folder`.

    `captions` is a COCO captions file, `instances` a COCO instances file; `only` selects
    images: a glob over COCO's `file_name` (case matters, `*` crosses slashes), or the names
    themselves. In LVIS, an image's `coco_url` names it: "val2017/000000397133.jpg". An object's text is
    its annotation's `description`, or else its category's name. Masks may be polygons or RLE,
    compressed or not. Boxes are rounded to whole pixels, corner by corner. Crowds (`iscrowd`) and
    blank captions are left out.

    Raises UsageError when neither file is named; NotFound when a file, the folder or a photograph
    is not there, or when `only` selects nothing; CannotWork when a file is not in COCO's format.
    """
    if captions is None and instances is None:
        raise UsageError("there are no labels to measure against", remedy="name a labels file")
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder", remedy="name the folder of the photographs")
    captioned = _CocoFile.open(captions) if captions else None
    outlined = _CocoFile.open(instances) if instances else None
    sizes: dict[str, tuple[int, int]] = {}
    for source in filter(None, (captioned, outlined)):
        for name, size in source.sizes.items():
            if sizes.setdefault(name, size) != size:
                raise CannotWork(
                    f"{captions} and {instances} disagree on the size of {name}",
                    remedy="use two label files of one set",
                )
    texts = _captions(captioned, only) if captioned else {}
    objects = _objects(outlined, only) if outlined else {}
    selected = sorted(name for name in sizes if _selects(only, name))
    if not selected and isinstance(only, str):
        raise NotFound(
            f"no labelled photograph's file name matches {only!r}",
            remedy=f"file names look like {min(sizes)!r}" if sizes else "the labels list no images",
        )
    if not selected:
        raise CannotWork("the labels list no images", remedy="name another labels file")
    require_photographs(folder, selected)
    return LabelledSet(
        folder=folder,
        images=tuple(
            LabelledImage(
                name, *sizes[name], tuple(texts.get(name, ())), tuple(objects.get(name, ()))
            )
            for name in selected
        ),
    )


@dataclass(frozen=True, slots=True)
class _CocoFile:
    """One COCO file whose images are checked: by id, and with their sizes (width, height)."""

    path: Path
    content: Mapping[str, Any]
    names: Mapping[int, str]
    sizes: Mapping[str, tuple[int, int]]

    @classmethod
    def open(cls, path: Path) -> _CocoFile:
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist", remedy="name a COCO labels file") from None
        except OSError as error:
            raise CannotWork(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise CannotWork(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise _wrong_form(path, "it is not a JSON object")
        names: dict[int, str] = {}
        sizes: dict[str, tuple[int, int]] = {}
        for image in _records(path, content, "images"):
            name, number = image.get("file_name") or _name_in_lvis(image), image.get("id")
            width, height = image.get("width"), image.get("height")
            if not isinstance(name, str) or not isinstance(number, int):
                raise _wrong_form(path, "an image lacks its `id` or `file_name`")
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise _wrong_form(path, f"{name!r} leaves the folder of the photographs")
            if not _is_side(width) or not _is_side(height):
                raise _wrong_form(path, f"image {name!r} lacks its `width` or `height`")
            if name in sizes or number in names:
                raise _wrong_form(path, f"image {name!r} or its id is listed twice")
            names[number], sizes[name] = name, (width, height)
        return cls(path, content, names, sizes)

    def annotations(
        self, only: str | Collection[str] | None
    ) -> list[tuple[str, Mapping[str, Any]]]:
        """(file name, annotation) of the selected images."""
        found: list[tuple[str, Mapping[str, Any]]] = []
        for annotation in _records(self.path, self.content, "annotations"):
            number = annotation.get("image_id")
            name = self.names.get(number) if isinstance(number, int) else None
            if name is None:
                raise self.wrong(annotation, "names an image that is not listed")
            if _selects(only, name):
                found.append((name, annotation))
        return found

    def wrong(self, annotation: Mapping[str, Any], what: str) -> CannotWork:
        return _wrong_form(self.path, f"annotation {annotation.get('id')} {what}")


def _captions(source: _CocoFile, only: str | Collection[str] | None) -> dict[str, list[str]]:
    """Captions of each selected image."""
    texts: dict[str, list[str]] = defaultdict(list)
    for name, annotation in source.annotations(only):
        text = annotation.get("caption")
        if not isinstance(text, str):
            raise source.wrong(annotation, "has no `caption`")
        if text.strip():
            texts[name].append(text.strip())
    return texts


def _objects(
    source: _CocoFile, only: str | Collection[str] | None
) -> dict[str, list[LabelledObject]]:
    """Objects of each selected image."""
    objects: dict[str, list[LabelledObject]] = defaultdict(list)
    categories = {
        category.get("id"): category.get("name")
        for category in source.content.get("categories") or ()
        if isinstance(category, dict) and isinstance(category.get("id"), int)
    }
    for name, annotation in source.annotations(only):
        if annotation.get("iscrowd"):
            continue
        category = annotation.get("category_id")
        named = categories.get(category) if isinstance(category, int) else None
        text = annotation.get("description") or named
        if not isinstance(text, str) or not text.strip():
            raise source.wrong(annotation, "has neither a `description` nor a named category")
        box = _box(annotation.get("bbox"))
        if box is None:
            raise source.wrong(annotation, "has no `bbox` of [x, y, width, height]")
        width, height = source.sizes[name]
        segmentation = annotation.get("segmentation")
        try:
            mask = _mask(segmentation, width, height) if segmentation else None
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise source.wrong(annotation, f"has an invalid `segmentation`: {error}") from error
        objects[name].append(LabelledObject(text.strip(), box, mask))
    return objects


def _records(path: Path, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    records = content.get(key)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise _wrong_form(path, f"it has no list `{key}`")
    return records


def _wrong_form(path: Path, what: str) -> CannotWork:
    return CannotWork(f"{path} is not in COCO's format: {what}")


def _name_in_lvis(image: Mapping[str, Any]) -> str | None:
    url = image.get("coco_url")
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) else None


def _is_side(side: object) -> TypeGuard[int]:
    return isinstance(side, int) and side > 0


def _selects(only: str | Collection[str] | None, name: str) -> bool:
    if isinstance(only, str):
        return fnmatch.fnmatchcase(name, only)
    return only is None or name in only


def require_photographs(folder: Path, names: Sequence[str]) -> None:
    """Raise NotFound when photographs are not under the folder."""
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return
    some = ", ".join(missing[:_LISTED_IN_ERRORS])
    more = ", …" if len(missing) > _LISTED_IN_ERRORS else ""
    raise NotFound(
        f"{len(missing)} of {len(names)} labelled photographs are not under {folder}: {some}{more}",
        remedy="name the folder that the labels' file names start from",
    )


def _box(bbox: object) -> Box | None:
    """COCO's [x, y, width, height] in float pixels to whole pixels, or None."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in bbox):
        return None
    x, y, width, height = bbox
    if width < 0 or height < 0:
        return None
    left, top = round(x), round(y)
    return Box(left, top, round(x + width) - left, round(y + height) - top)


def _mask(segmentation: Any, width: int, height: int) -> Mask:
    """Polygons or RLE to a mask; ValueError, TypeError or KeyError for anything else.

    Corners and run lengths are checked here because pycocotools trusts them.
    """
    if isinstance(segmentation, list):
        if not all(isinstance(ring, list) and len(ring) >= 6 for ring in segmentation):
            raise ValueError("a polygon has fewer than three corners")
        reach = 2 * max(width, height)
        if not all(-reach <= v <= reach for ring in segmentation for v in ring):
            raise ValueError("a polygon's corner lies far outside the image")
        # With one ring of four numbers pycocotools would see a box, hence the check above.
        merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        return Mask(height=height, width=width, counts=merged["counts"])
    if not isinstance(segmentation, dict) or segmentation["size"] != [height, width]:
        raise ValueError(f"its `size` is not [{height}, {width}]")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        if (
            not all(isinstance(run, int) and run >= 0 for run in counts)
            or sum(counts) != width * height
        ):
            raise ValueError("its runs do not add up to the image")
        return mask_from_runs(height, width, counts)
    if not isinstance(counts, str):
        raise ValueError("its `counts` are neither a list nor a string")
    mask = Mask(height=height, width=width, counts=counts.encode("ascii"))
    decode_mask(mask)
    return mask
