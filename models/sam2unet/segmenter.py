"""The SAM2-UNet segmenter: images → saliency maps → regions.

Preprocessing and maps follow the published evaluation: an image is resized to 352 × 352 (Pillow,
bilinear) and normalised with ImageNet's mean and deviation; the logits are resized to the image,
and their sigmoid is min-max normalised. Only one map at the image's size exists at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from scipy import ndimage
from torch.nn import functional

from regard.core.errors import ModelError
from regard.core.geometry import Box
from regard.core.records import Float32Array, Image, Region
from regard.models.checkpoints.placement import Placement
from regard.models.sam2unet.network import SaliencyLogits, Sam2UNet
from regard.models.sam2unet.parameters import Sam2UNetParameters
from regard.models.sam2unet.weights import INPUT_SIDE
from regard.photos.masks import encode_mask, mask_area

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Sam2UNetSegmenter:
    """Finds the salient foreground of an image.

    Batching changes maps by at most 1e-4 in float32 and 0.05 in bfloat16; masks may differ where a
    map is that close to a threshold.
    """

    def __init__(
        self, network: Sam2UNet, placement: Placement, parameters: Sam2UNetParameters | None = None
    ) -> None:
        """`network` must be at `placement` and in evaluation mode."""
        self._network = network
        self._placement = placement
        self._parameters = parameters or Sam2UNetParameters()

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Return each image's regions, best first and without overlap.

        Raises ModelError when the network's output is NaN, as with damaged weights.
        """
        return [find_regions(each, self._parameters) for each in self._probabilities(images)]

    def saliency(self, images: Sequence[Image]) -> list[Float32Array]:
        """Return the map of each image as in published evaluations: float32 (h, w) in [0, 1].

        Its maximum is close to 1 even without a salient thing. Raises ModelError as `segment`
        does.
        """
        return [stretched(each) for each in self._probabilities(images)]

    def _probabilities(self, images: Sequence[Image]) -> Iterator[Float32Array]:
        """Yield foreground probabilities, float32 (h, w) for each image."""
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
                "the SAM2-UNet answers with values that are not numbers",
                remedy="fetch its weights again, or set dtype to float32",
            )
        return logits


def preprocess(image: Image, width: int = INPUT_SIDE, height: int = INPUT_SIDE) -> Float32Array:
    """Resize an image, ignoring aspect ratio, and normalise it: float32 (3, height, width)."""
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


_EPSILON = 1e-8


def stretched(probabilities: Float32Array) -> Float32Array:
    """Min-max normalise a map (h, w) to [0, 1], as in published evaluations."""
    low, high = probabilities.min(), probabilities.max()
    result: Float32Array = (probabilities - low) / np.float32(high - low + _EPSILON)
    return result


def find_regions(probabilities: Float32Array, parameters: Sam2UNetParameters) -> list[Region]:
    """Extract regions from foreground probabilities (h, w), best first.

    The score is a region's mean probability times the square root of its share of the image, which
    ranks large, certain regions first. Needs about 12 bytes per pixel.
    """
    foreground = probabilities > _cut(probabilities, parameters.threshold)
    least = max(1.0, parameters.smallest * probabilities.size)
    labels, _ = ndimage.label(foreground, output=np.int32)
    del foreground
    found: list[tuple[float, int, tuple[slice, slice]]] = []
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        if (rows.stop - rows.start) * (columns.stop - columns.start) < least:
            continue
        inside = probabilities[place][labels[place] == label]
        if inside.size < least or inside.max() < parameters.certainty:
            continue
        share = inside.size / probabilities.size
        found.append((float(inside.mean(dtype=np.float64)) * math.sqrt(share), label, place))
    found.sort(key=lambda item: (-item[0], item[1]))
    return [
        _region(labels, label, place, score) for score, label, place in found[: parameters.limit]
    ]


def _cut(probabilities: Float32Array, threshold: float) -> float:
    """Return the probability at `threshold` of the map's range, at most `threshold`.

    Otherwise slight differences would split an image that is all foreground.
    """
    low, high = float(probabilities.min()), float(probabilities.max())
    return min(threshold, low + threshold * (high - low))


def _region(
    labels: npt.NDArray[np.int32], label: int, place: tuple[slice, slice], score: float
) -> Region:
    rows, columns = place
    pixels = np.zeros(labels.shape, np.bool_)
    pixels[place] = labels[place] == label
    mask = encode_mask(pixels)
    box = Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return Region(box=box, mask=mask, area=mask_area(mask), score=score)
