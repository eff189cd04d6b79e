"""Makes masks and classes in ADE20K's layout from photographs with COCO instances.

    python tests/made_semantic_set.py PHOTOS OUT

writes OUT/masks/….png and OUT/classes.txt (in the form of objectInfo150.txt) from
PHOTOS/instances.json. A class is a description up to its first comma, semicolon or parenthesis,
without article and final marks, upper and lower case alike; classes are numbered in the order of
their names. Pixels of no object are 0, and so is not measured: the photographs' backgrounds have
no labels.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask


def class_of(description: str) -> str:
    """The class that a description names."""
    words = re.split(r"[,;(]", description)[0].strip(" .!?")
    return re.sub(r"^(an?|the|some) ", "", words, flags=re.IGNORECASE).lower()


def write_semantic_set(photos: Path, out: Path, only: str = "") -> tuple[Path, Path]:
    """Masks of the photographs whose names begin with `only`, and the classes; both paths."""
    labels = json.loads((photos / "instances.json").read_bytes())
    classes = sorted({class_of(one["description"]) for one in labels["annotations"]})
    assert len(classes) < 256
    values = {name: value for value, name in enumerate(classes, start=1)}
    images = {image["id"]: image for image in labels["images"]}
    masks: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}
    for one in labels["annotations"]:
        image = images[one["image_id"]]
        height, width = image["height"], image["width"]
        if image["file_name"].startswith(only):
            values_here = masks.setdefault(image["file_name"], np.zeros((height, width), np.uint8))
            runs = coco_mask.frPyObjects(one["segmentation"], height, width)
            values_here[coco_mask.decode(runs) > 0] = values[class_of(one["description"])]
    pixels: Counter[int] = Counter()
    for name, mask in masks.items():
        path = (out / "masks" / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
        pixels.update(dict(enumerate(np.bincount(mask.ravel(), minlength=256).tolist())))
    total = sum(mask.size for mask in masks.values())
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"] + [
        f"{value}\t{pixels[value] / total:.4f}\t0\t0\t0\t{name}" for name, value in values.items()
    ]
    (out / "classes.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return out / "masks", out / "classes.txt"


if __name__ == "__main__":
    write_semantic_set(Path(sys.argv[1]), Path(sys.argv[2]))
