"""How images are prepared for contrastive models: transformers' processors are the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch
from made_checkpoints.contrastive import make_clip, make_siglip, make_siglip2
from transformers import AutoImageProcessor

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint
from regard.models.contrastive.architecture import read_architecture
from regard.models.contrastive.pixels import vision_inputs
from regard.models.contrastive.preprocessing import (
    FixedSize,
    Patches,
    Preprocessing,
    read_preprocessing,
)

pytestmark = pytest.mark.slow

MAKERS = {"siglip": make_siglip, "siglip2": make_siglip2, "clip": make_clip}
CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("preprocessing")
    return {name: make(base / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    coffee, rocket = skimage.data.coffee(), skimage.data.rocket()
    assert coffee.shape[0] != coffee.shape[1]
    return {
        "wide": coffee,
        "tall": np.ascontiguousarray(rocket[:, 200:330]),
        "strip": coffee[100:103],
        "dot": coffee[50:51, 70:71],
        "small": coffee[::40, ::40],
    }


def preprocessing_of(folder: Path) -> Preprocessing:
    checkpoint = Checkpoint(folder)
    return read_preprocessing(checkpoint, read_architecture(checkpoint))


def inputs_of(folder: Path, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    made = preprocessing_of(folder)
    return dict(vision_inputs([made.prepare(pixels)], made, CPU))


def rewritten(
    folder: Path, target: Path, name: str = "preprocessor_config.json", **changes: Any
) -> Path:
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    table = json.loads((folder / "preprocessor_config.json").read_bytes())
    table = {key: value for key, value in (table | changes).items() if value != "absent"}
    (target / name).write_text(json.dumps(table))
    return target


@pytest.mark.parametrize("photograph", ["wide", "tall", "strip", "dot", "small"])
@pytest.mark.parametrize("model", MAKERS)
def test_pixels_equal_those_of_the_checkpoints_own_processor(
    folders: dict[str, Path], photographs: dict[str, np.ndarray], model: str, photograph: str
) -> None:
    pixels = photographs[photograph]
    processor = AutoImageProcessor.from_pretrained(folders[model], local_files_only=True)
    expected = processor(PIL.Image.fromarray(pixels), return_tensors="pt")
    found = inputs_of(folders[model], pixels)
    assert set(found) == set(expected)
    if model == "siglip2":
        assert torch.equal(found["spatial_shapes"], expected["spatial_shapes"])
        assert torch.equal(found["pixel_attention_mask"], expected["pixel_attention_mask"].long())
        seen = expected["pixel_attention_mask"][0].bool()
        found["pixel_values"], expected["pixel_values"] = (
            inputs["pixel_values"][:, seen] for inputs in (found, expected)
        )
    assert found["pixel_values"].shape == expected["pixel_values"].shape
    # CLIP's cut is resized without what it throws away, which may round another way: one grey
    # level.
    tolerance = 0.016 if model == "clip" else 1e-6
    difference = (found["pixel_values"] - expected["pixel_values"]).abs()
    assert float(difference.max()) < tolerance
    assert float((difference > 1e-6).float().mean()) < 0.01


def test_siglip_squashes_a_photograph_and_never_crops_it(
    folders: dict[str, Path], photographs: dict[str, np.ndarray]
) -> None:
    wide = photographs["wide"].copy()
    wide[:, :60] = (255, 0, 0)  # what a centre crop would lose
    wide[:, -60:] = (0, 0, 255)
    made = preprocessing_of(folders["siglip"])
    squashed = made.prepare(wide)
    reference = PIL.Image.fromarray(wide).resize((32, 32), PIL.Image.Resampling.BICUBIC)
    assert np.array_equal(squashed, np.asarray(reference))
    assert (squashed[:, 0] == (255, 0, 0)).all()
    assert (squashed[:, -1] == (0, 0, 255)).all()
    assert made.squash_size == (32, 32)


def test_clip_cuts_out_the_centre(
    folders: dict[str, Path], photographs: dict[str, np.ndarray]
) -> None:
    wide = photographs["wide"].copy()
    wide[:, :60] = (255, 0, 0)
    made = preprocessing_of(folders["clip"])
    cut = made.prepare(wide)
    assert cut.shape == (32, 32, 3)
    assert not (cut[:, 0] == (255, 0, 0)).all(axis=-1).any()
    assert made.squash_size is None


def test_naflex_keeps_the_aspect_ratio_within_its_patches(folders: dict[str, Path]) -> None:
    made = preprocessing_of(folders["siglip2"])
    assert isinstance(made, Patches)
    for height, width in [(100, 100), (300, 100), (100, 1000), (1, 1), (1, 5000), (4000, 3000)]:
        rows, columns = made.grid(height, width)
        assert 1 <= rows * columns <= made.most
        assert (rows > columns) == (height > width) or rows == columns


def test_a_thin_strip_costs_no_more_than_what_clip_keeps(folders: dict[str, Path]) -> None:
    strip = np.zeros((1, 60_000, 3), np.uint8)  # fitted whole: 32 × 1,920,000 pixels
    assert preprocessing_of(folders["clip"]).prepare(strip).shape == (32, 32, 3)


def test_a_file_saved_by_transformers_5_is_read_too(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for name, folder in folders.items():
        table = json.loads((folder / "preprocessor_config.json").read_bytes())
        target = tmp_path / name
        target.mkdir()
        (target / "config.json").write_bytes((folder / "config.json").read_bytes())
        (target / "processor_config.json").write_text(json.dumps({"image_processor": table}))
        assert preprocessing_of(target) == preprocessing_of(folder)


def test_settings_left_out_take_the_processors_defaults(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    silent = dict.fromkeys(("image_mean", "image_std", "resample", "do_center_crop"), "absent")
    for name, folder in folders.items():
        made = preprocessing_of(rewritten(folder, tmp_path / name, **silent))
        assert made == preprocessing_of(folder)


def test_only_a_plain_bicubic_squash_counts_as_one(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    bilinear = preprocessing_of(rewritten(folders["siglip"], tmp_path / "a", resample=2))
    others = preprocessing_of(rewritten(folders["siglip"], tmp_path / "b", image_mean=[0.4] * 3))
    assert isinstance(bilinear, FixedSize)
    assert bilinear.squash_size is None
    assert others.squash_size is None


@pytest.mark.parametrize(
    ("model", "changes", "word"),
    [
        ("siglip", {"do_pad": True}, "do_pad"),
        ("siglip", {"do_resize": False}, "do_resize"),
        ("siglip", {"size": {"longest_edge": 32}}, "longest_edge"),
        ("siglip", {"size": {"shortest_edge": 32}}, "shortest_edge"),
        ("siglip", {"resample": 9}, "9"),
        ("siglip", {"image_mean": "grey"}, "unknown mode"),
        ("siglip", {"image_std": [0.5, 0, 0.5]}, "unknown mode"),
        ("siglip", {"rescale_factor": float("inf")}, "unknown mode"),
        ("siglip", {"size": "x"}, "unknown mode"),
        ("clip", {"crop_size": ["a"]}, "unknown mode"),
        ("siglip", {"image_processor_type": "BeitImageProcessor"}, "BeitImageProcessor"),
        ("siglip2", {"image_processor_type": "SiglipImageProcessor"}, "SiglipImageProcessor"),
        ("clip", {"crop_size": 64}, "crop"),
        ("siglip", {"size": {"height": 16, "width": 32}}, "32 × 16"),
        ("siglip2", {"patch_size": 16}, "16"),
    ],
)
def test_what_is_not_known_is_an_error_that_names_the_file(
    folders: dict[str, Path], tmp_path: Path, model: str, changes: dict[str, Any], word: str
) -> None:
    folder = rewritten(folders[model], tmp_path / "changed", **changes)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json") as caught:
        preprocessing_of(folder)
    assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_preprocessor_file_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folders["siglip"] / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"lacks preprocessor_config\.json"):
        preprocessing_of(tmp_path)
