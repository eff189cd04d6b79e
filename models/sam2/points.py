"""The grid of points that the model is asked about, one question each: "what is here?"."""

from __future__ import annotations

import torch


def point_grid(points_per_side: int, image_size: int) -> torch.Tensor:
    """The centres of `points_per_side`² equal tiles, row by row.

    Float32 of shape (n², 2): x and y in pixels of the model's square input, whose side is
    `image_size`. The square stands for the whole photograph, so that the tiles of a wide photograph
    are wide. Source: Kirillov et al. 2023 (arXiv 2304.02643), automatic mask generation.
    """
    centres = (torch.arange(points_per_side) + 0.5) * (image_size / points_per_side)  # (n,)
    y, x = torch.meshgrid(centres, centres, indexing="ij")  # (n, n) each
    return torch.stack([x, y], dim=-1).reshape(-1, 2)  # (n, n, 2) → (n², 2)
