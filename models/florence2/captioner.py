"""Captions of images and of regions by Florence-2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.checkpoints.placement import run_halving
from regard.models.florence2.reader import (
    CAPTION_PROMPTS,
    REGION_PROMPT,
    Florence2Reader,
    location_tokens,
    plain_text,
)


class Florence2Captioner:
    """See `regard.core.protocols.Captioner` and `regard.models.parts.RegionCaptioner`.

    A region is named by its place in the whole image, so that its surroundings are seen too.
    """

    def __init__(
        self,
        reader: Florence2Reader,
        *,
        detail: str,
        beams: int,
        max_new_tokens: int,
        batch_size: int,
    ) -> None:
        """`detail`: a key of `CAPTION_PROMPTS`; `batch_size`: most images or regions at once."""
        self._reader = reader
        self._prompt = CAPTION_PROMPTS[detail]
        self._beams = beams
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size

    def caption(self, images: Sequence[Image]) -> list[str]:
        """Return one line for each image."""
        return self._write([(image, self._prompt) for image in images])

    def caption_regions(
        self, images: Sequence[Image], boxes: Sequence[Sequence[Box]]
    ) -> list[list[str]]:
        """Return one line for each box of each image."""
        asked = [
            (image, REGION_PROMPT.format(place=location_tokens(box, image.width, image.height)))
            for image, its_boxes in zip(images, boxes, strict=True)
            for box in its_boxes
        ]
        lines = iter(self._write(asked))
        return [[next(lines) for _ in its_boxes] for its_boxes in boxes]

    def _write(self, asked: Sequence[tuple[Image, str]]) -> list[str]:
        lines: list[str] = []
        for start in range(0, len(asked), self._batch_size):
            chunk = asked[start : start + self._batch_size]
            for written in run_halving(self._write_chunk, chunk, "an image with its prompt"):
                lines += written
        return lines

    def _write_chunk(self, asked: Sequence[tuple[Image, str]]) -> list[str]:
        # The regions of an image follow one another: it is read once.
        images = list({id(image): image for image, _ in asked}.values())
        features = dict(zip(map(id, images), self._reader.look(images), strict=True))
        visual: Tensor = torch.stack([features[id(image)] for image, _ in asked])  # (n, P, D)
        generated = self._reader.write(
            visual,
            [prompt for _, prompt in asked],
            beams=self._beams,
            max_new_tokens=self._max_new_tokens,
        )
        return [plain_text(text) for text in self._reader.texts(generated.sequences)]
