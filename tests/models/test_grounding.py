"""What a text names in a photograph: the detectors' boxes, and SAM 2's masks in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from made_checkpoints.contrastive import make_siglip
from made_checkpoints.detectors import make_grounding_dino, make_owlv2
from made_checkpoints.sam2 import make_sam2
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from regard.core.errors import ModelError
from regard.core.geometry import Box, Mask
from regard.core.records import Image
from regard.models.checkpoints.source import ModelSource
from regard.models.grounding.grounder import LocatingGrounder
from regard.models.grounding.part import DetectorPart
from regard.models.parts import PartDefinition, Place
from regard.models.sam2.part import Sam2Part
from regard.photos.masks import decode_mask, mask_area, mask_box, mask_from_box

pytestmark = pytest.mark.slow

MAKERS: dict[str, Callable[[Path], Path]] = {
    "grounding-dino": make_grounding_dino,
    "owlv2": make_owlv2,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("detectors")
    return {name: make(base / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def photographs(sample_images: list[Image]) -> list[Image]:
    found = [image.pixels for image in sample_images[:4]]
    found += [found[0][:, :200], found[1][:90]]  # tall, wide
    return [Image(np.ascontiguousarray(pixels)) for pixels in found]


def definition(folder: Path, parameters: dict[str, Any]) -> PartDefinition:
    source = ModelSource(path=folder)
    return PartDefinition("any", "profile test", source, "cpu", "float32", parameters)


def detector(folder: Path, threshold: float = 0.0) -> Any:
    return DetectorPart(definition(folder, {"threshold": threshold})).load()


@functools.cache
def published(folder: Path) -> tuple[Any, Any]:
    """transformers' processor and model."""
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder, local_files_only=True)
    return AutoProcessor.from_pretrained(folder, local_files_only=True), model.eval()


def reference(folder: Path, image: Image, text: str) -> list[tuple[list[float], float]]:
    """The boxes and scores that transformers' own processing gives."""
    processor, model = published(folder)
    picture = PIL.Image.fromarray(image.pixels)
    inputs = processor(images=[picture], text=[[text]], return_tensors="pt")
    found = processor.post_process_grounded_object_detection(
        model(**inputs), threshold=0.0, target_sizes=[(image.height, image.width)]
    )[0]
    return list(zip(found["boxes"].tolist(), found["scores"].tolist(), strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_a_box_is_one_of_those_of_transformers(
    folders: dict[str, Path], photographs: list[Image], name: str
) -> None:
    places = detector(folders[name]).locate(photographs, ["a red car"] * len(photographs))
    assert sum(place is not None for place in places) >= 2
    for image, place in zip(photographs, places, strict=True):
        if place is None:
            continue
        left, top, right, bottom = place.box.x, place.box.y, place.box.right, place.box.bottom
        assert 0 <= left < right <= image.width
        assert 0 <= top < bottom <= image.height
        limits = np.array([image.width, image.height] * 2)
        assert any(
            np.allclose(np.clip(box, 0, limits), [left, top, right, bottom], atol=0.51)
            for box, _ in reference(folders[name], image, "a red car")
        )


def test_owlv2_takes_its_surest_box(folders: dict[str, Path], photographs: list[Image]) -> None:
    for image in photographs:
        (place,) = detector(folders["owlv2"]).locate([image], ["two cats"])
        if place is not None:
            inside = [
                score
                for (left, top, right, bottom), score in reference(
                    folders["owlv2"], image, "two cats"
                )
                if Box(round(left), round(top), round(right - left), round(bottom - top)).clipped(
                    image.width, image.height
                )
            ]
            assert place.score == pytest.approx(max(inside), abs=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_photographs_do_not_change_what_is_found_in_others(
    folders: dict[str, Path], photographs: list[Image], name: str
) -> None:
    texts = ["a red car", "a boat. on. the sea.", "", "x" * 300, "Two DOGS", "a " * 400]
    together = detector(folders[name]).locate(photographs, texts)
    singly = [
        detector(folders[name]).locate([image], [text])[0]
        for image, text in zip(photographs, texts, strict=True)
    ]
    assert together == singly
    assert detector(folders[name]).locate([], []) == []


@pytest.mark.parametrize("threshold", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_found_below_the_threshold(
    folders: dict[str, Path], photographs: list[Image], name: str, threshold: float
) -> None:
    texts = ["a red car"] * len(photographs)
    places = detector(folders[name], threshold).locate(photographs, texts)
    assert all(place is None or place.score >= threshold for place in places)
    if name == "grounding-dino":
        assert any(places) == (threshold < 1)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    part = DetectorPart(definition(make_siglip(tmp_path / "siglip"), {}))
    with pytest.raises(ModelError, match="none of grounding-dino"):
        part.needs()
    with pytest.raises(ModelError, match="siglip"):
        part.load()


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Sam2Part(definition(make_sam2(tmp_path_factory.mktemp("sam2")), {})).load()


def test_sam2_draws_a_mask_inside_each_box(sam2: Any, photographs: list[Image]) -> None:
    boxes = [
        Box(image.width // 4, image.height // 5, image.width // 2, image.height // 2)
        for image in photographs
    ]
    masks = sam2.segment_boxes(photographs, boxes)
    areas = set()
    for image, box, mask in zip(photographs, boxes, masks, strict=True):
        assert (mask.width, mask.height) == (image.width, image.height)
        if mask_area(mask):
            found = mask_box(mask)
            assert box.x <= found.x < found.right <= box.right
            assert box.y <= found.y < found.bottom <= box.bottom
            areas.add(mask_area(mask) / box.area)
    assert any(0 < area < 1 for area in areas)
    assert sam2.segment_boxes(photographs[:1], boxes[:1]) == masks[:1]
    assert sam2.segment_boxes(photographs[1:2], [Box(0, 0, 30, 20)]) != masks[1:2]


class _Locator:
    def __init__(self, *places: Place | None) -> None:
        self._places = list(places)

    def locate(self, images: Sequence[Image], texts: Sequence[str]) -> list[Place | None]:
        return self._places


class _Segmenter:
    """Half of each box, nothing in boxes of fewer than 100 pixels."""

    def segment_boxes(self, images: Sequence[Image], boxes: Sequence[Box]) -> list[Mask]:
        halves = [
            Box(box.x, box.y, box.width // 2 if box.area >= 100 else 0, box.height) for box in boxes
        ]
        return [
            mask_from_box(image.height, image.width, half)
            for image, half in zip(images, halves, strict=True)
        ]


def test_a_grounder_joins_places_and_masks() -> None:
    images = [Image(np.zeros((40, 60, 3), np.uint8))] * 3
    places = Place(Box(10, 5, 20, 30), 0.75), None, Place(Box(0, 0, 4, 5), 0.5)
    first, second, third = LocatingGrounder(_Locator(*places), _Segmenter()).ground(
        images, ["x"] * 3
    )
    assert second is None
    assert first is not None
    assert third is not None
    assert (first.box, first.area, first.score) == (Box(10, 5, 20, 30), 300, 0.75)
    assert decode_mask(first.mask)[5:35, 10:20].all()
    # Where no mask is drawn, and without a segmenter, the mask is the box.
    assert third.area == third.box.area
    bare, *_ = LocatingGrounder(_Locator(*places), None).ground(images, ["x"] * 3)
    assert bare is not None
    assert bare.area == bare.box.area
