"""Signatures of edited pictures match; other things on the same background do not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import cropped, decoded, encoded, scene, with_thing
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from regard.core import records
from regard.core.records import SIGNATURE_SIDE, signature_shape
from regard.photos.photo_file import sign
from regard.search.duplicates.alignment import Picture, likeness
from regard.search.duplicates.copies import similarity_of_copies
from regard.search.duplicates.screening import screen

EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg 30": lambda p: decoded(encoded(p, quality=30)),
    "webp": lambda p: decoded(encoded(p, "WEBP", quality=60)),
    "half": lambda p: p.resize((p.width // 2, p.height // 2)),
    "a third larger": lambda p: p.resize((p.width * 4 // 3, p.height * 4 // 3)),
    "cut around": lambda p: cropped(p, 0.1, 0.1, 0.1, 0.1),
    "cut on the left": lambda p: cropped(p, 0.1, 0, 0, 0),
    "cut, and half": lambda p: cropped(p, 0, 0.1, 0.1, 0).resize((140, 100)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.8),
    "more contrast": lambda p: ImageEnhance.Contrast(p).enhance(1.2),
    "gamma": lambda p: p.point([round(255 * (v / 255) ** 0.8) for v in range(256)] * 3),
    "grey": lambda p: ImageOps.grayscale(p).convert("RGB"),
}


def picture(of: Image.Image) -> Picture:
    return Picture(sign(records.Image(np.asarray(of))))


def is_copy(first: Image.Image, second: Image.Image) -> bool:
    one, other = picture(first), picture(second)
    found = similarity_of_copies(one, other)
    assert (found is None) == (similarity_of_copies(other, one) is None)
    assert found is None or 0.9 < found <= 1.0 + 1e-6
    return found is not None


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_copy_is_one_picture(name: str) -> None:
    for seed in range(5):
        whole = scene(seed)
        assert is_copy(whole, EDITS[name](whole)), seed


def test_screening_keeps_copies_of_all_shapes_and_drops_most_other_pairs() -> None:
    sizes = [(320, 240), (240, 320), (320, 200), (1600, 90)]
    wholes = [scene(seed, sizes[seed % 4]) for seed in range(12)]
    edited = [edit(whole) for whole, edit in zip(wholes, EDITS.values(), strict=True)]
    signatures = {
        number: sign(records.Image(np.asarray(one))) for number, one in enumerate(wholes + edited)
    }
    pairs = list(itertools.permutations(signatures, 2))
    kept = [(fit.first, fit.second) for fit in screen(signatures, [*pairs, (0, 99)])]
    assert {pair for pair in pairs if abs(pair[0] - pair[1]) == 12} <= set(kept)
    assert kept == [pair for pair in pairs if pair in set(kept)]
    # The middle of a panorama is too low to be compared, so that all its pairs are kept.
    others = [pair for pair in kept if all(number % 4 != 3 for number in pair)]
    assert len(others) < 60
    fit = screen({0: signatures[0], 1: signatures[0]}, [(0, 1)])[0]
    assert (fit.scale, fit.size, fit.place) == (1.0, (14, 20), (5, 6))


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cut=st.tuples(*[st.floats(0, 0.1)] * 4),
    size=st.floats(0.5, 1.3),
    quality=st.integers(40, 95),
)
def test_however_it_is_cut_and_resized(
    seed: int, cut: tuple[float, float, float, float], size: float, quality: int
) -> None:
    whole = scene(seed)
    part = cropped(whole, *cut)
    part = part.resize((round(part.width * size), round(part.height * size)))
    assert is_copy(whole, decoded(encoded(part, quality=quality)))


@pytest.mark.parametrize("name", ["jpeg 30", "cut around", "brighter", "half"])
def test_another_thing_before_the_same_background_is_another_picture(name: str) -> None:
    for seed in range(5):
        whole = scene(seed)
        assert not is_copy(whole, EDITS[name](with_thing(whole, seed)))


def test_other_pictures_are_no_copies() -> None:
    pictures = [picture(scene(seed)) for seed in range(9)]
    for place, one in enumerate(pictures):
        for other in pictures[:place]:
            assert similarity_of_copies(one, other) is None


def test_pages_of_small_print_are_told_apart() -> None:
    pages = [text_page(seed) for seed in range(6)]
    for place, one in enumerate(pages):
        assert is_copy(one, decoded(encoded(one, quality=40)))
        for other in pages[:place]:
            assert not is_copy(one, other)


def text_page(seed: int) -> Image.Image:
    """Lines of words down a white page, each page in the same layout with words of its own."""
    rng = random.Random(seed)
    font = ImageFont.load_default(14)
    page = Image.new("RGB", (700, 990), "white")
    draw = ImageDraw.Draw(page)
    for top in range(60, 930, 20):
        words = ("".join(rng.choices("aeinorst", k=rng.randint(2, 9))) for _ in range(25))
        draw.text((60, top), " ".join(words)[:85], fill="black", font=font)
    return page


def test_turned_and_mirrored_pictures_are_not_found() -> None:
    # As docs/duplicates.md says.
    whole = scene(3)
    assert not is_copy(whole, ImageOps.mirror(whole))
    assert not is_copy(whole, whole.transpose(Image.Transpose.ROTATE_90))


def test_pictures_that_show_nothing_are_not_taken_for_copies() -> None:
    for level in (0, 128, 255):
        empty = Image.new("RGB", (320, 240), (level, level, level))
        assert not is_copy(empty, scene(1))
        assert not is_copy(empty, Image.new("RGB", (320, 240), (level, level, 254)))


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_signature_keeps_the_shape(width: int, height: int) -> None:
    rows, columns = signature_shape(width, height)
    assert max(rows, columns) == SIGNATURE_SIDE
    assert min(rows, columns) >= 16
    if min(width, height) * 6 >= max(width, height):
        assert (
            abs(rows / columns - height / width)
            <= 0.5 / min(rows, columns) * max(1, height / width) + 1e-9
        )


def test_a_signature_does_not_depend_on_the_size_of_its_picture() -> None:
    small = scene(5, (600, 450))
    whole = small.resize((3600, 2700), Image.Resampling.BICUBIC)
    first, second = sign(records.Image(np.asarray(whole))), sign(records.Image(np.asarray(small)))
    assert first.grey.shape == second.grey.shape == (72, 96)
    apart = np.abs(first.grey.astype(int) - second.grey)
    # Hard edges are where ways of shrinking differ.
    assert apart.mean() < 0.5
    assert apart.max() <= 8


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (5000, 7)])
def test_the_smallest_and_longest_pictures_have_signatures(size: tuple[int, int]) -> None:
    one = Image.new("RGB", size, (10, 200, 30))
    assert picture(one).grey.shape == signature_shape(*size)
    assert not is_copy(one, scene(1))


def test_what_moves_a_little_is_alike() -> None:
    whole = scene(7, (400, 300))
    moved = whole.crop((6, 4, 386, 290)), whole.crop((14, 10, 394, 296))
    alike = likeness(picture(moved[0]), picture(moved[1]))
    assert alike is not None
    assert alike > 0.8
    assert likeness(picture(moved[0]), picture(scene(8, (380, 286)))) is None
