"""Writes the live pipeline's regions and captions as two COCO files, and reads COCO run lengths.

A COCO image is an asset that has a content and is not in the trash; an annotation is a region of
it. Lists are collected in temporary files and joined at the end, so that memory does not grow with
the library.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from regard.core.records import Int64Array
from regard.photos.files import uri_of_path
from regard.storage.export.layout import COCO_CAPTIONS, COCO_INSTANCES

_CATEGORY = {"id": 1, "name": "region", "supercategory": "region"}
_LISTS = ("images", "annotations", "captions")


class CocoWriter:
    """Writes `coco/instances.json` and `coco/captions.json` below a folder."""

    def __init__(self, folder: Path, root: bytes, profile: str, fingerprint: str) -> None:
        """Start writing; file names below the folder `root` are relative to it."""
        self._folder = folder
        self._root = root
        self._info = {
            "description": "regions and captions written by regard",
            "root": uri_of_path(root),
            "profile": profile,
            "pipeline": fingerprint,
        }
        self._exit = contextlib.ExitStack()
        (folder / COCO_INSTANCES).parent.mkdir()
        self._lists = {
            name: self._exit.enter_context(self._part(name).open("w", encoding="utf-8"))
            for name in _LISTS
        }
        self._counts = dict.fromkeys(_LISTS, 0)

    def add(
        self,
        content: Mapping[str, Any],
        assets: Sequence[Mapping[str, Any]],
        regions: Sequence[Mapping[str, Any]],
        captions: Sequence[Mapping[str, Any]],
    ) -> None:
        """Add a content with its assets and the live pipeline's regions and captions."""
        of_region = {row["region_id"]: row["text"] for row in captions if row["region_id"]}
        for asset in assets:
            if asset["deleted_at"] is not None:
                continue
            self._add(
                "images",
                {
                    "id": asset["id"],
                    "file_name": uri_of_path(self._name(asset["path"])),
                    "width": content["width"],
                    "height": content["height"],
                    "sha256": content["sha256"],
                },
            )
            for region in regions:
                annotation = {
                    "id": self._counts["annotations"] + 1,
                    "image_id": asset["id"],
                    "category_id": _CATEGORY["id"],
                    "bbox": [region["x"], region["y"], region["width"], region["height"]],
                    "area": region["area"],
                    "iscrowd": 0,
                    "segmentation": {
                        "size": [content["height"], content["width"]],
                        "counts": region["mask"].decode("ascii"),
                    },
                    "score": region["score"],
                    "region_id": region["id"],
                }
                if region["id"] in of_region:
                    annotation["caption"] = of_region[region["id"]]
                self._add("annotations", annotation)
            for caption in captions:
                if caption["region_id"] is None:
                    self._add(
                        "captions",
                        {
                            "id": self._counts["captions"] + 1,
                            "image_id": asset["id"],
                            "caption": caption["text"],
                            "model": caption["model"],
                        },
                    )

    def _name(self, path: bytes) -> bytes:
        below = self._root.rstrip(b"/") + b"/"
        return path.removeprefix(below)

    def _add(self, name: str, item: Mapping[str, Any]) -> None:
        if self._counts[name]:
            self._lists[name].write(",\n")
        json.dump(item, self._lists[name], ensure_ascii=False)
        self._counts[name] += 1

    def _part(self, name: str) -> Path:
        return self._folder / f"coco/{name}.part"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()
        if error is None:
            with open(self._folder / COCO_INSTANCES, "w", encoding="utf-8") as file:
                self._write(file, "annotations", {"categories": [_CATEGORY]})
            with open(self._folder / COCO_CAPTIONS, "w", encoding="utf-8") as file:
                self._write(file, "captions", {})
            for name in _LISTS:
                os.unlink(self._part(name))

    def _write(self, file: IO[str], annotations: str, more: Mapping[str, Any]) -> None:
        file.write(f'{{"info": {json.dumps(self._info, ensure_ascii=False)},\n')
        for key, value in more.items():
            file.write(f'"{key}": {json.dumps(value)},\n')
        for key, part in (("images", "images"), ("annotations", annotations)):
            file.write(f'"{key}": [\n')
            with open(self._part(part), encoding="utf-8") as items:
                shutil.copyfileobj(items, file)
            file.write("]" + (",\n" if key == "images" else "}\n"))


# A character holds five bits of a number, and one that tells whether more follow.
_FIRST, _LAST = ord("0"), ord("0") + 63
_MORE, _BITS, _SIGN = 0x20, 5, 0x10
_LONGEST = 13


def mask_runs(counts: bytes) -> Int64Array:
    """Run lengths, int64, starting with zeros; raises ValueError for invalid counts.

    The format is that of pycocotools' `rleToString`, which trusts its input: numbers of 5 bits a
    character, lowest first; from the fourth on each is the difference to the one two before.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64)
    if characters.size == 0 or characters.min() < _FIRST or characters.max() > _LAST:
        raise ValueError("invalid characters")
    values = characters - _FIRST
    ends = np.flatnonzero((values & _MORE) == 0)
    if ends.size == 0 or ends[-1] != values.size - 1:
        raise ValueError("an incomplete number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST - 1:
        raise ValueError("a number is too long")
    place = np.arange(values.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & 0x1F) << (_BITS * place), starts)
    # The highest bit of the last character is the sign (two's complement).
    numbers -= np.where(values[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    runs = numbers.copy()
    for first in (1, 2):
        runs[first::2] = np.cumsum(numbers[first::2])
    if runs.min() < 0:
        raise ValueError("a run has a negative length")
    return runs
