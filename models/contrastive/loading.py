"""Loads a contrastive checkpoint: a module built on `meta` from its config, filled tensor by
tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import CONFIG, Checkpoint
from regard.models.checkpoints.tensors import TensorFiles, fill, require_whole
from regard.models.contrastive.architecture import Architecture, Family

# Buffers that models create and old checkpoints contain.
IGNORED = (r".*\.position_ids",)
_CALIBRATION = ("logit_scale", "logit_bias")


@dataclass(frozen=True, slots=True)
class ContrastiveModel:
    """Both towers and their logit calibration: logit = cosine × exp(scale) + bias.

    `logit_bias` is None for models without one (CLIP).
    """

    module: nn.Module
    family: Family
    placement: Placement
    logit_scale: float | None
    logit_bias: float | None


def build(checkpoint: Checkpoint, architecture: Architecture) -> nn.Module:
    """Make the model on `meta` with SDPA attention.

    Raises ModelError when transformers refuses the config.
    """
    from transformers import (
        CLIPConfig,
        CLIPModel,
        Siglip2Config,
        Siglip2Model,
        SiglipConfig,
        SiglipModel,
    )

    classes: dict[Family, tuple[Any, Any]] = {
        Family.SIGLIP: (SiglipConfig, SiglipModel),
        Family.SIGLIP2: (Siglip2Config, Siglip2Model),
        Family.CLIP: (CLIPConfig, CLIPModel),
    }
    make_config, make_model = classes[architecture.family]
    document = checkpoint.config()
    if architecture.family is not Family.CLIP:
        # The published ids are CLIP's, outside SigLIP's vocabulary: unused, but they cause a
        # warning.
        unused = {"bos_token_id": None, "eos_token_id": None}
        document["text_config"] = {**(document.get("text_config") or {}), **unused}
    try:
        config = make_config(**document)
        with torch.device("meta"):
            model: nn.Module = make_model._from_config(config, attn_implementation="sdpa")
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{checkpoint.path / CONFIG} describes no whole model: {first}") from error
    return model.eval().requires_grad_(False)


def load(
    checkpoint: Checkpoint, architecture: Architecture, placement: Placement
) -> ContrastiveModel:
    """Load the model onto the device; raises ModelError for missing or unexpected keys."""
    module = build(checkpoint, architecture)
    tensors = TensorFiles(checkpoint.weights())
    fill(module, tensors, placement, where=checkpoint.path, ignored=IGNORED)
    for name, buffer in list(module.named_buffers()):
        if name.endswith("position_ids"):
            *path, leaf = name.split(".")
            positions = torch.arange(buffer.shape[-1], device=placement.device)
            module.get_submodule(".".join(path))._buffers[leaf] = positions.expand(1, -1)
    require_whole(module)
    # Read separately from the weights, because bfloat16 would round them.
    exact = Placement(torch.device("cpu"), torch.float32)
    calibration = {
        name: float(tensor) for name, tensor in tensors.read(_CALIBRATION.__contains__, exact)
    }
    return ContrastiveModel(
        module,
        architecture.family,
        placement,
        calibration.get("logit_scale"),
        calibration.get("logit_bias"),
    )
