"""Reading SAM 2 from the published layout: every key accounted for, and the same model as transformers'."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from made_checkpoints.sam2 import IMAGE_SIZE, make_sam2
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from regard.core.errors import ModelError, UsageError
from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint, ModelSource
from regard.models.parts import PartDefinition
from regard.models.sam2.loading import build, image_size, load_model, read_config
from regard.models.sam2.part import Sam2Part
from regard.models.sam2.preprocessing import Preprocessing
from regard.models.sam2.prompting import PointPrompter

CPU = Placement(torch.device("cpu"), torch.float32)
# The published configs of the image encoders, and the sizes that the authors report, in
# millions of parameters (arXiv 2408.00714; the table of SAM 2.1's checkpoints).
PUBLISHED = {
    "tiny": (
        {
            "hidden_size": 96,
            "num_attention_heads": 1,
            "blocks_per_stage": [1, 2, 7, 2],
            "embed_dim_per_stage": [96, 192, 384, 768],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 14, 7],
            "global_attention_blocks": [5, 7, 9],
            "window_positional_embedding_background_size": [7, 7],
        },
        38.9,
    ),
    "large": (
        {
            "hidden_size": 144,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 6, 36, 4],
            "embed_dim_per_stage": [144, 288, 576, 1152],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 16, 8],
            "global_attention_blocks": [23, 33, 43],
            "window_positional_embedding_background_size": [7, 7],
        },
        224.4,
    ),
}


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


def published_config(size: str) -> dict[str, object]:
    backbone, _ = PUBLISHED[size]
    return {
        "model_type": "sam2_video",
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
            "backbone_channel_list": list(reversed(backbone["embed_dim_per_stage"])),
            "backbone_feature_sizes": [[256, 256], [128, 128], [64, 64]],
        },
        "prompt_encoder_config": {"model_type": "sam2_video_prompt_encoder"},
        "mask_decoder_config": {"model_type": "sam2_video_mask_decoder"},
    }


@pytest.mark.parametrize("size", PUBLISHED)
def test_full_size_configs_have_the_published_number_of_parameters(size: str, tmp_path: Path):
    config = published_config(size)
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(Checkpoint(tmp_path))
    image_model = build(read, tmp_path)
    said = {name: value for name, value in config.items() if name != "model_type"}
    for name in ("prompt_encoder_config", "mask_decoder_config"):
        said[name] = {}
    with torch.device("meta"):
        video_model = Sam2VideoModel(Sam2VideoConfig(**said))
    assert image_size(read) == 1024
    parameters = sum(tensor.numel() for tensor in video_model.parameters())
    assert parameters // 100_000 / 10 == PUBLISHED[size][1]  # the table cuts the second decimal off
    # The image model is the video model without its memory, key by key.
    shapes = {name: tensor.shape for name, tensor in video_model.state_dict().items()}
    image_shapes = {name: tensor.shape for name, tensor in image_model.state_dict().items()}
    assert image_shapes.items() <= shapes.items()
    assert (
        sum(tensor.numel() for tensor in image_model.parameters())
        == {
            "tiny": 31_440_721,
            "large": 216_924_865,
        }[size]
    )


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
    prompter = PointPrompter(model, CPU, points)
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
        prompter = PointPrompter(model, placement, points)
        logits, ious = prompter.decode(prompter.embed(placement.put(pixels))[0], 0, 2)
        assert logits.dtype == ious.dtype == placement.dtype
        decisions.append(logits > 0)
    assert (decisions[0] == decisions[1]).float().mean() > 0.97


def test_a_missing_key_is_named(folder: Path):
    change_weights(folder, lambda tensors: tensors.pop("mask_decoder.iou_token.weight"))
    with pytest.raises(ModelError, match=r"1 missing, such as mask_decoder\.iou_token\.weight"):
        part(folder).needs()
    with pytest.raises(ModelError, match=r"mask_decoder\.iou_token\.weight"):
        part(folder).load()


def test_a_surplus_key_is_named_unless_it_is_the_memorys(folder: Path):
    change_weights(folder, lambda tensors: tensors.update({"mask_decoder.extra": torch.ones(1)}))
    with pytest.raises(ModelError, match=r"1 unknown, such as mask_decoder\.extra") as error:
        part(folder).needs()
    assert error.value.message.count(".") == 1  # one sentence: the dot is the key's


def test_a_wrong_shape_is_named_with_both(folder: Path):
    name = "prompt_encoder.no_mask_embed.weight"
    change_weights(folder, lambda tensors: tensors.update({name: torch.ones(1, 7)}))
    with pytest.raises(ModelError, match=r"no_mask_embed\.weight of shape \[1, 7\].*\[1, 32\]"):
        part(folder).needs()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda config: config.update(model_type="sam"), "model of the type 'sam'"),
        (lambda config: config.pop("vision_config"), "vision_config"),
        (lambda config: config["prompt_encoder_config"].update(image_size=100), "image_size: 100"),
        (lambda config: config["prompt_encoder_config"].update(image_size=256), "makes .*64, 64"),
        (lambda config: config["prompt_encoder_config"].update(patch_size=8), "patch_size: 8"),
        (lambda config: config["mask_decoder_config"].update(hidden_size="wide"), "hidden_size"),
        (
            lambda config: config["vision_config"].update(backbone_feature_sizes=[1, 2, 3]),
            r"backbone_feature_sizes: \[1, 2, 3\]",
        ),
        (
            lambda config: config["vision_config"].update(backbone_config={"model_type": "resnet"}),
            "backbone 'resnet'",
        ),
    ],
)
def test_a_config_of_something_else_is_refused_by_name(folder: Path, change, says: str):
    change_json(folder / "config.json", change)
    with pytest.raises(ModelError, match=says) as error:
        part(folder).needs()
    assert "config.json" in error.value.message
    assert "\n" not in error.value.message


def test_a_config_that_contradicts_itself_is_refused(folder: Path):
    change_json(
        folder / "config.json",
        lambda config: config["vision_config"]["backbone_config"].update(
            embed_dim_per_stage=[8, 16]
        ),
    )
    with pytest.raises(ModelError, match="the model that the config of"):
        part(folder).needs()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resample": 0}, "resample: 0"),
        ({"resample": "sharp"}, "resample: 'sharp'"),
        ({"resample": []}, r"resample: \[\]"),
        ({"image_std": [0.5, 0, 0.5]}, "std"),
        ({"do_resize": False}, "do_resize: false"),
        ({"size": {"height": 64, "width": 64}}, "the model takes 128 × 128"),
        ({"size": {"longest_edge": 128}}, "longest_edge"),
        ({"image_mean": [0.5, 0.5]}, "mean"),
        ({"image_std": "grey"}, "std"),
    ],
)
def test_unknown_preprocessing_is_refused_with_the_files_name(folder: Path, change, says: str):
    path = folder / "preprocessor_config.json"
    change_json(path, lambda said: said.update(change))
    with pytest.raises(ModelError, match=says) as error:
        part(folder).needs()
    assert str(path) in error.value.message


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


def test_working_parameters_are_no_part_of_the_identity(made: Path):
    assert part(made, batch_size=1, points_batch=7).identity() == part(made).identity()
    assert part(made, limit=5).identity() != part(made).identity()
    assert part(made).names()["segmenter"].startswith("sam2:tiny#")


def test_an_unknown_parameter_is_refused_before_any_file_is_looked_for(tmp_path: Path):
    with pytest.raises(UsageError, match="profile test, segmenter: the parameter crops is wrong"):
        part(tmp_path / "absent", crops=1)


def test_the_part_is_told_of_without_torch():
    script = "import sys, regard.models.sam2.part; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
