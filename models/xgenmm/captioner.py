"""Captions by xGen-MM: the tower encodes an image's tiles, whose tokens go into a prompt.

`caption` consists of three public steps, `prepare`, `features` and `caption_features`, so a caller
that has already run the same tower can pass its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement, run_halving
from regard.models.checkpoints.source import Checkpoint
from regard.models.xgenmm.anyres import (
    Size,
    choose_resolution,
    cut_tiles,
    normalised,
    squash,
)
from regard.models.xgenmm.config import PAD, read_config
from regard.models.xgenmm.loading import load_model
from regard.models.xgenmm.model import XGenMM, generate
from regard.models.xgenmm.prompting import Prompting, XGenMMParameters, read_examples
from regard.models.xgenmm.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tower's input for an image: `pixels` (1 + tiles, 3, b, b) float32, the whole view first.

    `size` is the image's own, (width, height).
    """

    pixels: Tensor
    size: Size


class XGenMMCaptioner:
    """See `regard.core.protocols.Captioner`. Safe to call from several threads.

    Batching does not change captions, except where two tokens are equally likely within rounding
    (1e-5 of the logits in float32).
    """

    def __init__(
        self,
        model: XGenMM,
        placement: Placement,
        tokenizer: PromptTokenizer,
        parameters: XGenMMParameters,
        examples: Sequence[tuple[Image, str]] = (),
    ) -> None:
        """`examples`: images with captions that precede each image in the prompt."""
        self._model = model
        self._placement = placement
        self._tokenizer = tokenizer
        self._parameters = parameters
        captions = [caption for _, caption in examples]
        prompting = Prompting(model.config, parameters)
        self._prompt = tokenizer.encode(prompting.prompt(captions))
        self._examples = [self._tokens_of(image) for image, _ in examples]

    @property
    def tower(self) -> nn.Module:
        """The vision model, possibly shared with an encoder."""
        return self._model.tower

    @property
    def squash_size(self) -> Size | None:
        """(width, height) of a plain bicubic resize to [−1, 1], else None."""
        config = self._model.config
        if config.mean != (0.5, 0.5, 0.5) or config.std != (0.5, 0.5, 0.5):
            return None
        return config.tower.image_size, config.tower.image_size

    def caption(self, images: Sequence[Image]) -> list[str]:
        """Return one sentence for each image."""
        captions: list[str] = []
        count = self._parameters.batch_size
        for start in range(0, len(images), count):
            tiles = [self.prepare(image) for image in images[start : start + count]]
            pixels = torch.cat([item.pixels for item in tiles])  # (sum of 1 + tiles, 3, b, b)
            features = torch.split(self.features(pixels), [len(item.pixels) for item in tiles])
            captions += self.caption_features(features, [item.size for item in tiles])
        return captions

    def prepare(self, image: Image) -> Tiles:
        """Return the resized whole view and, for an instruct model with `tiles`, its tiles."""
        config = self._model.config
        side = config.tower.image_size
        size = (image.width, image.height)
        views = squash(image.pixels, (side, side))[None]  # (1, b, b, 3)
        if config.instruct and self._parameters.tiles:
            tiles = cut_tiles(image.pixels, choose_resolution(size, config.pinpoints), side)
            views = np.concatenate([views, tiles])  # (1 + tiles, b, b, 3)
        return Tiles(torch.from_numpy(normalised(views, config.mean, config.std)), size)

    def features(self, pixels: Tensor) -> Tensor:
        """Run the tower: (n, 3, b, b) float32 → (n, P, D).

        Processes `batch_size` tiles at once, fewer when GPU memory is short.
        """
        seen: list[Tensor] = []
        for chunk in torch.split(pixels, self._parameters.batch_size):
            seen += run_halving(self._see, list(chunk), "a tile of an image")
        return torch.cat(seen)

    def caption_features(self, features: Sequence[Tensor], sizes: Sequence[Size]) -> list[str]:
        """Caption images from their features (1 + tiles, P, D) and sizes.

        Processes `batch_size` images at once, fewer when GPU memory is short.
        """
        pairs = list(zip(features, sizes, strict=True))
        count = self._parameters.batch_size
        written = (
            run_halving(self._write, pairs[start : start + count], "a caption")
            for start in range(0, len(pairs), count)
        )
        return [sentence for pieces in written for piece in pieces for sentence in piece]

    def _see(self, tiles: Sequence[Tensor]) -> Tensor:
        """(3, b, b) each → (n, P, D)."""
        return self._model.features(self._placement.put(torch.stack(list(tiles))))

    def _write(self, seen: Sequence[tuple[Tensor, Size]]) -> list[str]:
        """Generate captions for one batch of images."""
        config = self._model.config
        visual = [
            [*self._examples, self._model.visual_tokens(features, size)] for features, size in seen
        ]
        embeddings, mask = self._model.embed([self._prompt] * len(visual), visual)
        written = generate(
            self._model.language,
            embeddings,
            mask,
            stop_ids=config.stop_ids,
            pad_id=config.token_ids[PAD],
            max_new_tokens=self._parameters.max_new_tokens,
            beams=self._parameters.beams,
        )
        return [self._tokenizer.caption(row) for row in written.tolist()]

    def _tokens_of(self, image: Image) -> Tensor:
        tiles = self.prepare(image)
        return self._model.visual_tokens(self.features(tiles.pixels), tiles.size)  # (N, E)


def load_captioner(
    checkpoint: Checkpoint,
    parameters: XGenMMParameters,
    placement: Placement,
    tower: nn.Module | None = None,
) -> XGenMMCaptioner:
    """Load the captioner onto the device; raises ModelError.

    `captioner.tower is tower` when the given tower has this checkpoint's weights; see
    `load_model`.
    """
    config = read_config(checkpoint)
    tokenizer = PromptTokenizer.read(checkpoint, config.token_ids)
    model = load_model(checkpoint, config, placement, tower)
    return XGenMMCaptioner(model, placement, tokenizer, parameters, read_examples(parameters))
