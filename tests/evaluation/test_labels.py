"""COCO labels: every form that is read, and a sentence for every one that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_labels import HEIGHT, WIDTH, WriteSet
from pycocotools import mask as coco_mask

from regard.core.errors import CannotWork, NotFound, UsageError
from regard.core.geometry import Box
from regard.evaluation.labels import read_labels
from regard.photos.masks import decode_mask, mask_box

BOX = [4, 3, 10, 8]


def box_pixels() -> np.ndarray[Any, np.dtype[np.bool_]]:
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    pixels[3:11, 4:14] = True
    return pixels


def runs() -> list[int]:
    """Uncompressed RLE of the box, counted by hand: columns 4 to 13, rows 3 to 10."""
    counts = [4 * HEIGHT + 3]
    for _ in range(9):
        counts += [8, HEIGHT - 8]
    return [*counts, 8, WIDTH * HEIGHT - (13 * HEIGHT + 3) - 8]


@pytest.mark.parametrize("form", ["runs", "compressed", "polygon"])
def test_every_form_of_segmentation_gives_the_same_mask(form: str, write_set: WriteSet) -> None:
    encoded = coco_mask.encode(np.asfortranarray(box_pixels(), np.uint8))
    segmentation: Any = {
        "runs": {"size": [HEIGHT, WIDTH], "counts": runs()},
        "compressed": {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()},
        "polygon": [[4, 3, 14, 3, 14, 11, 4, 11]],
    }[form]
    annotation = {"image_id": 1, "bbox": BOX, "segmentation": segmentation, "description": "A cup."}
    folder = write_set(["a.jpg"], objects=[annotation])
    labels = read_labels(folder, instances=folder / "instances.json")
    (thing,) = labels.images[0].objects
    assert thing.text == "A cup."
    assert thing.box == Box(4, 3, 10, 8)
    assert thing.mask is not None
    np.testing.assert_array_equal(decode_mask(thing.mask), box_pixels())


def test_category_names_stand_in_for_descriptions(write_set: WriteSet) -> None:
    folder = write_set(
        ["a.jpg"],
        objects=[{"image_id": 1, "bbox": [1.4, 2.6, 3.2, 4.0], "category_id": 7}],
        categories=[{"id": 7, "name": "teapot"}],
    )
    (thing,) = read_labels(folder, instances=folder / "instances.json").images[0].objects
    assert thing.text == "teapot"
    assert thing.mask is None
    # Corners 1.4, 2.6 and 4.6, 6.6 round to 1, 3 and 5, 7.
    assert thing.box == Box(1, 3, 4, 4)


def test_crowds_and_blank_captions_are_left_out(write_set: WriteSet) -> None:
    folder = write_set(
        ["a.jpg"],
        captions=[{"image_id": 1, "caption": "  "}, {"image_id": 1, "caption": " A cup. "}],
        objects=[{"image_id": 1, "bbox": BOX, "description": "cups", "iscrowd": 1}],
    )
    labels = read_labels(
        folder, captions=folder / "captions.json", instances=folder / "instances.json"
    )
    assert labels.images[0].captions == ("A cup.",)
    assert labels.images[0].objects == ()


def test_the_glob_selects_images_by_file_name(write_set: WriteSet) -> None:
    folder = write_set(
        ["scenes/a.jpg", "singles/b.jpg", "singles/c.jpg"],
        captions=[{"image_id": i, "caption": f"caption {i}"} for i in (1, 2, 3)],
    )
    labels = read_labels(folder, captions=folder / "captions.json", only="singles/*")
    assert [image.file_name for image in labels.images] == ["singles/b.jpg", "singles/c.jpg"]
    assert [image.captions for image in labels.images] == [("caption 2",), ("caption 3",)]
    assert labels.by_path()[str(folder / "singles" / "b.jpg")] == "singles/b.jpg"


def test_files_are_joined_by_file_name_not_by_id(write_set: WriteSet) -> None:
    folder = write_set(["a.jpg", "b.jpg"], captions=[{"image_id": 1, "caption": "of a"}])
    other = {
        "images": [{"id": 1, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": BOX, "description": "in b"}],
    }
    (folder / "instances.json").write_text(json.dumps(other))
    first, second = read_labels(
        folder, captions=folder / "captions.json", instances=folder / "instances.json"
    ).images
    assert (first.captions, first.objects) == (("of a",), ())
    assert [thing.text for thing in second.objects] == ["in b"]


def test_a_glob_that_matches_nothing_shows_a_file_name(write_set: WriteSet) -> None:
    folder = write_set(["singles/a.jpg"])
    with pytest.raises(NotFound, match=r"matches 'x/\*'.*'singles/a.jpg'"):
        read_labels(folder, captions=folder / "captions.json", only="x/*")


def test_photographs_that_are_not_there_are_named(write_set: WriteSet) -> None:
    names = [f"{i}.jpg" for i in range(5)]
    folder = write_set(names)
    for name in names[:4]:
        (folder / name).unlink()
    with pytest.raises(NotFound, match=r"4 of 5 .*: 0\.jpg, 1\.jpg, 2\.jpg, …"):
        read_labels(folder, captions=folder / "captions.json")


def test_no_labels_file_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_labels(tmp_path)


def test_missing_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not a folder"):
        read_labels(tmp_path / "none", captions=tmp_path / "captions.json")
    with pytest.raises(NotFound, match="does not exist"):
        read_labels(tmp_path, captions=tmp_path / "captions.json")
    with pytest.raises(CannotWork, match="cannot be read"):
        read_labels(tmp_path, captions=tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfa", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list `images`"),
        (b'{"images": [1]}', "no list `images`"),
        (b'{"images": [{"id": 1}]}', "lacks its `id` or `file_name`"),
        (b'{"images": [{"id": 1, "file_name": "a.jpg"}]}', "lacks its `width`"),
        (b'{"images": [{"id": 1, "file_name": "../a", "width": 1, "height": 1}]}', "leaves"),
        (b'{"images": [{"id": 1, "file_name": "/a", "width": 1, "height": 1}]}', "leaves"),
        (b'{"images": [], "annotations": []}', "list no images"),
        (
            b'{"images": [], "annotations": [{"id": 4, "image_id": [2]}]}',
            "annotation 4 names an image",
        ),
    ],
)
def test_files_of_another_form(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_bytes(content)
    with pytest.raises(CannotWork, match=sentence):
        read_labels(tmp_path, captions=tmp_path / "captions.json")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"description": None}, "neither a `description`"),
        ({"description": 3}, "neither a `description`"),
        ({"bbox": None}, "no `bbox`"),
        ({"bbox": [1, 2, 3]}, "no `bbox`"),
        ({"bbox": [1, 2, -3, 4]}, "no `bbox`"),
        ({"bbox": [1, 2, float("nan"), 4]}, "no `bbox`"),
        ({"segmentation": {"size": [1, 1], "counts": [1]}}, "`size` is not"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 6]}}, "do not add up"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 1201]}}, "do not add up"),
        ({"segmentation": {"size": [HEIGHT, WIDTH]}}, "invalid `segmentation`"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "oooo"}}, "invalid `segmentation`"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": 7}}, "invalid `segmentation`"),
        ({"segmentation": [[1, 2, 3, 4]]}, "fewer than three corners"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, "far outside"),
        ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "invalid `segmentation`"),
        ({"segmentation": "a"}, "invalid `segmentation`"),
    ],
)
def test_objects_of_another_form(
    change: dict[str, Any], sentence: str, write_set: WriteSet
) -> None:
    annotation = {"image_id": 1, "bbox": BOX, "description": "A cup.", **change}
    folder = write_set(["a.jpg"], objects=[annotation])
    with pytest.raises(CannotWork, match=sentence):
        read_labels(folder, instances=folder / "instances.json")


def test_captions_of_another_form(write_set: WriteSet) -> None:
    folder = write_set(["a.jpg"], captions=[{"image_id": 1}])
    with pytest.raises(CannotWork, match="annotation 1 has no `caption`"):
        read_labels(folder, captions=folder / "captions.json")


def test_an_image_that_stands_twice(write_set: WriteSet) -> None:
    folder = write_set(["a.jpg", "a.jpg"])
    with pytest.raises(CannotWork, match="is listed twice"):
        read_labels(folder, captions=folder / "captions.json")


def test_files_that_disagree_on_a_size(write_set: WriteSet) -> None:
    folder = write_set(["a.jpg"])
    content = json.loads((folder / "instances.json").read_text())
    content["images"][0]["width"] += 1
    (folder / "instances.json").write_text(json.dumps(content))
    with pytest.raises(CannotWork, match=r"disagree on the size of a\.jpg"):
        read_labels(folder, captions=folder / "captions.json", instances=folder / "instances.json")


def test_the_shared_photo_set(photos_dir: Path) -> None:
    labels = read_labels(
        photos_dir,
        captions=photos_dir / "captions.json",
        instances=photos_dir / "instances.json",
        only="singles/*",
    )
    assert labels.images
    for image in labels.images:
        assert len(image.captions) == len(image.objects) == 1
        (thing,) = image.objects
        assert thing.mask is not None
        assert mask_box(thing.mask) == thing.box
