"""Florence-2's model with its published prompts and location tokens.

Source: Xiao et al. 2023 (arXiv 2311.06242): each task is a sentence, and places are tokens of a
grid of 1,000 × 1,000 cells over the image. The vision tower reads an image once for any number of
prompts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.checkpoints.placement import Placement

# The sentences of the published processor.
CAPTION_PROMPTS = {
    "brief": "What does the image describe?",
    "detailed": "Describe in detail what is shown in the image.",
    "paragraph": "Describe with a paragraph what is shown in the image.",
}
REGION_PROMPT = "What does the region {place} describe?"
GROUNDING_PROMPT = "Locate the phrases in the caption: {text}"

_CELLS = 1000
# Tokens of places and of other tasks, such as <loc_17> and </ocr>.
_MARK = re.compile(r"</?[a-z_]+\d*>")
# A prompt with longer text would not leave room for the image's tokens.
_MOST_TEXT_TOKENS = 128


def location_tokens(box: Box, width: int, height: int) -> str:
    """The tokens of a box's left, top, right and bottom in an image of this size in pixels."""
    sides = ((box.x, width), (box.y, height), (box.right, width), (box.bottom, height))
    cells = (min(side * _CELLS // length, _CELLS - 1) for side, length in sides)
    return "".join(f"<loc_{cell}>" for cell in cells)


def located_box(cells: Sequence[int], width: int, height: int) -> Box | None:
    """The box of four locations in an image of this size; None when it has no pixel."""
    left, top, right, bottom = (
        round((cell + 0.5) * length / _CELLS)
        for cell, length in zip(cells, (width, height, width, height), strict=True)
    )
    return Box(left, top, right - left, bottom - top).clipped(width, height)


def plain_text(text: str) -> str:
    """What was generated, as one line without the tokens of places and other tasks."""
    return " ".join(_MARK.sub(" ", text).split())


class Florence2Reader:
    """A loaded Florence-2; generation is deterministic."""

    def __init__(self, model: Any, processor: Any, placement: Placement) -> None:
        self._model = model
        self._processor = processor
        self._placement = placement
        tokenizer = processor.tokenizer
        # Calls in parallel must not set the tokenizer's padding.
        self._tokens = tokenizer.backend_tokenizer
        self._begin, self._end, self._padding = (
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
        )
        self._locations = {
            tokenizer.convert_tokens_to_ids(f"<loc_{cell}>"): cell for cell in range(_CELLS)
        }

    @torch.inference_mode()
    def look(self, images: Sequence[Image]) -> Tensor:
        """The visual tokens of images, (n, P, D)."""
        pictures = [PIL.Image.fromarray(np.ascontiguousarray(image.pixels)) for image in images]
        pixels = self._processor.image_processor(pictures, return_tensors="pt").pixel_values
        features = self._model.get_image_features(self._placement.put(pixels)).pooler_output
        return features  # type: ignore[no-any-return]  # (n, 3, S, S) → (n, P, D)

    @torch.inference_mode()
    def write(
        self, features: Tensor, prompts: Sequence[str], *, beams: int, max_new_tokens: int
    ) -> Any:
        """Generate for a prompt beside each image's visual tokens (n, P, D).

        Returns transformers' output: `sequences` (n, T), begun by two fixed tokens, and `scores`.
        """
        encoded, seen = self._encode(features, prompts)
        return self._model.generate(
            encoder_outputs=encoded,
            attention_mask=seen,
            num_beams=beams,
            max_new_tokens=max_new_tokens,
            return_dict_in_generate=True,
            output_scores=True,
        )

    def texts(self, sequences: Tensor) -> list[str]:
        """Decode generated tokens (n, T), locations included."""
        return self._processor.tokenizer.batch_decode(  # type: ignore[no-any-return]
            sequences, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def first_box(self, generated: Any, row: int) -> tuple[list[int], float] | None:
        """The first four locations in a row, and how sure the model was of them.

        The sureness in (0, 1] is the geometric mean of the four tokens' probabilities.
        """
        sequence = generated.sequences[row].tolist()
        places = [place for place, token in enumerate(sequence) if token in self._locations][:4]
        if len(places) < 4 or places[3] != places[0] + 3:
            return None
        # Step t chose token t + 1: the first token is given.
        logs = [
            torch.log_softmax(generated.scores[place - 1][row].float(), -1)[sequence[place]]
            for place in places
        ]
        cells = [self._locations[sequence[place]] for place in places]
        return cells, float(torch.stack(logs).mean().exp())

    def _encode(self, features: Tensor, prompts: Sequence[str]) -> tuple[Any, Tensor]:
        """Run the encoder over visual tokens (n, P, D) followed by each prompt."""
        rows = [
            [self._begin, *self._ids(prompt)[:_MOST_TEXT_TOKENS], self._end] for prompt in prompts
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self._padding] * (longest - len(row)) for row in rows])
        device = self._placement.device
        words = self._model.get_input_embeddings()(ids.to(device))  # (n, T) → (n, T, D)
        lengths = torch.tensor([[len(row)] for row in rows], device=device)
        is_word = torch.arange(longest, device=device)[None] < lengths  # (n, T)
        seen = torch.cat([torch.ones_like(features[..., 0], dtype=torch.bool), is_word], dim=1)
        embedded = torch.cat([features.to(words.dtype), words], dim=1)  # (n, P + T, D)
        encoder = self._model.get_encoder()
        return encoder(inputs_embeds=embedded, attention_mask=seen.long()), seen.long()

    def _ids(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokens.encode(prompt, add_special_tokens=False).ids
        return ids
