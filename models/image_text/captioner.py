"""Captions by an image-text-to-text model of transformers.

A model with a chat template receives one message with the image and the prompt. Others (BLIP)
continue the prompt, which may be empty. The caption is the newly generated text.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement, run_halving


class ImageTextCaptioner:
    """See `regard.core.protocols.Captioner`. Safe to call from several threads.

    Generation is deterministic. Batching does not change captions, except where two tokens are
    equally likely within the dtype's rounding.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        placement: Placement,
        *,
        prompt: str,
        max_new_tokens: int,
        beams: int,
        batch_size: int,
    ) -> None:
        """`beams` = 1 is greedy; `batch_size`: most images in one forward pass."""
        self._model = model
        self._processor = processor
        self._placement = placement
        self._prompt = prompt
        self._generation = {"max_new_tokens": max_new_tokens, "num_beams": beams}
        self._batch_size = batch_size
        # Each call sets the tokenizer's padding, so calls must not overlap.
        self._preparing = threading.Lock()
        tokenizer = processor.tokenizer
        if not model.config.is_encoder_decoder:
            tokenizer.padding_side = (
                "left"  # what is written has to follow the prompt without a gap
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @torch.inference_mode()
    def caption(self, images: Sequence[Image]) -> list[str]:
        """Return one line for each image, empty when the model generates nothing."""
        captions: list[str] = []
        for start in range(0, len(images), self._batch_size):
            chunk = images[start : start + self._batch_size]
            for written in run_halving(self._write, chunk, "an image with its prompt"):
                captions += written
        return captions

    def _write(self, images: Sequence[Image]) -> list[str]:
        with self._preparing:
            inputs = self._inputs(images)
        inputs = inputs.to(self._placement.device, self._placement.dtype)
        generated = self._model.generate(**inputs, **self._generation)  # (n, T)
        written = new_tokens(
            inputs.get("input_ids"), generated, self._model.config.is_encoder_decoder
        )
        texts = self._processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _inputs(self, images: Sequence[Image]) -> Any:
        pictures = [PIL.Image.fromarray(np.ascontiguousarray(image.pixels)) for image in images]
        template = getattr(self._processor, "chat_template", None)
        if template is None:
            texts = {"text": [self._prompt] * len(pictures)} if self._prompt else {}
            return self._processor(images=pictures, **texts, padding=True, return_tensors="pt")
        content = [{"type": "image"}]
        if self._prompt:
            content.append({"type": "text", "text": self._prompt})
        message = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        # A template that begins with BOS must not get a second one.
        begins = self._processor.tokenizer.bos_token
        return self._processor(
            images=[[picture] for picture in pictures],
            text=[message] * len(pictures),
            add_special_tokens=begins is None or not message.startswith(begins),
            padding=True,
            return_tensors="pt",
        )


def new_tokens(prompt: Tensor | None, generated: Tensor, encoder_decoder: bool) -> Tensor:
    """Return the tokens generated after the prompt: (n, P) and (n, T) → (n, up to T).

    Decoders repeat the prompt in their output, BLIP with another first token and without the last.
    Encoder-decoders, and decoders whose prompt is given as embeddings, do not.
    """
    if prompt is None or encoder_decoder:
        return generated
    length = prompt.shape[1]
    if torch.equal(generated[:, :length], prompt):
        return generated[:, length:]
    if length > 2 and torch.equal(generated[:, 1 : length - 1], prompt[:, 1:-1]):
        return generated[:, length - 1 :]
    return generated
