"""Automatic masks over a tiny checkpoint and real photographs, and over decoders that draw by
hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from made_checkpoints.sam2 import IMAGE_SIZE, make_sam2
from torch.nn import functional
from transformers import Sam2Config, Sam2Model

from regard.core.geometry import Box
from regard.core.records import Image, Region
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import ModelSource
from regard.models.parts import PartDefinition
from regard.models.sam2.parameters import Sam2Parameters
from regard.models.sam2.part import Sam2Part
from regard.models.sam2.preprocessing import Preprocessing
from regard.models.sam2.segmenter import Sam2Segmenter
from regard.photos.masks import decode_mask, mask_iou

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)
# Random weights are sure of nothing, so little is asked of their masks.
LENIENT = {
    "points_per_side": 4,
    "predicted_iou": 0.05,
    "stability": 0.5,
    "box_nms": 0.97,
    "min_region_share": 0.004,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sam2(tmp_path_factory.mktemp("sam2") / "tiny", seed=3)


def segmenter(folder: Path, **parameters: object) -> Sam2Segmenter:
    definition = PartDefinition(
        "sam2",
        "profile test, segmenter",
        ModelSource(path=folder),
        "cpu",
        parameters={**LENIENT, **parameters},
    )
    return Sam2Part(definition).load()


@pytest.fixture(scope="module")
def photographs(sample_images: list[Image]) -> list[Image]:
    """Five, of several shapes."""
    wide = Image(np.ascontiguousarray(sample_images[1].pixels[:150]))
    return [sample_images[0], wide, *sample_images[2:]]


def check(regions: list[Region], image: Image) -> None:
    """What holds of every region of every photograph."""
    for region in regions:
        assert (region.mask.height, region.mask.width) == (image.height, image.width)
        mask = decode_mask(region.mask)
        rows, columns = np.nonzero(mask)
        box = region.box
        assert region.area == rows.size > 0
        assert (box.x, box.y) == (columns.min(), rows.min())
        assert (box.right, box.bottom) == (columns.max() + 1, rows.max() + 1)
        assert 0 <= region.score <= 1
    assert all(first.score >= second.score for first, second in pairwise(regions))


def test_regions_are_within_bounds_tight_counted_and_sorted(made: Path, photographs: list[Image]):
    found = segmenter(made).segment(photographs)
    assert len(found) == len(photographs)
    for regions, image in zip(found, photographs, strict=True):
        assert regions
        check(regions, image)
    # Else too little is tested.
    assert sum(map(len, found)) > 5


def test_a_batch_gives_the_regions_of_its_images_one_by_one(made: Path, photographs: list[Image]):
    together = segmenter(made, batch_size=3, points_batch=5).segment(photographs)
    alone = segmenter(made, batch_size=1, points_batch=64)
    for image, batched in zip(photographs, together, strict=True):
        (single,) = alone.segment([image])
        assert len(single) == len(batched)
        for one, other in zip(single, batched, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert mask_iou([one.mask], [other.mask])[0, 0] > 0.999


def test_stricter_filters_leave_fewer_regions_that_satisfy_them(
    made: Path, photographs: list[Image]
):
    loose = segmenter(made).segment(photographs)
    scores = sorted(region.score for regions in loose for region in regions)
    middle = scores[len(scores) // 2]
    strict = segmenter(made, predicted_iou=middle).segment(photographs)
    assert all(region.score > middle for regions in strict for region in regions)
    assert sum(map(len, strict)) < sum(map(len, loose))
    stable = segmenter(made, stability=0.97).segment(photographs)
    assert sum(map(len, stable)) < sum(map(len, loose))
    apart = segmenter(made, box_nms=0.5).segment(photographs)
    assert sum(map(len, apart)) < sum(map(len, loose))
    for regions in apart:
        for first in regions:
            others = (other for other in regions if other is not first)
            # Boxes are compared in cells of the decoder's grid, a thirty-second of a side here.
            assert all(first.box.iou(other.box) < 0.6 for other in others)


def test_the_limit_keeps_the_best(made: Path, photographs: list[Image]):
    every = segmenter(made, limit=100).segment(photographs)
    few = segmenter(made, limit=2).segment(photographs)
    assert any(len(regions) > 2 for regions in every)
    assert few == [regions[:2] for regions in every]


def test_no_images_have_no_regions(made: Path):
    assert segmenter(made).segment([]) == []


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3000, 1), (1, 3000), (2, 1500), (5, 5)])
def test_tiny_and_flat_pictures_are_segmented_without_complaint(
    made: Path, width: int, height: int
):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image(pixels)
    (regions,) = segmenter(made).segment([image])
    check(regions, image)


@pytest.mark.parametrize("shape", [(150, 480), (333, 77)])
def test_parity_of_one_point_with_transformers_on_a_photograph_that_is_no_square(
    made: Path, photographs: list[Image], shape: tuple[int, int]
):
    """The whole path by other means: squash, ask about the middle, draw at the photograph's
    size."""
    height, width = shape
    pixels = np.ascontiguousarray(photographs[0].pixels[50:, 60:][:height, :width])
    square = PIL.Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), PIL.Image.BILINEAR)
    normal = (np.asarray(square) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    config = Sam2Config.from_pretrained(made)
    model = Sam2Model.from_pretrained(made, config=config, local_files_only=True).eval()
    with torch.inference_mode():
        answer = model(
            pixel_values=torch.from_numpy(normal).permute(2, 0, 1)[None].float(),
            input_points=torch.tensor([[[[IMAGE_SIZE / 2, IMAGE_SIZE / 2]]]]),
        )
    expected = {
        round(float(score), 4): functional.interpolate(
            logits[None, None], (height, width), mode="bilinear", align_corners=False
        )[0, 0]
        .gt(0)
        .numpy()
        for score, logits in zip(answer.iou_scores[0, 0], answer.pred_masks[0, 0], strict=True)
    }
    one_point = segmenter(
        made,
        points_per_side=1,
        predicted_iou=0,
        stability_offset=0,
        box_nms=1,
        min_region_share=0,
    )
    (regions,) = one_point.segment([Image(pixels)])
    assert len(regions) == sum(mask.any() for mask in expected.values()) == 3
    for region in regions:
        (score,) = [score for score in expected if abs(score - region.score) < 2e-4]
        assert (decode_mask(region.mask) != expected[score]).mean() < 1e-3


class DrawnByHand:
    """A decoder's place taken by masks: one point, the same logits for every image."""

    placement = CPU
    points = 1

    def __init__(self, masks: list[np.ndarray], scores: list[float]) -> None:
        self._logits = torch.from_numpy(np.stack(masks).astype(np.float32) * 20 - 10)
        self._scores = torch.tensor(scores)

    def embed(self, pixels: torch.Tensor) -> list[None]:
        return [None] * len(pixels)

    def decode(self, maps: None, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._logits[None], self._scores[None]


def segment_drawn(
    masks: list[np.ndarray], scores: list[float], image: Image, **parameters: float
) -> list[Region]:
    drawn = Sam2Segmenter(
        DrawnByHand(masks, scores), Preprocessing(IMAGE_SIZE), Sam2Parameters(**parameters)
    )
    (regions,) = drawn.segment([image])
    check(regions, image)
    return regions


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((32, 32), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(("width", "height"), [(640, 160), (160, 640), (320, 320)])
def test_a_mask_in_the_models_square_lands_at_its_place_in_the_photograph(width: int, height: int):
    # The right quarter of the width, and from an eighth to a half of the height.
    mask = rectangle(4, 24, 16, 32)
    image = Image(np.zeros((height, width, 3), np.uint8))
    (region,) = segment_drawn([mask], [0.9], image)
    assert region.box == Box(width * 3 // 4, height // 8, width // 4, height * 3 // 8)
    assert region.area == pytest.approx(region.box.area, rel=0.02)  # corners are rounded
    assert region.score == pytest.approx(0.9)


def test_masks_that_differ_by_a_speck_alone_are_one_region():
    plain = rectangle(8, 8, 20, 20)
    speckled = plain | rectangle(30, 30, 31, 31)
    image = Image(np.zeros((64, 96, 3), np.uint8))
    (region,) = segment_drawn([plain, speckled], [0.85, 0.95], image, min_region_share=0.004)
    assert region.score == pytest.approx(0.95)
    assert region.box == Box(24, 16, 36, 24)


def test_specks_and_regions_below_the_smallest_share_are_no_regions():
    image = Image(np.zeros((64, 64, 3), np.uint8))
    small = rectangle(3, 3, 6, 6)  # 9 of 1024 cells
    dust = np.zeros((32, 32), dtype=bool)
    dust[::4, ::4] = True  # 64 cells, none beside another
    assert segment_drawn([small, dust], [0.9, 0.9], image, min_region_share=0.01) == []
    assert len(segment_drawn([small, dust], [0.9, 0.9], image, min_region_share=0.008)) == 1
