"""Reading SAM 2 from the published layout: every key accounted for, and the same model as
transformers'."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from made_checkpoints.sam2 import IMAGE_SIZE, make_sam2
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2Model

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint, ModelSource
from regard.models.parts import PartDefinition
from regard.models.sam2.loading import build, load_model, read_config
from regard.models.sam2.part import Sam2Part
from regard.models.sam2.preprocessing import Preprocessing
from regard.models.sam2.prompting import Prompter

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)
# The published configs of the image encoders, and the sizes that the authors report, in
# millions of parameters (arXiv 2408.00714; the table of SAM 2.1's checkpoints).


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sam2(tmp_path_factory.mktemp("sam2") / "tiny")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def part(folder: Path, **parameters: object) -> Sam2Part:
    source = ModelSource(path=folder)
    definition = PartDefinition(
        "sam2", "profile test, segmenter", source, "cpu", parameters=parameters
    )
    return Sam2Part(definition)


def change_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_json(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_parity_with_transformers_own_loading_and_forward_pass(made: Path):
    config = Sam2Config.from_pretrained(made)
    reference = Sam2Model.from_pretrained(made, config=config, local_files_only=True).eval()
    model = load_model(Checkpoint(made), CPU)
    expected = reference.state_dict()
    loaded = model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)

    points = torch.tensor([[3.0, 90.0], [64.0, 64.0], [127.0, 1.0]])
    pixels = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
    prompter = Prompter(model, CPU, points)
    maps = prompter.embed(pixels)
    with torch.inference_mode():
        whole = reference(
            pixel_values=pixels, input_points=points[None, :, None].expand(2, -1, -1, -1)
        )
    assert whole.pred_masks.std() > 1
    for row in range(2):
        logits, ious = prompter.decode(maps[row], 0, 2)
        torch.testing.assert_close(logits, whole.pred_masks[row, :2], rtol=1e-4, atol=2e-3)
        torch.testing.assert_close(ious, whole.iou_scores[row, :2], rtol=1e-4, atol=1e-5)
        logits, ious = prompter.decode(maps[row], 2, 4)
        torch.testing.assert_close(logits, whole.pred_masks[row, 2:], rtol=1e-4, atol=2e-3)


def test_every_attention_goes_through_sdpa(made: Path):
    model = build(read_config(Checkpoint(made)), made)
    configs = (
        model.config,
        model.vision_encoder.config,
        model.vision_encoder.backbone.config,
        model.mask_decoder.config,
    )
    assert {config._attn_implementation for config in configs} == {"sdpa"}


def test_an_image_checkpoint_without_a_memory_loads_too(folder: Path):
    model = load_model(Checkpoint(folder), CPU)
    change_json(folder / "config.json", lambda config: config.update(model_type="sam2"))
    wanted = model.state_dict().keys()

    def drop_memory(tensors):
        for name in [name for name in tensors if name not in wanted]:
            del tensors[name]

    change_weights(folder, drop_memory)
    part(folder).needs()
    again = load_model(Checkpoint(folder), CPU).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_the_fourier_matrix_may_stand_in_the_file_once(folder: Path):
    whole = load_model(Checkpoint(folder), CPU).state_dict()
    name = "prompt_encoder.shared_embedding.positional_embedding"
    change_weights(folder, lambda tensors: tensors.pop(name))
    part(folder).needs()
    assert torch.equal(load_model(Checkpoint(folder), CPU).state_dict()[name], whole[name])


def test_bfloat16_keeps_positions_exact_and_decides_nearly_alike(made: Path):
    half = Placement(torch.device("cpu"), torch.bfloat16)
    points = torch.tensor([[96.0, 40.0], [97.0, 40.0]])
    pixels = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(2))
    decisions = []
    for placement in (CPU, half):
        model = load_model(Checkpoint(made), placement)
        assert model.prompt_encoder.shared_embedding.positional_embedding.dtype == torch.float32
        assert model.shared_image_embedding.positional_embedding.dtype == torch.float32
        assert model.no_memory_embedding.dtype == placement.dtype
        prompter = Prompter(model, placement, points)
        logits, ious = prompter.decode(prompter.embed(placement.put(pixels))[0], 0, 2)
        assert logits.dtype == ious.dtype == placement.dtype
        decisions.append(logits > 0)
    assert (decisions[0] == decisions[1]).float().mean() > 0.97


def test_preprocessing_is_read_from_any_of_the_published_files(folder: Path):
    alone = folder / "preprocessor_config.json"
    joint = folder / "processor_config.json"
    change_json(alone, lambda said: said.update(image_mean=[0.1, 0.2, 0.3], resample=3))
    read = Preprocessing.read(Checkpoint(folder), IMAGE_SIZE)
    assert (read.mean, read.resample) == ((0.1, 0.2, 0.3), PIL.Image.Resampling.BICUBIC)
    said = json.loads(alone.read_text())
    alone.unlink()
    assert Preprocessing.read(Checkpoint(folder), IMAGE_SIZE) == Preprocessing(IMAGE_SIZE)
    joint.write_text(json.dumps({"image_processor": said}))
    assert Preprocessing.read(Checkpoint(folder), IMAGE_SIZE) == read
    joint.unlink()
    assert Preprocessing.read(Checkpoint(folder), IMAGE_SIZE) == Preprocessing(IMAGE_SIZE)


def test_a_photograph_is_squashed_whole_and_normalised_by_imagenet():
    pixels = np.zeros((40, 90, 3), np.uint8)
    pixels[:, 45:] = (255, 128, 0)
    tensor = Preprocessing(IMAGE_SIZE).prepare([Image(pixels)], CPU)
    assert tensor.shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert tensor.dtype == torch.float32
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    left = (0 - mean) / deviation
    right = (np.array([255, 128, 0]) / 255 - mean) / deviation
    # No column of either half is cropped away, and none is padding.
    for row in (0, -1):
        np.testing.assert_allclose(tensor[0, :, row, 0], left, atol=1e-5)
        np.testing.assert_allclose(tensor[0, :, row, -1], right, atol=1e-5)
    middle = tensor[0, 0, 64]
    assert middle[62] < 0 < middle[65]


def test_needs_counts_the_weights_and_grows_with_what_is_computed_at_once(made: Path):
    def count(**parameters: object) -> int:
        (need,) = part(made, **parameters).needs()
        assert need.device == "cpu"
        return need.count

    model = load_model(Checkpoint(made), CPU)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert count() > weights
    cells = (IMAGE_SIZE // 4) ** 2
    assert count(batch_size=5) - count(batch_size=4) == 16 * cells * 8 * 4
    assert count(points_batch=33) - count(points_batch=32) == 6 * cells * 4 * 4
    assert count(points_per_side=2) - count(points_per_side=1) == 3 * 3 * cells * 4
