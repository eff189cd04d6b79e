"""An analyzer in which encoder and captioner share one pass of the vision tower.

BLIP-3 keeps SigLIP's tower frozen, so its captioner reads the same features that the embedding
pools. When both hold the same weights, each image and each of its tiles passes through the tower
once. The whole image's features are pooled for the embedding; all features are used for the
caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Float32Array, Image
from regard.models.checkpoints.placement import run_halving
from regard.models.contrastive.encoder import ContrastiveEncoder
from regard.models.profiles.composition import ComposedAnalyzer
from regard.models.xgenmm.captioner import XGenMMCaptioner


def shared_analyzer(
    encoder: Encoder,
    captioner: Captioner,
    segmenter: Segmenter | None,
    captioner_name: str,
    caption_regions: bool,
) -> SharedTowerAnalyzer | None:
    """Make the analyzer, or return None when tower or preprocessing differ."""
    if (
        isinstance(encoder, ContrastiveEncoder)
        and isinstance(captioner, XGenMMCaptioner)
        and encoder.tower is captioner.tower
        and encoder.squash_size == captioner.squash_size
    ):
        return SharedTowerAnalyzer(
            encoder,
            captioner,
            segmenter,
            captioner_name=captioner_name,
            caption_regions=caption_regions,
        )
    return None


class SharedTowerAnalyzer(ComposedAnalyzer):
    """Analyses a batch with one pass of the tower for an image's embedding and caption."""

    def __init__(
        self,
        encoder: ContrastiveEncoder,
        captioner: XGenMMCaptioner,
        segmenter: Segmenter | None,
        *,
        captioner_name: str,
        caption_regions: bool,
    ) -> None:
        """Encoder and captioner must share their tower; see `shared_analyzer`."""
        super().__init__(
            [encoder],
            captioner,
            segmenter,
            captioner_name=captioner_name,
            caption_regions=caption_regions,
        )
        self._encoder = encoder
        self._reader = captioner

    def _look(self, images: Sequence[Image]) -> tuple[Mapping[str, Float32Array], Sequence[str]]:
        prepared = [self._reader.prepare(image) for image in images]
        counts = [len(tiles.pixels) for tiles in prepared]
        pixels = torch.cat([tiles.pixels for tiles in prepared])  # (sum of 1 + tiles, 3, b, b)
        features = self._reader.features(pixels)  # (sum of 1 + tiles, P, D)
        by_image = torch.split(features, counts)
        whole = [item[0] for item in by_image]  # (P, D) each
        rows = np.concatenate(run_halving(self._pool, whole, "an image"))  # (n, d)
        sentences = self._reader.caption_features(by_image, [tiles.size for tiles in prepared])
        return {self._encoder.space.name: rows}, sentences

    def _pool(self, hidden: Sequence[Tensor]) -> Float32Array:
        """(P, D) each → (n, d)."""
        return self._encoder.pool(torch.stack(list(hidden)))
