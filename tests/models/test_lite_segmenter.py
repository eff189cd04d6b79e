"""The `lite` segmenter through its public face: what it promises of any image, and how good it
is."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.core.errors import UsageError
from regard.core.geometry import Box, Mask
from regard.core.records import Image, Region
from regard.models.lite.parameters import OBJECTNESS, SegmenterParameters
from regard.models.lite.parts import SuperpixelsPart
from regard.models.lite.ranking import CUES
from regard.models.lite.segmenter import SuperpixelSegmenter
from regard.models.lite.superpixels import partition, to_lab
from regard.models.parts import PartDefinition
from regard.photos.masks import decode_mask, encode_mask, mask_from_runs, mask_iou

GREY = 128


def flat(height: int, width: int, value: int = GREY) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def noise(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_discs(height: int, width: int) -> tuple[Image, list[Mask]]:
    """Two discs, one of them in two colours, on a faint gradient."""
    pixels = flat(height, width)
    pixels += np.linspace(0, 40, width).astype(np.uint8)[None, :, None]
    y, x = np.mgrid[:height, :width]
    masks = []
    for place, colours in (
        (0.25, ((200, 30, 30), (200, 30, 30))),
        (0.7, ((20, 40, 160), (240, 240, 60))),
    ):
        inside = np.hypot(x - place * width, y - height / 2) < height / 4
        pixels[inside & (y < height / 2)] = colours[0]
        pixels[inside & (y >= height / 2)] = colours[1]
        masks.append(encode_mask(inside))
    return Image(pixels), masks


def check(image: Image, regions: list[Region], most: int) -> None:
    assert len(regions) <= most
    for region in regions:
        pixels = decode_mask(region.mask)
        assert pixels.shape == (image.height, image.width)
        assert region.area == pixels.sum() > 0
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        assert region.box == Box(
            int(columns[0]),
            int(rows[0]),
            int(columns[-1] - columns[0] + 1),
            int(rows[-1] - rows[0] + 1),
        )
    scores = [region.score for region in regions]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)
    assert len({region.mask for region in regions}) == len(regions)


@pytest.mark.parametrize(
    "pixels",
    [
        noise(1, 1),
        noise(1, 2),
        noise(1, 500),
        noise(700, 1),
        noise(2, 2),
        noise(3, 2000),
        noise(40, 40),
        noise(40, 40)[..., :1].repeat(3, axis=2),
        flat(1, 1),
        flat(50, 80),
        flat(50, 80, 0),
        flat(500, 500, 255),
    ],
    ids=lambda pixels: "x".join(map(str, pixels.shape)),
)
def test_any_image_is_fine(pixels: npt.NDArray[np.uint8]) -> None:
    image = Image(pixels)
    [regions] = SuperpixelSegmenter().segment([image])
    check(image, regions, 12)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    levels=st.integers(1, 4),
    side=st.integers(1, 64),
    most=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_invariants_hold_for_patchy_images_at_any_reduction(
    height: int, width: int, levels: int, side: int, most: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (levels, 3), dtype=np.uint8)
    blocks = rng.integers(0, levels, (height // 7 + 1, width // 7 + 1))
    pixels = palette[blocks.repeat(7, axis=0).repeat(7, axis=1)[:height, :width]]
    image = Image(np.ascontiguousarray(pixels))
    segmenter = SuperpixelSegmenter(
        SegmenterParameters(side=side, smallest=0.0, largest=1.0, max_regions=most)
    )
    [regions] = segmenter.segment([image])
    check(image, regions, most)


def test_an_image_of_one_colour_has_no_regions() -> None:
    assert SuperpixelSegmenter().segment([Image(flat(60, 90))]) == [[]]


def test_things_on_a_plain_background_come_first_with_tight_masks() -> None:
    image, discs = with_discs(480, 640)
    [regions] = SuperpixelSegmenter().segment([image])
    overlap = mask_iou([region.mask for region in regions[:5]], discs)
    assert (overlap.max(axis=0) > 0.9).all()


def test_a_batch_gives_the_same_as_one_by_one() -> None:
    images = [
        with_discs(120, 160)[0],
        Image(flat(9, 9)),
        Image(noise(64, 48)),
        with_discs(90, 300)[0],
    ]
    alone = [SuperpixelSegmenter().segment([image])[0] for image in images]
    assert SuperpixelSegmenter().segment(images) == alone
    assert SuperpixelSegmenter().segment([]) == []


def test_the_callers_pixels_stay_as_they_are() -> None:
    image, _ = with_discs(100, 100)
    image.pixels.setflags(write=False)
    SuperpixelSegmenter().segment([image])


def test_fewer_regions_are_the_first_of_more() -> None:
    image, _ = with_discs(240, 320)
    [many] = SuperpixelSegmenter().segment([image])
    [few] = SuperpixelSegmenter(SegmenterParameters(max_regions=3)).segment([image])
    assert few == many[:3]


def test_identity_tells_all_that_changes_the_regions() -> None:
    part = SuperpixelsPart(PartDefinition("superpixels", "a profile"))
    fewer = PartDefinition("superpixels", "a profile", parameters={"max_regions": 3})
    known = json.loads(json.dumps(part.identity()))
    assert {"side", "sigma", "superpixels", "objectness", "max_regions"} < known.keys()
    assert SuperpixelsPart(fewer).identity() == {**part.identity(), "max_regions": 3}
    with pytest.raises(UsageError, match="max_regions"):
        SuperpixelsPart(replace(fewer, parameters={"max_regions": 0}))


def test_every_cue_has_its_term() -> None:
    assert tuple(term.cue for term in OBJECTNESS.terms) == CUES


def test_lab_of_known_colours() -> None:
    # Lindbloom's sRGB (D65) figures for black, white, pure red, green and blue.
    pixels = np.array([[[0] * 3, [255] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    expected = [
        [0, 0, 0],
        [100, 0, 0],
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
    ]
    np.testing.assert_allclose(to_lab(pixels)[0], expected, atol=0.05)


def test_superpixels_cover_the_image_and_their_sums_agree() -> None:
    image, _ = with_discs(90, 120)
    pieces = partition(image.pixels, superpixels=40, sigma=1.0)
    assert pieces.count <= 40
    assert set(np.unique(pieces.labels)) == set(range(pieces.count))
    assert pieces.area.sum() == 90 * 120
    np.testing.assert_allclose(pieces.histogram.sum(axis=1), pieces.area)
    assert (pieces.first < pieces.second).all()
    assert pieces.frame.sum() == 2 * (90 + 120)


# `tests/api/test_lite_main_path.py` measures regions in quick tests.
@pytest.mark.campaign
def test_things_in_photographs_are_covered(photos_dir: Path) -> None:
    instances = json.loads((photos_dir / "instances.json").read_text())
    things = defaultdict(list)
    for entry in instances["annotations"]:
        things[entry["image_id"]].append(entry)
    scenes = [entry for entry in instances["images"] if entry["file_name"].startswith("scenes/")]
    segmenter = SuperpixelSegmenter()
    covered, best = [], []
    for entry in scenes[::8]:
        with PIL.Image.open(photos_dir / entry["file_name"]) as opened:
            image = Image(np.asarray(opened.convert("RGB")))
        [regions] = segmenter.segment([image])
        check(image, regions, 12)
        masks = [region.mask for region in regions]
        for thing in things[entry["id"]]:
            box = Box(*thing["bbox"])
            covered.append(max(region.box.iou(box) for region in regions) >= 0.5)
            segmentation = thing["segmentation"]
            truth = mask_from_runs(*segmentation["size"], segmentation["counts"])
            best.append(float(mask_iou(masks, [truth]).max()))
    assert np.mean(covered) >= 0.85
    assert np.mean(best) >= 0.75
