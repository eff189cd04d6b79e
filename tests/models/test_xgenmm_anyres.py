"""Any-resolution: resolutions, tiles, masks and groups, by hand and against published figures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from parity_formulas import formula_image
from safetensors.numpy import load_file

from regard.models.xgenmm.anyres import (
    choose_resolution,
    cut_tiles,
    grid_of,
    key_mask,
    merged_order,
    normalised,
    paste_offset,
    resized_size,
    squash,
    visible_map,
)

pytestmark = pytest.mark.slow

PINPOINTS = [(384, 768), (768, 384), (768, 768), (1152, 384), (384, 1152)]
HALVES = (0.5, 0.5, 0.5)


def test_groups_of_two_by_two_tiles_are_strips_of_the_merged_map() -> None:
    # Four tiles of 2 × 2 tokens, numbered tile after tile, beside and above each other:
    #      0  1 |  4  5
    #      2  3 |  6  7
    #     ------+------
    #      8  9 | 12 13
    #     10 11 | 14 15
    order = merged_order((2, 2), 2)
    assert order.reshape(4, 4).tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_groups_of_a_column_of_tiles_are_the_tiles() -> None:
    assert merged_order((1, 3), 2).tolist() == list(range(12))


def test_groups_of_a_row_of_tiles_run_across_them() -> None:
    assert merged_order((3, 1), 2).reshape(3, 4).tolist() == [
        [0, 1, 4, 5],
        [8, 9, 2, 3],
        [6, 7, 10, 11],
    ]


def test_mask_of_two_by_two_tiles_is_cut_like_the_features() -> None:
    # 40 × 20 on a map of 4 × 4 tokens: it fills 4 × 2 tokens, one row is masked above and below.
    assert key_mask((40, 20), (2, 2), 2).astype(int).tolist() == [
        [1, 1, 1, 1],  # the whole view
        [0, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [0, 0, 0, 0],
    ]
    # 20 × 40: one column is masked left and right of each row.
    assert key_mask((20, 40), (2, 2), 2).astype(int).tolist() == [
        [1, 1, 1, 1],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
    ]


@pytest.mark.parametrize(
    ("size", "resolution"),
    [
        ((640, 480), (768, 768)),
        ((300, 200), (384, 768)),
        ((1920, 600), (1152, 384)),
        ((200, 900), (384, 1152)),
        ((384, 384), (384, 768)),
    ],
)
def test_resolution_shows_most_and_wastes_least(
    size: tuple[int, int], resolution: tuple[int, int]
) -> None:
    assert choose_resolution(size, PINPOINTS) == resolution


def test_an_image_too_flat_for_any_resolution_still_gets_one() -> None:
    resolution = choose_resolution((5000, 1), PINPOINTS)
    assert resolution == (384, 768)
    tiles = cut_tiles(np.full((1, 5000, 3), 255, dtype=np.uint8), resolution, 384)
    assert tiles.shape == (2, 384, 384, 3)
    assert tiles.any()


def test_tiles_lie_row_by_row_and_the_canvas_is_black() -> None:
    image = np.full((20, 40, 3), 200, dtype=np.uint8)
    tiles = cut_tiles(image, (20, 20), 10)
    canvas = np.block([[[tiles[0]], [tiles[1]]], [[tiles[2]], [tiles[3]]]])
    assert tiles.shape == (4, 10, 10, 3)
    assert not canvas[:5].any()
    assert not canvas[15:].any()
    assert (canvas[5:15] == 200).all()


def test_parity_sizes_tiles_and_masks(parity_dir: Path) -> None:
    figures = vectors(parity_dir)
    side, tokens = figures["base_size"], figures["tokens_per_side"]
    pinpoints = [tuple(pair) for pair in figures["pinpoints"]]
    assert side // figures["patch_size"] == tokens
    for expected in figures["vectors"]:
        size = tuple(expected["size"])
        resolution = choose_resolution(size, pinpoints)
        assert resolution == tuple(expected["resolution"]), size
        grid = grid_of(resolution, side)
        assert grid == tuple(expected["grid"])
        resized = resized_size(size, resolution)
        assert resized == tuple(expected["resized"]), size
        assert paste_offset(resized, resolution) == tuple(expected["offset"])
        groups = 1 + grid[0] * grid[1]
        assert groups == expected["groups"] == expected["tiles"] + 1
        assert groups * figures["latents"] == expected["visual_tokens"]
        check_mask(size, grid, tokens, expected["mask"])


def check_mask(
    size: tuple[int, int], grid: tuple[int, int], tokens: int, expected: dict[str, Any]
) -> None:
    visible = visible_map(size, grid, tokens)
    assert visible.shape == (expected["map_rows"], expected["map_columns"])
    masked = ~visible
    assert int(masked.sum()) == expected["masked_total"], size
    groups = (~key_mask(size, grid, tokens)).sum(axis=1).tolist()
    assert groups == [0, *expected["masked_per_tile_group"]]
    digest = hashlib.sha256(visible.astype(np.uint8).tobytes()).hexdigest()
    assert digest.startswith(expected["sha256_uint8_row_major"])
    margin = expected["margin"]
    along = masked if expected["axis"] == "rows" else masked.T
    assert along[:margin].all()
    assert int(masked.sum()) == 2 * margin * along.shape[1]


def test_parity_pixels_of_the_tiles(parity_dir: Path) -> None:
    figures = json.loads((parity_dir / "anyres" / "pixels.json").read_text())
    samples = load_file(parity_dir / "anyres" / "pixels.safetensors")
    side, step = figures["base_size"], figures["sample_step"]
    pinpoints = [tuple(pair) for pair in vectors(parity_dir)["pinpoints"]]
    for expected in figures["images"]:
        width, height = expected["size"]
        image = formula_image(width, height, expected["salt"])
        assert hashlib.sha256(image.tobytes()).hexdigest() == expected["image_sha256"]
        resolution = choose_resolution((width, height), pinpoints)
        views = np.concatenate(
            [squash(image, (side, side))[None], cut_tiles(image, resolution, side)]
        )
        pixels = normalised(views, HALVES, HALVES)
        assert list(pixels.shape) == expected["shape"]
        sample = samples[f"{width}x{height}.sample"]
        # Another Pillow may round otherwise by one step of 255.
        assert np.abs(pixels[:, :, ::step, ::step] - sample).max() <= 0.008
        assert np.allclose(pixels.mean(axis=(1, 2, 3)), expected["mean_per_tile"], atol=0.002)
        assert np.allclose(pixels.std(axis=(1, 2, 3)), expected["std_per_tile"], atol=0.002)
        if PIL.__version__.startswith("13."):
            hashes = [hashlib.sha256(view.tobytes()).hexdigest()[:16] for view in views]
            assert hashes == expected["uint8_sha256_per_tile"]


def vectors(parity_dir: Path) -> dict[str, Any]:
    return dict(json.loads((parity_dir / "anyres" / "vectors.json").read_text()))
