"""Prompts SAM 2 with a fixed grid of points, or with a box: each image is encoded once.

Embeddings of points and positions do not depend on the image and are computed once. Points decode
in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from regard.models.checkpoints.placement import Placement


def point_grid(points_per_side: int, image_size: int) -> torch.Tensor:
    """Return the centres of `points_per_side`² equal tiles, row by row.

    Float32 of shape (n², 2): x and y in pixels of the model's square input, whose side is
    `image_size`. The square covers the whole image, so tiles of a wide image are wide.
    Source: Kirillov et al. 2023 (arXiv 2304.02643), automatic mask generation.
    """
    centres = (torch.arange(points_per_side) + 0.5) * (image_size / points_per_side)  # (n,)
    y, x = torch.meshgrid(centres, centres, indexing="ij")  # (n, n) each
    return torch.stack([x, y], dim=-1).reshape(-1, 2)  # (n, n, 2) → (n², 2)


@dataclass(frozen=True, slots=True)
class ImageMaps:
    """The encoder's output for one image: (1, C, S/16, S/16) and two finer maps."""

    coarse: torch.Tensor
    finer: tuple[torch.Tensor, ...]


class Prompter:
    """A `Sam2Model` with fixed point prompts, which also takes boxes."""

    def __init__(self, model: Any, placement: Placement, points: torch.Tensor) -> None:
        """`points` (P, 2): x and y in pixels of the model's square input."""
        self.placement = placement
        self._model = model
        with torch.inference_mode():
            asked = points.to(placement.device)[None, :, None]  # (P, 2) → (1, P, 1, 2)
            labels = torch.ones(asked.shape[:3], dtype=torch.int64, device=placement.device)
            sparse, dense = model.prompt_encoder(
                input_points=asked, input_labels=labels, input_boxes=None, input_masks=None
            )
            # Positions are computed in float32 and rounded last.
            self._sparse = placement.put(sparse)  # (1, P, 2, C): the point and a padding
            self._dense = placement.put(dense)  # (1, C, S/16, S/16): no mask is prompted
            self._positions = placement.put(model.get_image_wide_positional_embeddings())

    @property
    def points(self) -> int:
        """Number of points."""
        return int(self._sparse.shape[1])

    @torch.inference_mode()
    def embed(self, pixels: torch.Tensor) -> list[ImageMaps]:
        """Encode a batch (B, 3, S, S)."""
        finest, finer, coarse = self._model.get_image_embeddings(pixels)  # (B, C, h, w) each
        return [
            ImageMaps(coarse[row : row + 1], (finest[row : row + 1], finer[row : row + 1]))
            for row in range(len(pixels))
        ]

    @torch.inference_mode()
    def decode(self, maps: ImageMaps, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode one image's masks for the points in [`start`, `stop`).

        Logits (P, M, S/4, S/4) and predicted IoUs (P, M). The M masks of a point are the whole, a
        part and a subpart, because a point alone is ambiguous (Kirillov et al. 2023, §3).
        """
        logits, ious, _, _ = self._model.mask_decoder(
            image_embeddings=maps.coarse,
            image_positional_embeddings=self._positions,
            sparse_prompt_embeddings=self._sparse[:, start:stop],
            dense_prompt_embeddings=self._dense,
            multimask_output=True,
            high_resolution_features=list(maps.finer),
        )
        return logits[0], ious[0]  # (1, P, …) → (P, …)

    @torch.inference_mode()
    def decode_box(self, maps: ImageMaps, corners: torch.Tensor) -> torch.Tensor:
        """Decode the mask of the thing in a box: logits (S/4, S/4).

        `corners` (4,): left, top, right, bottom in pixels of the model's square input.
        """
        sparse, _ = self._model.prompt_encoder(
            input_points=None,
            input_labels=None,
            input_boxes=corners.to(self.placement.device)[None, None],  # (4,) → (1, 1, 4)
            input_masks=None,
        )
        logits, _, _, _ = self._model.mask_decoder(
            image_embeddings=maps.coarse,
            image_positional_embeddings=self._positions,
            sparse_prompt_embeddings=self.placement.put(sparse),
            dense_prompt_embeddings=self._dense,
            # A box is hardly ambiguous, and one mask is then better than three.
            multimask_output=False,
            high_resolution_features=list(maps.finer),
        )
        mask: torch.Tensor = logits[0, 0, 0]  # (1, 1, 1, S/4, S/4) → (S/4, S/4)
        return mask
