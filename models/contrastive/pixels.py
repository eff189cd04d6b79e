"""Moves preprocessed uint8 images to the device and normalises them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regard.core.records import UInt8Array
from regard.models.checkpoints.placement import Placement
from regard.models.contrastive.preprocessing import FixedSize, Levels, Patches, Preprocessing


def vision_inputs(
    prepared: Sequence[UInt8Array], preprocessing: Preprocessing, placement: Placement
) -> Mapping[str, Tensor]:
    """Return the vision tower's inputs for images from `preprocessing.prepare`."""
    if isinstance(preprocessing, FixedSize):
        raw = torch.from_numpy(np.stack(prepared)).to(placement.device)  # (n, h, w, 3)
        channels_first = _levelled(raw, preprocessing.levels, placement).permute(0, 3, 1, 2)
        return {"pixel_values": channels_first.contiguous()}  # (n, 3, h, w)
    return _patch_inputs(prepared, preprocessing, placement)


def _patch_inputs(
    prepared: Sequence[UInt8Array], preprocessing: Patches, placement: Placement
) -> Mapping[str, Tensor]:
    """uint8 (rows, columns, s·s·3) each → NaFlex inputs, padded to the most patches N."""
    shape = (len(prepared), preprocessing.most, preprocessing.side**2, 3)
    values = np.zeros(shape, dtype=np.uint8)  # (n, N, s·s, 3)
    seen = np.zeros(shape[:2], dtype=np.int64)  # (n, N)
    for index, cells in enumerate(prepared):
        count = cells.shape[0] * cells.shape[1]
        values[index, :count] = cells.reshape(count, -1, 3)
        seen[index, :count] = 1
    raw = torch.from_numpy(values).to(placement.device)
    return {
        "pixel_values": _levelled(raw, preprocessing.levels, placement).flatten(2),  # (n, N, s·s·3)
        "pixel_attention_mask": torch.from_numpy(seen).to(placement.device),
        # On the CPU, because the model reads single elements.
        "spatial_shapes": torch.tensor([cells.shape[:2] for cells in prepared]),  # (n, 2)
    }


def _levelled(raw: Tensor, levels: Levels, placement: Placement) -> Tensor:
    """(…, 3) uint8 → the same shape, normalised in float32, then in the model's dtype."""
    mean = torch.tensor(levels.mean, device=raw.device)
    std = torch.tensor(levels.std, device=raw.device)
    return ((raw.float() * levels.scale - mean) / std).to(placement.dtype)
