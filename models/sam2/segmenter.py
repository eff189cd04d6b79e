"""The automatic mask generator over SAM 2.

After Kirillov et al. 2023 (Segment Anything, arXiv 2304.02643) and Ravi et al. 2024 (SAM 2, arXiv
2408.00714): a grid of points gives three masks each. Masks with a high predicted IoU and a high
stability score that do not duplicate a better mask are kept.

Candidates have (S/4)² elements. Only kept masks are drawn at the image's size, one at a time, and
compressed immediately: 24 million pixels take 150 MB beside the candidates, for any number of
masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from regard.core.geometry import Box, Mask
from regard.core.records import Image, Region
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint
from regard.models.sam2.candidates import (
    Candidates,
    Thresholds,
    mask_boxes,
    suppress,
    without_specks,
)
from regard.models.sam2.loading import STRIDES, image_size, load_model
from regard.models.sam2.preprocessing import Preprocessing
from regard.models.sam2.prompting import ImageMaps, Prompter, point_grid
from regard.photos.masks import encode_mask, mask_area, mask_box

if TYPE_CHECKING:
    from regard.models.sam2.parameters import Sam2Parameters


class Sam2Segmenter:
    """Segments with SAM 2; scores are the mask IoUs that the model predicts.

    Deterministic. Batching changes scores by at most 1e-4 in float32; a candidate that close to a
    threshold may fall on either side.
    """

    def __init__(
        self, prompter: Prompter, preprocessing: Preprocessing, parameters: Sam2Parameters
    ) -> None:
        """`prompter`: the loaded model with its grid of points."""
        self._prompter = prompter
        self._preprocessing = preprocessing
        self._parameters = parameters
        cells = (preprocessing.image_size // STRIDES[0]) ** 2
        self._thresholds = Thresholds(
            parameters.predicted_iou,
            parameters.stability,
            parameters.stability_offset,
            max(1, round(parameters.min_region_share * cells)),
        )

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, placement: Placement, parameters: Sam2Parameters
    ) -> Sam2Segmenter:
        """Load the model; raises ModelError."""
        model = load_model(checkpoint, placement)
        size = image_size(model.config)
        points = point_grid(parameters.points_per_side, size)
        prompter = Prompter(model, placement, points)
        return cls(prompter, Preprocessing.read(checkpoint, size), parameters)

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Return each image's regions, best first."""
        found: list[list[Region]] = []
        for start in range(0, len(images), self._parameters.batch_size):
            batch = images[start : start + self._parameters.batch_size]
            pixels = self._preprocessing.prepare(batch, self._prompter.placement)
            for image, maps in zip(batch, self._prompter.embed(pixels), strict=True):
                found.append(self._regions(self._candidates(maps), image))
        return found

    def segment_boxes(self, images: Sequence[Image], boxes: Sequence[Box]) -> list[Mask]:
        """See `regard.models.parts.BoxSegmenter`; a mask may be empty."""
        masks: list[Mask] = []
        side = self._preprocessing.image_size
        for image, box in zip(images, boxes, strict=True):
            pixels = self._preprocessing.prepare([image], self._prompter.placement)
            (maps,) = self._prompter.embed(pixels)
            corners = torch.tensor([box.x, box.y, box.right, box.bottom], dtype=torch.float32)
            scale = torch.tensor([side / image.width, side / image.height]).repeat(2)  # (4,)
            logits = self._prompter.decode_box(maps, corners * scale)
            masks.append(_drawn(logits.float().cpu(), image, within=box))
        return masks

    def _candidates(self, maps: ImageMaps) -> Candidates:
        candidates = Candidates()
        step = self._parameters.points_batch
        for start in range(0, self._prompter.points, step):
            logits, ious = self._prompter.decode(maps, start, start + step)
            candidates.take(logits, ious, self._thresholds)
        return candidates

    def _regions(self, candidates: Candidates, image: Image) -> list[Region]:
        overlap = self._parameters.box_nms
        scores = candidates.scores
        kept = suppress(candidates.boxes, scores, overlap)
        if not kept.size:
            return []
        logits = torch.stack([candidates.logits[row] for row in kept]).float().cpu()  # (k, h, w)
        clean = np.stack(
            [without_specks(mask, self._thresholds.smallest) for mask in logits.numpy()]
        )
        whole = (clean > 0).any(axis=(1, 2))
        clean, scores = clean[whole], scores[kept][whole]
        # Masks that differed only by specks are now duplicates.
        boxes = mask_boxes(torch.from_numpy(clean > 0)).numpy()
        best = suppress(boxes, scores, overlap)[: self._parameters.limit]
        drawn = ((_drawn(torch.from_numpy(clean[row]), image), float(scores[row])) for row in best)
        # A mask thinner than a pixel of a tiny image is empty.
        return [
            Region(box=mask_box(mask), mask=mask, area=mask_area(mask), score=score)
            for mask, score in drawn
            if mask_area(mask)
        ]


def _drawn(logits: torch.Tensor, image: Image, within: Box | None = None) -> Mask:
    """Draw a mask at the image's size from logits (h, w) of the model's square.

    Nothing outside the box `within` is drawn. Transposed, because masks are encoded column by
    column.
    """
    size = (image.width, image.height)
    large = functional.interpolate(
        logits.T[None, None], size, mode="bilinear", align_corners=False
    )  # (h, w) → (1, 1, width, height)
    inside = (large[0, 0] > 0).numpy().T  # (height, width)
    if within is not None:
        whole = np.zeros_like(inside)
        cut = np.s_[within.y : within.bottom, within.x : within.right]
        whole[cut] = inside[cut]
        inside = whole
    return encode_mask(inside)
