"""What an encoder is shown of a region, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from regard.core.geometry import Box, Mask
from regard.core.records import Image
from regard.models.contrastive.preprocessing import RegionView, RegionViews
from regard.photos.masks import encode_mask, mask_from_box

GREY = np.array([124, 116, 104], np.uint8)


@pytest.fixture
def numbered() -> Image:
    """10 × 6 pixels; red is the row, green the column."""
    pixels = np.zeros((6, 10, 3), np.uint8)
    pixels[..., 0] = np.arange(6)[:, None]
    pixels[..., 1] = np.arange(10)
    return Image(pixels)


def seen(
    image: Image, view: RegionView, box: Box, mask: Mask | None = None, context: float = 0.0
) -> np.ndarray:
    return RegionViews(view, context, GREY).pixels(image, box, mask)


def rows_and_columns(pixels: np.ndarray) -> tuple[list[int], list[int]]:
    return sorted(set(pixels[..., 0].flat)), sorted(set(pixels[..., 1].flat))


def test_a_crop_is_the_box(numbered: Image) -> None:
    assert rows_and_columns(seen(numbered, "crop", Box(2, 1, 3, 2))) == ([1, 2], [2, 3, 4])


def test_context_widens_the_box_by_a_share_of_its_size_on_each_side(numbered: Image) -> None:
    found = seen(numbered, "context", Box(4, 2, 4, 2), context=0.5)
    assert rows_and_columns(found) == ([1, 2, 3, 4], [2, 3, 4, 5, 6, 7, 8, 9])


def test_context_is_clipped_to_the_image(numbered: Image) -> None:
    found = seen(numbered, "context", Box(8, 0, 2, 2), context=1.0)
    assert rows_and_columns(found) == ([0, 1, 2, 3], [6, 7, 8, 9])


def test_masked_paints_over_what_is_not_the_region(numbered: Image) -> None:
    shape = np.zeros((6, 10), np.bool_)
    shape[1, 2] = shape[2, 4] = shape[5, 9] = True  # the last lies outside the box
    found = seen(numbered, "masked", Box(2, 1, 3, 2), encode_mask(shape))
    expected = np.broadcast_to(GREY, (2, 3, 3)).copy()
    expected[0, 0] = (1, 2, 0)
    expected[1, 2] = (2, 4, 0)
    assert np.array_equal(found, expected)
    assert numbered.pixels[1, 3].tolist() == [1, 3, 0]  # the image itself is left alone


def test_without_a_mask_the_whole_box_is_the_region(numbered: Image) -> None:
    for mask in (None, encode_mask(np.zeros((6, 10), np.bool_))):
        found = seen(numbered, "masked", Box(2, 1, 3, 2), mask)
        assert rows_and_columns(found) == ([1, 2], [2, 3, 4])


@pytest.mark.parametrize("view", ["crop", "context", "masked"])
def test_a_box_of_one_pixel_is_one_pixel(numbered: Image, view: RegionView) -> None:
    box = Box(9, 5, 1, 1)
    found = seen(numbered, view, box, mask_from_box(6, 10, box), context=0.25)
    assert found.tolist() == [[[5, 9, 0]]]


@pytest.mark.parametrize("view", ["crop", "context", "masked"])
@pytest.mark.parametrize("box", [Box(20, 20, 3, 3), Box(4, 4, 0, 0), Box(-9, 0, 3, 3)])
def test_a_box_without_a_pixel_of_the_image_is_the_image(
    numbered: Image, view: RegionView, box: Box
) -> None:
    assert seen(numbered, view, box).shape == numbered.pixels.shape


def test_a_box_that_sticks_out_is_clipped(numbered: Image) -> None:
    assert rows_and_columns(seen(numbered, "crop", Box(-2, 4, 4, 9))) == ([4, 5], [0, 1])
