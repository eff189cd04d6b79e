"""Masks, classes and photographs in ADE20K's layout, as they are and as they should not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_semantic_set import write_semantic_set
from PIL import Image
from pycocotools import mask as coco_mask

from regard.core.errors import CannotWork, NotFound
from regard.evaluation.semantic_labels import (
    MaskedPhotograph,
    read_annotation,
    read_classes,
    read_semantic_set,
)

ADE = """\
Idx	Ratio	Train	Val	Stuff	Name
1	0.1576	11664	1172	1	wall
2	0.1072	6046	612	1	building, edifice
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs with masks, one of them in a folder, and one without."""
    for name in ("images/a.jpg", "images/deep/b.JPG", "images/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / name, "JPEG")
    for name in ("masks/a.png", "masks/deep/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[0, 1, 2, 2]] * 3, np.uint8)).save(tmp_path / name)
    (tmp_path / "classes.txt").write_text(ADE)
    return tmp_path


def test_masks_meet_the_photographs_of_their_names(folder: Path) -> None:
    found = read_semantic_set(folder / "images", folder / "masks", folder / "classes.txt")
    assert [p.file_name for p in found.photographs] == ["a.jpg", "deep/b.JPG"]
    assert [c.names for c in found.classes] == [("wall",), ("building", "edifice")]
    only = read_semantic_set(
        folder / "images", folder / "masks", folder / "classes.txt", only="deep/*"
    )
    assert [p.file_name for p in only.photographs] == ["deep/b.JPG"]
    values = read_annotation(found.photographs[0], 3, 4, 2)
    assert values.tolist() == [[0, 1, 2, 2]] * 3
    # As macOS packs them.
    (folder / "masks" / "._a.png").write_bytes(b"\0\5\x16\7")
    assert read_semantic_set(folder / "images", folder / "masks", folder / "classes.txt") == found


def test_what_is_not_there_is_said(folder: Path) -> None:
    images, masks, classes = folder / "images", folder / "masks", folder / "classes.txt"
    for arguments, words in (
        ((folder / "no", masks, classes), "no is not a folder"),
        ((images, folder / "no", classes), "no is not a folder"),
        ((images, masks, folder / "no"), "no does not exist"),
        ((images, images, classes), "holds no masks"),
    ):
        with pytest.raises(NotFound, match=words):
            read_semantic_set(*arguments)
    with pytest.raises(NotFound, match="no photograph's file name matches 'x'"):
        read_semantic_set(images, masks, classes, only="x")
    (images / "a.jpg").unlink()
    with pytest.raises(NotFound, match=r"1 of 2 masks have no photograph .*: a"):
        read_semantic_set(images, masks, classes)
    # Those that are left out may be away.
    assert read_semantic_set(images, masks, classes, only="deep/*").photographs


def test_classes_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("\ufeffwall\r\n\r\n door; double door, wall ,door\n".encode())
    assert [c.names for c in read_classes(file)] == [("wall",), ("door", "double door", "wall")]


def test_classes_as_the_challenge_lists_them(tmp_path: Path) -> None:
    file = tmp_path / "object150_info.csv"
    file.write_text(
        "Idx,Ratio,Train,Val,Stuff,Name\n1,0.1576,11664,1172,1,wall\n2,0.1072,6046,612,1,building;edifice\n"
        '3,0.1,9,9,0,"door, double door"\n'
    )
    assert [c.names for c in read_classes(file)] == [
        ("wall",),
        ("building", "edifice"),
        ("door", "double door"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no classes"),
        ("wall\n,\n", "a class without a name"),
        ("Idx\tName\n", "names no classes"),
        ("Idx\tName\n2\twall\n", "does not list its classes as 1, 2"),
        ("Idx\tName\n1\n", "does not list its classes as 1, 2"),
    ],
)
def test_classes_that_can_not_be_read(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_text(text)
    with pytest.raises(CannotWork, match=words):
        read_classes(file)


def test_classes_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(CannotWork, match="is not UTF-8"):
        read_classes(file)


@pytest.mark.parametrize("mode", ["P", "I;16", "1"])
def test_masks_hold_values_in_every_form_that_png_has(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1], [1, 0]], np.uint16)
    if mode == "P":
        picture = Image.fromarray(values.astype(np.uint8), "L").convert("P")
        picture.putdata([0, 1, 1, 0])
        picture.putpalette([200, 0, 0, 0, 200, 0])
    else:
        picture = Image.fromarray(values if mode == "I;16" else values.astype(bool))
    picture.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == mode
    one = MaskedPhotograph("a.jpg", tmp_path / "a.jpg", tmp_path / "a.png")
    assert read_annotation(one, 2, 2, 1).tolist() == [[0, 1], [1, 0]]


def test_masks_that_can_not_be_used(tmp_path: Path) -> None:
    one = MaskedPhotograph("a.jpg", tmp_path / "a.jpg", tmp_path / "a.png")

    def check(words: str) -> None:
        with pytest.raises(CannotWork, match=words):
            read_annotation(one, 2, 3, 5)

    check("cannot be used")
    one.mask.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    check("not a PNG")
    Image.new("RGB", (3, 2)).save(one.mask)
    check(r"holds colours \(RGB\)")
    Image.new("L", (2, 3)).save(one.mask)
    check("has 2×3 pixels, its photograph 3×2")
    Image.new("L", (3, 2), 6).save(one.mask)
    check("holds the value 6, but there are 5 classes")
    whole = one.mask.read_bytes()
    one.mask.write_bytes(whole[: len(whole) // 2])
    check("not a PNG")


def test_a_set_made_of_labelled_photographs(photos_dir: Path, tmp_path: Path) -> None:
    """The set that docs/quality.md measures: its masks hold the pixels of the instances."""
    import json

    masks, classes = write_semantic_set(photos_dir, tmp_path, "scenes/000")
    found = read_semantic_set(photos_dir, masks, classes)
    assert [p.file_name for p in found.photographs] == [f"scenes/000{n}.jpg" for n in range(10)]
    assert len(found.classes) > 150
    labels = json.loads((photos_dir / "instances.json").read_bytes())
    image = next(i for i in labels["images"] if i["file_name"] == "scenes/0003.jpg")
    values = read_annotation(found.photographs[3], image["height"], image["width"], 255)
    objects = [one for one in labels["annotations"] if one["image_id"] == image["id"]]
    size = (image["height"], image["width"])
    for one in objects:
        there = coco_mask.decode(coco_mask.frPyObjects(one["segmentation"], *size)) > 0
        named = {found.classes[value - 1].name for value in np.unique(values[there])}
        assert len(named) == 1
        assert named.pop() in one["description"].lower()
    assert (values > 0).sum() == sum(one["area"] for one in objects)
