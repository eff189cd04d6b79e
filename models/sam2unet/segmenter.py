"""The SAM2-UNet segmenter: pictures to saliency maps, and those to regions.

Preprocessing and map are those of the published evaluation: a picture is squashed to 352 × 352
(Pillow, bilinear) and normalised with ImageNet's mean and deviation; the logits are resized to the
picture, and the sigmoid of them is stretched to 0 to 1. Maps at the pictures' size exist one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

from regard.core.errors import ModelError
from regard.core.records import Float32Array, Image, Region
from regard.models.checkpoints.placement import Placement
from regard.models.sam2unet.layout import INPUT_SIDE
from regard.models.sam2unet.network import SaliencyLogits, Sam2UNet
from regard.models.sam2unet.parameters import Sam2UNetParameters
from regard.models.sam2unet.regions import find_regions, stretched

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Sam2UNetSegmenter:
    """Finds what stands out in a picture from its background.

    A batch gives the maps of its images one by one within 1e-4 in float32; in bfloat16, whose numbers
    have three digits, within 0.05. Where a map lies closer than that to a threshold, masks may differ.
    """

    def __init__(
        self, network: Sam2UNet, placement: Placement, parameters: Sam2UNetParameters | None = None
    ) -> None:
        """`network` lies at `placement` and is in evaluation mode."""
        self._network = network
        self._placement = placement
        self._parameters = parameters or Sam2UNetParameters()

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Regions of each image, best first; they never overlap.

        Raises ModelError when the network's answer is no number, as with damaged weights.
        """
        return [find_regions(each, self._parameters) for each in self._probabilities(images)]

    def saliency(self, images: Sequence[Image]) -> list[Float32Array]:
        """The map of each image as published evaluations use it: float32 (h, w) in [0, 1].

        It has a greatest value of (nearly) 1 even where nothing stands out. Raises ModelError as
        `segment` does.
        """
        return [stretched(each) for each in self._probabilities(images)]

    def _probabilities(self, images: Sequence[Image]) -> Iterator[Float32Array]:
        """Of each pixel to be foreground, float32 (h, w), image by image."""
        size = self._parameters.batch_size
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            for image, logits in zip(batch, self._logits(batch), strict=True):
                yield _probabilities(logits, image)

    @torch.inference_mode()
    def _logits(self, images: Sequence[Image]) -> torch.Tensor:
        """(B, 1, 352, 352) float32 on the CPU."""
        squashed = torch.from_numpy(np.stack([preprocess(image) for image in images]))
        answer: SaliencyLogits = self._network(self._placement.put(squashed))
        logits = answer.out.cpu()  # (B, 1, 352, 352)
        if not torch.isfinite(logits).all():
            raise ModelError(
                "the SAM2-UNet answers with values that are no numbers",
                remedy="fetch its weights again, or set dtype to float32",
            )
        return logits


def preprocess(image: Image, width: int = INPUT_SIDE, height: int = INPUT_SIDE) -> Float32Array:
    """An image squashed to the size given and normalised: float32 (3, height, width)."""
    small = PIL.Image.fromarray(image.pixels).resize(
        (width, height), PIL.Image.Resampling.BILINEAR
    )  # (height, width, 3)
    scaled = np.asarray(small, np.float32) / np.float32(255)
    return ((scaled - _MEAN) / _DEVIATION).transpose(2, 0, 1)  # (3, height, width)


@torch.inference_mode()
def _probabilities(logits: torch.Tensor, image: Image) -> Float32Array:
    """Logits (1, 352, 352) → probabilities (h, w) at the image's size."""
    resized = functional.interpolate(
        logits[None], size=(image.height, image.width), mode="bilinear", align_corners=False
    )  # (1, 1, h, w)
    probabilities: Float32Array = resized.sigmoid_()[0, 0].numpy()  # (h, w)
    return probabilities
