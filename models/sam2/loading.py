"""SAM 2's image model from a checkpoint in the layout that transformers publishes.

The published checkpoints hold the video model: the image model and, beside it, a memory. Only the
image model is built. Every one of its keys has to be there, and no key but those of the memory
besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import Sam2Config, Sam2Model

from regard.core.errors import ModelError
from regard.models.checkpoints.load_errors import guarded
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import CONFIG, Checkpoint
from regard.models.checkpoints.tensors import (
    Shapes,
    TensorFiles,
    assign,
    check_keys,
    fill,
    require_whole,
    shapes_of,
)
from regard.models.sam2.parameters import Sam2Parameters

_MODEL_TYPES = ("sam2", "sam2_video")
_PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
_BACKBONE_TYPE = "sam2_hiera_det_model"
# Keys of the video model that the image model lacks.
MEMORY_KEYS = (
    r"memory_.*",
    r"mask_downsample\..*",
    r"object_pointer_proj\..*",
    r"temporal_positional_encoding_projection_layer\..*",
    r"no_memory_positional_encoding",
    r"no_object_pointer",
    r"occlusion_spatial_embedding_parameter",
)
# Strides of the decoder's input maps, fine to coarse.
STRIDES = (4, 8, 16)
# One matrix under two keys; some writers omit the second.
_FOURIER = "shared_image_embedding.positional_embedding"
_FOURIER_AGAIN = "prompt_encoder.shared_embedding.positional_embedding"
# Peaks of memory, measured with the full-size models on a CPU, with a margin: a third more for the
# encoder, a fifth more for the decoder.
# Of an image's finest map, (S/4)² cells × the width of the first stage: 12 of them at once.
_ENCODER_MAPS = 16
# Of a point's upscaled map, (S/4)² cells × an eighth of the decoder's width: 5 of them at once.
_DECODER_MAPS = 6
# What the libraries take when they first compute, and a photograph's mask while it is drawn.
_FIXED = 450_000_000


def read_config(checkpoint: Checkpoint) -> Any:
    """Read the image model's `Sam2Config`; raises ModelError for an inconsistent or foreign
    config."""
    said, where = checkpoint.config(), checkpoint.path / CONFIG
    if said.get("model_type") not in _MODEL_TYPES:
        raise ModelError(
            f"{where} describes a model of the type {said.get('model_type')!r}, "
            f"where SAM 2 has {' or '.join(_MODEL_TYPES)}",
            remedy="check that the profile names the right kind of model",
        )
    # Both types say the same of the image model. The sub-configs' own type names differ.
    parts: dict[str, Any] = {"attn_implementation": "sdpa"}
    for name in _PARTS:
        table = said.get(name)
        if not isinstance(table, dict):
            raise ModelError(f"{where} has no table {name}, which SAM 2's config has")
        parts[name] = table if name == "vision_config" else _without_type(table)
    _check_backbone(said["vision_config"], where)
    config = guarded(lambda: Sam2Config(**parts), f"the config of SAM 2 in {where}")
    guarded(lambda: _check_config(config, where), str(where))
    return config


def image_size(config: Any) -> int:
    """Return the side of the model's square input in pixels."""
    return int(config.prompt_encoder_config.image_size)


def build(config: Any, where: object) -> Any:
    """Make the `Sam2Model` on `meta` in evaluation mode; raises ModelError."""

    def make() -> Any:
        with torch.device("meta"):
            model: Any = Sam2Model(config)
        return model.eval()

    return guarded(make, f"the model that the config of {where} describes")


def check_headers(model: Any, checkpoint: Checkpoint) -> None:
    """Compare a model's keys and shapes with the files' headers; raises ModelError."""
    tensors = TensorFiles(checkpoint.weights())
    key = _key(tensors.shapes)
    expected = {key(name): shape for name, shape in shapes_of(model).items()}
    check_keys(checkpoint.path, expected, tensors.shapes, MEMORY_KEYS)


def load_model(checkpoint: Checkpoint, placement: Placement) -> Any:
    """The `Sam2Model`, weights read, in the placement's dtype except the Fourier matrix.

    Positions go through the sine of a product with that matrix, and bfloat16 can't tell
    neighbouring pixels of 1024 apart: it stays float32. Raises ModelError.
    """
    model = build(read_config(checkpoint), checkpoint.path)
    tensors = TensorFiles(checkpoint.weights())
    key = _key(tensors.shapes)
    fill(model, tensors, placement, where=checkpoint.path, key=key, ignored=MEMORY_KEYS)
    exact = Placement(placement.device, torch.float32)
    matrices = dict(tensors.read({_FOURIER, _FOURIER_AGAIN}.__contains__, exact))
    for name in (_FOURIER, _FOURIER_AGAIN):
        assign(model, name, matrices[key(name)])
    require_whole(model)
    return model


def _key(found: Shapes) -> Callable[[str], str]:
    """Map a model's key to the checkpoint's."""
    tied = _FOURIER_AGAIN not in found
    return lambda name: _FOURIER if tied and name == _FOURIER_AGAIN else name


def _without_type(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name != "model_type"}


def _check_backbone(vision: Mapping[str, Any], where: object) -> None:
    """Raise ModelError unless the image encoder is Hiera; transformers accepts others."""
    backbone = vision.get("backbone_config")
    kind = backbone.get("model_type") if isinstance(backbone, dict) else backbone
    if kind != _BACKBONE_TYPE:
        raise ModelError(f"{where} has the backbone {kind!r} where SAM 2 has {_BACKBONE_TYPE}")


def _check_config(config: Any, where: object) -> None:
    """Raise ModelError unless sizes that the config repeats agree."""
    vision, prompt = config.vision_config, config.prompt_encoder_config
    size = prompt.image_size
    if not isinstance(size, int) or size <= 0 or size % STRIDES[-1]:
        raise ModelError(
            f"{where} has image_size: {size!r}, which is not a multiple of {STRIDES[-1]}"
        )
    maps = [[size // stride, size // stride] for stride in STRIDES]
    if vision.backbone_feature_sizes != maps:
        raise ModelError(
            f"{where} says backbone_feature_sizes: {vision.backbone_feature_sizes}, "
            f"where an image_size of {size} makes {maps}"
        )
    if prompt.patch_size != STRIDES[-1]:
        raise ModelError(f"{where} says patch_size: {prompt.patch_size}, where it is {STRIDES[-1]}")


def bytes_needed(
    config: Any, weights: Shapes, parameters: Sam2Parameters, placement: Placement
) -> int:
    """Bytes of the weights, a batch of images, a batch of points, and all candidates."""
    cells = (image_size(config) // STRIDES[0]) ** 2
    decoder = config.mask_decoder_config
    width = config.vision_config.backbone_config.embed_dim_per_stage[0]
    candidates = parameters.points_per_side**2 * decoder.num_multimask_outputs
    numbers = sum(math.prod(shape) for shape in weights.values())
    numbers += parameters.batch_size * _ENCODER_MAPS * cells * width
    numbers += parameters.points_batch * _DECODER_MAPS * cells * decoder.hidden_size // 8
    numbers += candidates * cells
    return int(numbers * placement.item_bytes) + _FIXED
