"""Photographs as the image encoder takes them: squashed to a square, never cropped or padded.

The checkpoint's own files say how; where they are silent, as the published checkpoints do it: 1024
× 1024, bilinear, ImageNet's mean and deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from regard.core.errors import ModelError
from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint

_IMAGE_PROCESSOR, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
# Numbers of Pillow's filters as they stand in these files.
_FILTERS = {2: PIL.Image.Resampling.BILINEAR, 3: PIL.Image.Resampling.BICUBIC}
_STEPS = ("do_resize", "do_rescale", "do_normalize")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of pixels to the model's input."""

    image_size: int
    resample: PIL.Image.Resampling = PIL.Image.Resampling.BILINEAR
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)

    @classmethod
    def read(cls, checkpoint: Checkpoint, image_size: int) -> Preprocessing:
        """What the checkpoint's files say, for a model whose input has sides of `image_size`.

        Raises ModelError for what is not done here, and for another size than the model's.
        """
        where, said = _settings(checkpoint)
        default = cls(image_size)
        for step in _STEPS:
            if not said.get(step, True):
                raise ModelError(f"{where} says {step}: false, which SAM 2 can't do without")
        size = said.get("size", {"height": image_size, "width": image_size})
        if size != {"height": image_size, "width": image_size}:
            raise ModelError(
                f"{where} says size: {size}, but the model takes {image_size} × {image_size}"
            )
        resample = said.get("resample", int(default.resample))
        if not isinstance(resample, int) or resample not in _FILTERS:
            raise ModelError(
                f"{where} says resample: {resample!r}, which is none of "
                f"{', '.join(f'{number} ({kind.name.lower()})' for number, kind in _FILTERS.items())}"
            )
        try:
            scale = float(said.get("rescale_factor", default.scale))
            mean = _three(said.get("image_mean", default.mean))
            deviation = _three(said.get("image_std", default.deviation))
            if not all(map(math.isfinite, (scale, *mean, *deviation))) or not all(deviation):
                raise ValueError("levels that can't be computed with")
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{where} has other numbers than three of mean and std") from error
        return cls(image_size, _FILTERS[resample], scale, mean, deviation)

    def prepare(self, images: Sequence[Image], placement: Placement) -> torch.Tensor:
        """Return the encoder's input (B, 3, S, S) in the placement's dtype on its device."""
        size = (self.image_size, self.image_size)
        squares = np.stack(
            [
                np.asarray(PIL.Image.fromarray(image.pixels).resize(size, self.resample))
                for image in images
            ]
        )  # (B, S, S, 3) uint8
        pixels = torch.from_numpy(squares).to(placement.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
        mean = torch.tensor(self.mean, device=placement.device).view(3, 1, 1)
        deviation = torch.tensor(self.deviation, device=placement.device).view(3, 1, 1)
        return placement.put((pixels * self.scale - mean) / deviation)


def _settings(checkpoint: Checkpoint) -> tuple[Path, Mapping[str, Any]]:
    """Return the image processor's file and settings, empty without a file."""
    alone, joint = checkpoint.path / _IMAGE_PROCESSOR, checkpoint.path / _PROCESSOR
    if alone.is_file():
        return alone, checkpoint.json(_IMAGE_PROCESSOR)
    if joint.is_file():
        said = checkpoint.json(_PROCESSOR).get("image_processor", {})
        if not isinstance(said, dict):
            raise ModelError(f"{joint} says image_processor: {said!r}, which is not a table")
        return joint, said
    return alone, {}


def _three(numbers: Any) -> tuple[float, ...]:
    one, two, three = (float(number) for number in numbers)
    return one, two, three
