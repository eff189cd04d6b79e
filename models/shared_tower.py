"""One forward pass of a vision tower for two uses: the image's embedding and its caption.

BLIP-3 keeps SigLIP's tower frozen, so the features that the captioner reads are those that the
embedding pools. Where encoder and captioner hold the same weights, each image (and each tile that the
captioner cuts it into) goes through the tower once; the whole image's features are then pooled for the
embedding, and all of them are captioned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Float32Array, Image
from regard.models.batching import run_halving
from regard.models.composition import ComposedAnalyzer
from regard.models.contrastive.encoder import ContrastiveEncoder
from regard.models.xgenmm.captioner import XGenMMCaptioner


def shared_analyzer(
    encoder: Encoder,
    captioner: Captioner,
    segmenter: Segmenter | None,
    captioner_name: str,
    caption_regions: bool,
) -> SharedTowerAnalyzer | None:
    """The analyzer of one pass, or None where the two do not see the same with the same weights."""
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
    """Analyses a batch; an image's embedding and caption come from one pass through the tower."""

    def __init__(
        self,
        encoder: ContrastiveEncoder,
        captioner: XGenMMCaptioner,
        segmenter: Segmenter | None,
        *,
        captioner_name: str,
        caption_regions: bool,
    ) -> None:
        """Encoder and captioner have to share their tower; see `shared_analyzer`."""
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
