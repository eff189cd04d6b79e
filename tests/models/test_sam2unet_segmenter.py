"""The SAM2-UNet segmenter: regions of photographs, and of maps whose regions are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from made_checkpoints.sam2unet import make_sam2unet
from torch import nn

from regard.core.errors import ModelError
from regard.core.geometry import Box
from regard.core.records import Image, Region
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import ModelSource
from regard.models.parts import PartDefinition
from regard.models.sam2unet.network import SaliencyLogits
from regard.models.sam2unet.parameters import Sam2UNetParameters
from regard.models.sam2unet.part import Sam2UNetPart
from regard.models.sam2unet.segmenter import Sam2UNetSegmenter
from regard.photos.masks import decode_mask, mask_box, mask_iou

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)
SIDE = 352
BACKGROUND, FOREGROUND = 0.01, 0.99


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sam2unet(tmp_path_factory.mktemp("sam2unet") / "SAM2UNet.pth")


@pytest.fixture(scope="module")
def photos(sample_images: list[Image]) -> list[Image]:
    return sample_images[:3]


def load(checkpoint: Path, *, dtype: str = "auto", **parameters: object) -> Sam2UNetSegmenter:
    return Sam2UNetPart(
        PartDefinition(
            "sam2unet",
            "a profile",
            ModelSource(path=checkpoint),
            device="cpu",
            dtype=dtype,
            parameters=parameters,
        )
    ).load()


def check(image: Image, regions: list[Region], parameters: Sam2UNetParameters) -> None:
    assert len(regions) <= parameters.limit
    covered = np.zeros((image.height, image.width), np.int64)
    for region in regions:
        pixels = decode_mask(region.mask)
        assert pixels.shape == (image.height, image.width)
        assert region.area == pixels.sum() >= parameters.smallest * pixels.size
        assert region.box == mask_box(region.mask)
        assert region.box == region.box.clipped(image.width, image.height)
        covered += pixels
    assert covered.max(initial=0) <= 1
    scores = [region.score for region in regions]
    assert all(0 < score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


# With weights, though random ones.


def test_photographs_have_regions_that_keep_every_promise(
    checkpoint: Path, photos: list[Image]
) -> None:
    parameters = Sam2UNetParameters(certainty=0, smallest=0.0005)
    segmenter = load(checkpoint, certainty=0, smallest=0.0005)
    found = segmenter.segment(photos)
    assert len(found) == len(photos)
    for image, regions in zip(photos, found, strict=True):
        check(image, regions, parameters)
        assert regions


def test_maps_reach_from_nought_to_one_at_the_size_of_each_image(
    checkpoint: Path, photos: list[Image]
) -> None:
    for image, found in zip(photos, load(checkpoint).saliency(photos), strict=True):
        assert found.dtype == np.float32
        assert found.shape == (image.height, image.width)
        assert found.min() == 0
        assert found.max() == pytest.approx(1, abs=1e-4)


def test_a_batch_gives_what_its_images_give_one_by_one(
    checkpoint: Path, photos: list[Image]
) -> None:
    segmenter = load(checkpoint, certainty=0, batch_size=2)
    for image, together in zip(photos, segmenter.saliency(photos), strict=True):
        [alone] = segmenter.saliency([image])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)
    for image, several in zip(photos, segmenter.segment(photos), strict=True):
        [single] = segmenter.segment([image])
        assert len(several) == len(single)
        for one, other in zip(single, several, strict=True):
            assert mask_iou([one.mask], [other.mask]) > 0.99
            assert other.score == pytest.approx(one.score, abs=1e-3)


def test_bfloat16_gives_nearly_the_maps_of_float32(tmp_path: Path, photos: list[Image]) -> None:
    file = make_sam2unet(tmp_path / "SAM2UNet.pth", width=4, depths=(1, 1, 1, 1))
    [full] = load(file).saliency(photos[:1])
    [half] = load(file, dtype="bfloat16").saliency(photos[:1])
    assert half.dtype == np.float32
    assert np.abs(half - full).mean() < 0.02


def test_no_images_have_no_regions(checkpoint: Path) -> None:
    segmenter = load(checkpoint)
    assert segmenter.segment([]) == []
    assert segmenter.saliency([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 2), (3, 3)])
def test_any_size_of_image_is_fine(checkpoint: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels.setflags(write=False)
    segmenter = load(checkpoint, certainty=0)
    [regions] = segmenter.segment([Image(pixels)])
    check(Image(pixels), regions, Sam2UNetParameters(certainty=0))
    assert segmenter.saliency([Image(pixels)])[0].shape == size


# With maps that are known.


class Answering(nn.Module):
    """A network that answers every picture with one map of logits (352, 352)."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pixels: torch.Tensor) -> SaliencyLogits:
        answer = self.logits.expand(len(pixels), 1, SIDE, SIDE)  # (B, 1, 352, 352)
        return SaliencyLogits(answer, answer, answer)


