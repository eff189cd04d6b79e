"""The box that a text names, by a zero-shot detector of transformers.

Grounding DINO and MM Grounding DINO read the text as a sentence and score each box against every
word of it; OWLv2 reads at most 16 tokens as the name of one thing. Photographs are read one by
one: a batch would pad them to the largest, and so change what is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.checkpoints.placement import Placement, run_halving
from regard.models.parts import Place

# Types that read the whole text at once; OWLv2 has a query for each text.
_SENTENCE_TYPES = frozenset({"grounding-dino", "mm-grounding-dino"})


class ZeroShotDetector:
    """See `regard.models.parts.Locator`."""

    def __init__(
        self, model: Any, processor: Any, placement: Placement, *, threshold: float
    ) -> None:
        """`threshold`: least sureness of a box, in [0, 1]."""
        self._model = model
        self._processor = processor
        self._placement = placement
        self._threshold = threshold
        config = model.config
        self._reads_sentences = config.model_type in _SENTENCE_TYPES
        self._text_length = (
            config.max_text_len
            if self._reads_sentences
            else config.text_config.max_position_embeddings
        )

    def locate(self, images: Sequence[Image], texts: Sequence[str]) -> list[Place | None]:
        """Return the place of each text in its image; None where no box is sure enough."""
        return [
            run_halving(self._locate, [asked], "an image with a text")[0]
            for asked in zip(images, texts, strict=True)
        ]

    @torch.inference_mode()
    def _locate(self, asked: Sequence[tuple[Image, str]]) -> Place | None:
        ((image, text),) = asked
        inputs = self._processor(
            images=[PIL.Image.fromarray(np.ascontiguousarray(image.pixels))],
            # A full stop would end a label of Grounding DINO.
            text=[[" ".join(text.replace(".", " ").split())]],
            truncation=True,
            max_length=self._text_length,
            return_tensors="pt",
        ).to(self._placement.device, self._placement.dtype)
        found = self._model(**inputs)
        scores = found.logits[0].float().sigmoid()  # (boxes, tokens) or (boxes, 1)
        if self._reads_sentences:
            is_word = self._is_word(inputs["input_ids"][0])  # (T,)
            scores = scores[:, : len(is_word)][:, is_word]  # (boxes, words)
        return self._best(scores.cpu(), found.pred_boxes[0].float().cpu(), image)

    def _best(self, scores: Tensor, boxes: Tensor, image: Image) -> Place | None:
        """The box that agrees best with all words, among those that are sure of one of them.

        Scores (boxes, words) in [0, 1]; boxes as centre and size in shares of the input.
        """
        if not scores.numel():
            return None
        surest = scores.amax(dim=1)  # (boxes,)
        for row in scores.mean(dim=1).argsort(descending=True, stable=True).tolist():
            box = self._pixels(boxes[row].tolist(), image)
            # OWLv2 has boxes in its padding too.
            if surest[row] >= self._threshold and box is not None:
                return Place(box, float(surest[row]))
        return None

    def _pixels(self, box: Sequence[float], image: Image) -> Box | None:
        """A box in the image's pixels; None when it covers none."""
        width, height = image.width, image.height
        if not self._reads_sentences:
            # OWLv2 pads an image to a square, to the right or below.
            width = height = max(width, height)
        x, y, w, h = box
        left, top = round((x - w / 2) * width), round((y - h / 2) * height)
        right, bottom = round((x + w / 2) * width), round((y + h / 2) * height)
        return Box(left, top, right - left, bottom - top).clipped(image.width, image.height)

    def _is_word(self, ids: Tensor) -> Tensor:
        """Which tokens (T,) belong to words rather than to the text's form."""
        tokenizer = self._processor.tokenizer
        form = [*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids(".")]
        return ~torch.isin(ids, torch.tensor(form, device=ids.device))
