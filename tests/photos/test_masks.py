"""Masks that are compressed at a smaller size, or read in part, are those of all pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regard.photos.masks import decode_samples, encode_enlarged_mask, encode_mask


@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    more=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    share=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_enlarged_mask_takes_the_pixel_that_covers_each_centre(
    rows: int, columns: int, more: tuple[int, int], share: float, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((rows, columns)) < share
    height, width = rows + more[0], columns + more[1]
    row = ((np.arange(height) + 0.5) * rows / height).astype(int)
    column = ((np.arange(width) + 0.5) * columns / width).astype(int)
    expected = encode_mask(pixels[row][:, column])
    assert encode_enlarged_mask(pixels, height, width) == expected


_PARTS = st.builds(slice, st.integers(0, 70), st.integers(0, 70), st.integers(1, 9))


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    rows=_PARTS,
    columns=_PARTS,
    share=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_samples_of_a_mask_are_those_of_its_pixels(
    height: int, width: int, rows: slice, columns: slice, share: float, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < share
    samples = decode_samples(encode_mask(pixels), rows, columns)
    np.testing.assert_array_equal(samples, pixels[rows, columns])
