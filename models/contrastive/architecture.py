"""The architecture of a contrastive checkpoint, from its `config.json`, without torch or
transformers.

Holds what a space and its preprocessing need: family, embedding dimension, text length and image
size. Absent keys take the defaults of transformers' config classes; published configs omit most
keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from regard.core.errors import ModelError
from regard.models.checkpoints.source import CONFIG, Checkpoint


class Family(StrEnum):
    """`model_type` of the models read here; SigLIP 2 at fixed resolution calls itself `siglip`."""

    SIGLIP = "siglip"
    SIGLIP2 = "siglip2"  # NaFlex: any aspect ratio, a bounded number of patches
    CLIP = "clip"


@dataclass(frozen=True, slots=True)
class Architecture:
    """`dimension` of embeddings, `text_length` in tokens, sides in pixels.

    `image_side` is None for SigLIP 2's NaFlex models, which accept any aspect ratio.
    """

    family: Family
    dimension: int
    text_length: int
    image_side: int | None
    patch_side: int


def read_architecture(checkpoint: Checkpoint) -> Architecture:
    """Read a checkpoint's architecture.

    Raises ModelError when `config.json` is missing, describes another kind of model, or has
    invalid sizes.
    """
    config = checkpoint.config()
    found = config.get("model_type")
    if found not in list(Family):
        raise ModelError(
            f"{checkpoint.path / CONFIG} describes a model of type {found!r}, "
            "which is not a contrastive encoder that regard supports",
            remedy="name a SigLIP, SigLIP 2 or CLIP checkpoint",
        )
    family = Family(found)
    where = checkpoint.path / CONFIG
    vision, text = (_table(config, name, where) for name in ("vision_config", "text_config"))
    clip = family is Family.CLIP

    def number(table: Mapping[str, Any], name: str, default: int) -> int:
        value = table.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{where} has {value!r} for {name}")
        return value

    return Architecture(
        family=family,
        dimension=(
            number(config, "projection_dim", 512) if clip else number(vision, "hidden_size", 768)
        ),
        text_length=number(text, "max_position_embeddings", 77 if clip else 64),
        image_side=None if family is Family.SIGLIP2 else number(vision, "image_size", 224),
        patch_side=number(vision, "patch_size", 32 if clip else 16),
    )


def _table(config: Mapping[str, Any], name: str, where: object) -> Mapping[str, Any]:
    # CLIP's oldest configs repeat each table as `…_dict`, which then takes precedence.
    table: dict[str, Any] = {}
    for key in (name, f"{name}_dict"):
        found = config.get(key) or {}
        if not isinstance(found, Mapping):
            raise ModelError(f"{where} has a {key} that is not a table")
        table.update(found)
    return table
