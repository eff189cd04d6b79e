"""Loads a checkpoint with strict key accounting; each tensor is read and held once.

The checkpoint's names differ from the model's by a prefix for each part. Three tables of the
language model are stored in two pieces, which are merged while reading. A vision tower that an
encoder has already loaded is shared when both have the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SiglipVisionModel

from regard.core.errors import ModelError
from regard.models.checkpoints.load_errors import guarded
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint
from regard.models.checkpoints.tensors import (
    Shapes,
    TensorFiles,
    assign,
    check_keys,
    require_whole,
    shapes_of,
)
from regard.models.xgenmm.config import ADDED, TowerConfig, XGenMMConfig
from regard.models.xgenmm.model import MERGED, XGenMM

_TOWER = "vlm.vision_encoder."
_PREFIXES = {
    "tower.": _TOWER,
    "resampler.": "vlm.vision_tokenizer.",
    "language.": "vlm.lang_model.",
}
_OF_V1 = "vision_encoder.conv1.weight"
# Captions use the tokens before the tower's pooling head.
_POOLING = f"{_TOWER}head."


@dataclass(frozen=True, slots=True)
class _Target:
    """The target of a checkpoint tensor: a model tensor or some of its rows."""

    name: str
    rows: slice | None = None


def make_on_meta(config: XGenMMConfig) -> XGenMM:
    """Make the model on `meta`."""
    with torch.device("meta"):
        model = XGenMM(config)
    return model.eval().requires_grad_(False)


def published_shapes(config: XGenMMConfig) -> Shapes:
    """Return the keys and shapes of a published checkpoint of this config."""
    shapes = {_published(name): shape for name, shape in shapes_of(make_on_meta(config)).items()}
    for table in MERGED:
        merged = shapes[_language(table.main)]
        shapes[_language(table.main)] = (config.language.vocab_size, *merged[1:])
        shapes[_language(table.added)] = (len(ADDED), *merged[1:])
    return shapes


def check_checkpoint(path: Path, config: XGenMMConfig, tensors: TensorFiles) -> None:
    """Compare keys and shapes with the config, reading only headers; raises ModelError."""
    if any(name.endswith(_OF_V1) for name in tensors.shapes):
        raise ModelError(
            f"{path} holds xGen-MM v1, whose vision tower is another",
            remedy="take a checkpoint whose name ends in v1.5",
        )
    expected: Shapes = guarded(lambda: published_shapes(config), str(path))
    check_keys(path, expected, tensors.shapes)


def load_model(
    checkpoint: Checkpoint,
    config: XGenMMConfig,
    placement: Placement,
    tower: nn.Module | None = None,
) -> XGenMM:
    """Load the model onto the device; raises ModelError for missing or unexpected keys.

    Uses `tower` itself if its shape and weights, apart from the pooling head, equal the
    checkpoint's; otherwise loads its own.
    """
    tensors = TensorFiles(checkpoint.weights())
    check_checkpoint(checkpoint.path, config, tensors)
    model = make_on_meta(config)
    shared = (
        tower
        if isinstance(tower, SiglipVisionModel)
        and _fits(tower, config.tower, placement)
        and _same_weights(tower, tensors, placement)
        else None
    )
    _fill(model, tensors, placement, leave_tower=shared is not None)
    model.make_buffers(placement.device)
    if shared is not None:
        model.tower = shared
    require_whole(model)
    return model


def _fill(model: XGenMM, tensors: TensorFiles, placement: Placement, *, leave_tower: bool) -> None:
    targets = _targets(model)
    if leave_tower:
        targets = {key: to for key, to in targets.items() if not key.startswith(_TOWER)}
    for key, tensor in tensors.read(targets.__contains__, placement):
        target = targets[key]
        if target.rows is None:
            assign(model, target.name, tensor)
        else:
            _merge(model, target.name, target.rows, tensor)
        del tensor  # frees it before the next is read


def _merge(model: XGenMM, name: str, rows: slice, tensor: Tensor) -> None:
    merged = model.get_parameter(name)
    if merged.is_meta:
        assign(model, name, torch.empty_like(merged, device=tensor.device, dtype=tensor.dtype))
        merged = model.get_parameter(name)
    with torch.no_grad():
        # The main tables are padded beyond the tokens in use.
        merged[rows] = tensor[: rows.stop - rows.start]


def _targets(model: XGenMM) -> Mapping[str, _Target]:
    targets = {_published(name): _Target(name) for name in model.state_dict()}
    used, merged = model.config.language.initial_tokenizer_len, model.config.language.merged_size
    for table in MERGED:
        name = f"language.{table.name}"
        targets[_language(table.main)] = _Target(name, slice(0, used))
        targets[_language(table.added)] = _Target(name, slice(used, merged))
    return targets


def _fits(tower: SiglipVisionModel, config: TowerConfig, placement: Placement) -> bool:
    own: Any = tower.config
    weight = tower.post_layernorm.weight
    return (
        weight.device == placement.put(torch.empty(0)).device
        and weight.dtype == placement.dtype
        and all(getattr(own, field.name) == getattr(config, field.name) for field in fields(config))
    )


def _same_weights(tower: SiglipVisionModel, tensors: TensorFiles, placement: Placement) -> bool:
    held = {f"{_TOWER}{name}": tensor for name, tensor in tower.state_dict().items()}

    def used(key: str) -> bool:
        return key.startswith(_TOWER) and not key.startswith(_POOLING)

    return all(
        key in held and torch.equal(tensor, held[key])
        for key, tensor in tensors.read(used, placement)
    )


def _published(name: str) -> str:
    prefix = next(own for own in _PREFIXES if name.startswith(own))
    return _PREFIXES[prefix] + name.removeprefix(prefix)


def _language(name: str) -> str:
    return _PREFIXES["language."] + name