def segment(probabilities: npt.NDArray[np.float64], **parameters: float) -> list[Region]:
    """Regions of a picture of 352 × 352 that the network answers with these probabilities."""
    segmenter = answering(probabilities, **parameters)
    [regions] = segmenter.segment([Image(np.zeros((SIDE, SIDE, 3), np.uint8))])
    return regions


def answering(probabilities: npt.NDArray[np.float64], **parameters: float) -> Sam2UNetSegmenter:
    logits = torch.logit(torch.from_numpy(probabilities)).float()
    return Sam2UNetSegmenter(
        Answering(logits),
        CPU,
        Sam2UNetParameters.model_validate(parameters),
    )


def plain(value: float = BACKGROUND) -> npt.NDArray[np.float64]:
    return np.full((SIDE, SIDE), value)


def test_things_apart_are_regions_apart_and_the_larger_of_equally_sure_ones_is_first() -> None:
    canvas = plain()
    canvas[10:60, 20:40] = FOREGROUND
    canvas[100:200, 150:300] = FOREGROUND
    first, second = segment(canvas)
    assert (first.box, first.area) == (Box(150, 100, 150, 100), 15_000)
    assert (second.box, second.area) == (Box(20, 10, 20, 50), 1_000)
    share = 15_000 / SIDE**2
    assert first.score == pytest.approx(FOREGROUND * share**0.5)


def test_the_surer_of_equally_large_things_is_first() -> None:
    canvas = plain()
    canvas[10:60, 10:60] = 0.7
    canvas[100:150, 10:60] = FOREGROUND
    assert [region.box.y for region in segment(canvas)] == [100, 10]


def test_a_picture_without_a_salient_thing_has_no_region_though_its_map_reaches_one() -> None:
    canvas = plain()
    canvas[50:150, 50:150] = 0.4
    assert segment(canvas) == []
    [saliency] = answering(canvas).saliency([Image(np.zeros((SIDE, SIDE, 3), np.uint8))])
    assert saliency.max() == pytest.approx(1, abs=1e-6)


def test_a_faint_outline_belongs_to_a_thing_with_a_sure_core() -> None:
    canvas = plain()
    canvas[50:150, 50:150] = 0.4
    canvas[90:110, 90:110] = 0.6
    [region] = segment(canvas)
    assert region.box == Box(50, 50, 100, 100)


def test_a_faint_thing_beside_a_sure_one_is_no_region() -> None:
    canvas = plain()
    canvas[50:150, 50:150] = 0.6
    canvas[200:300, 50:150] = 0.4
    [region] = segment(canvas)
    assert region.box == Box(50, 50, 100, 100)


def test_a_picture_that_is_foreground_all_over_is_one_region() -> None:
    canvas = plain(0.97)
    canvas[:100] = FOREGROUND
    [region] = segment(canvas)
    assert region.area == SIDE**2


def test_a_picture_of_one_value_is_all_or_nothing() -> None:
    assert segment(plain(0.3), certainty=0) == []
    assert [region.area for region in segment(plain(0.9))] == [SIDE**2]


def test_holes_stay_holes() -> None:
    canvas = plain()
    canvas[50:150, 50:150] = FOREGROUND
    canvas[80:120, 80:120] = BACKGROUND
    [region] = segment(canvas)
    assert region.area == 100**2 - 40**2
    assert not decode_mask(region.mask)[80:120, 80:120].any()


def test_small_regions_are_dropped_and_their_measure_is_a_parameter() -> None:
    canvas = plain()
    canvas[10:20, 10:20] = FOREGROUND
    assert segment(canvas) == []
    assert len(segment(canvas, smallest=0.0008)) == 1
    assert segment(canvas, smallest=0.0009) == []


def test_few_regions_are_the_first_of_many() -> None:
    canvas = plain()
    for number in range(15):
        canvas[20 * number + 5 : 20 * number + 20, 10 : 60 + 10 * number] = FOREGROUND
    many = segment(canvas)
    assert len(many) == 12
    assert segment(canvas, limit=3) == many[:3]
    assert len(segment(canvas, limit=100)) == 15


def test_the_threshold_cuts_the_stretched_map() -> None:
    canvas = plain()
    canvas[50:150, 50:150] = 0.75
    canvas[90:110, 90:110] = FOREGROUND
    assert [region.area for region in segment(canvas, threshold=0.9)] == [400]
    assert [region.area for region in segment(canvas, threshold=0.6)] == [10_000]


def test_masks_have_the_size_of_the_image() -> None:
    canvas = plain()
    canvas[88:176, 176:264] = FOREGROUND
    [[region]] = answering(canvas).segment([Image(np.zeros((400, 1000, 3), np.uint8))])
    assert (region.mask.height, region.mask.width) == (400, 1000)
    assert region.box.iou(Box(500, 100, 250, 100)) > 0.97


def test_answers_that_are_no_numbers_are_an_error() -> None:
    canvas = plain()
    canvas[3, 3] = np.nan
    with pytest.raises(ModelError, match="not numbers"):
        segment(canvas)
