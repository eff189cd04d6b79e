"""Encodes images, regions and texts with a contrastive model.

Preprocessing runs on CPU threads, one chunk ahead of the device. Pixels move as uint8 and are
normalised on the device. Results stay on the device until the end, so nothing waits for the GPU in
between. Calls share only weights and may run in parallel.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from regard.core.errors import ModelError
from regard.core.geometry import Box, Mask
from regard.core.machine import usable_cores
from regard.core.records import Float32Array, Image, Space, UInt8Array
from regard.models.checkpoints.placement import Placement, run_halving
from regard.models.contrastive.architecture import Family
from regard.models.contrastive.loading import ContrastiveModel
from regard.models.contrastive.pixels import vision_inputs
from regard.models.contrastive.preprocessing import Preprocessing, RegionViews
from regard.models.contrastive.text import TextTokenizer

_View = Callable[[], UInt8Array]  # cuts its part out of an image when called


class ContrastiveEncoder:
    """See `regard.core.protocols.Encoder`.

    Batching changes each component by at most 1e-5 in float32, 1e-2 in bfloat16. `logit_scale` and
    `logit_bias` come from training: logit = cosine × exp(logit_scale) + logit_bias; None if the
    model has none.
    """

    takes_texts = True

    def __init__(
        self,
        model: ContrastiveModel,
        space: Space,
        preprocessing: Preprocessing,
        tokenizer: TextTokenizer,
        views: RegionViews,
        batch_size: int,
    ) -> None:
        """`batch_size`: most images, regions or texts in one forward pass."""
        self._model = model
        self._module = model.module
        self._placement: Placement = model.placement
        self._space = space
        self._tokenizer = tokenizer
        self._views = views
        self._batch_size = batch_size
        self.preprocessing = preprocessing
        self.logit_scale = model.logit_scale
        self.logit_bias = model.logit_bias

    @property
    def cosine_scale(self) -> float | None:
        """See `regard.core.protocols.Encoder`."""
        return None if self.logit_scale is None else math.exp(self.logit_scale)

    @property
    def space(self) -> Space:
        """The space shared by both towers."""
        return self._space

    @property
    def squash_size(self) -> tuple[int, int] | None:
        """(width, height) of a plain bicubic resize to [−1, 1], else None."""
        return self.preprocessing.squash_size

    @property
    def tower(self) -> nn.Module:
        """The vision model; SigLIP's gives `last_hidden_state` (n, P, D) after
        `post_layernorm`."""
        return self._module.get_submodule("vision_model")

    @property
    def shares_tower(self) -> bool:
        """Whether rows depend only on the tower's last hidden state, as `pool` requires."""
        return self._model.family is Family.SIGLIP

    @torch.inference_mode()
    def pool(self, hidden: Tensor) -> Float32Array:
        """Pool the tower's `last_hidden_state` (n, P, D) to the rows (n, d) of `encode_images`.

        Raises ModelError when `shares_tower` is false.
        """
        if not self.shares_tower:
            raise ModelError(f"{self._space.name} can't share its vision tower")
        head = self.tower.get_submodule("head")
        return _rows(head(self._placement.put(hidden))).cpu().numpy()  # (n, P, D) → (n, d)

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        """Embed whole images, shape (n, d)."""
        return self._encode_views([partial(_whole, image) for image in images])

    def encode_regions(
        self,
        images: Sequence[Image],
        boxes: Sequence[Sequence[Box]],
        masks: Sequence[Sequence[Mask | None]],
    ) -> list[Float32Array]:
        """Embed regions, (r, d) for each image; batches span images."""
        views = [
            partial(self._views.pixels, image, box, mask)
            for image, its_boxes, its_masks in zip(images, boxes, masks, strict=True)
            for box, mask in zip(its_boxes, its_masks, strict=True)
        ]
        ends = np.cumsum([len(its_boxes) for its_boxes in boxes], dtype=np.int64)
        return np.split(self._encode_views(views), ends[:-1]) if len(ends) else []

    @torch.inference_mode()
    def knows(self, word: str) -> bool:
        """See `TextTokenizer.knows`."""
        return self._tokenizer.knows(word)

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed sentences, shape (n, d); tokens beyond the model's text length are ignored."""
        rows: list[Tensor] = []
        for start in range(0, len(texts), self._batch_size):
            chunk = texts[start : start + self._batch_size]
            rows += run_halving(self._text_rows, chunk, "a text")
        return self._stacked(rows)

    @torch.inference_mode()
    def _encode_views(self, views: Sequence[_View]) -> Float32Array:
        rows: list[Tensor] = []
        for chunk in self._prepared(views):
            rows += run_halving(self._image_rows, chunk, "an image")
        return self._stacked(rows)

    def _prepared(self, views: Sequence[_View]) -> Iterator[Sequence[UInt8Array]]:
        """Yield chunks of preprocessed views, preparing one chunk ahead."""

        def prepare(view: _View) -> UInt8Array:
            return self.preprocessing.prepare(view())

        size = self._batch_size
        ahead: deque[list[Future[UInt8Array]]] = deque()
        with ThreadPoolExecutor(usable_cores()) as pool:
            for start in range(0, len(views) + size, size):
                if start < len(views):
                    ahead.append(
                        [pool.submit(prepare, view) for view in views[start : start + size]]
                    )
                if start:
                    yield [future.result() for future in ahead.popleft()]

    def _image_rows(self, prepared: Sequence[UInt8Array]) -> Tensor:
        """Rows (n, d) float32 on the device from preprocessed images."""
        inputs = vision_inputs(prepared, self.preprocessing, self._placement)
        pooled = self.tower(**inputs).pooler_output  # (n, D)
        if self._model.family is Family.CLIP:
            pooled = self._module.get_submodule("visual_projection")(pooled)  # (n, D) → (n, d)
        return _rows(pooled)

    def _text_rows(self, texts: Sequence[str]) -> Tensor:
        """Rows (n, d) float32 on the device."""
        tokens, seen = (
            self._placement.put(torch.from_numpy(it)) for it in self._tokenizer.encode(texts)
        )
        text_model = self._module.get_submodule("text_model")
        if self._model.family is Family.CLIP:
            pooled = text_model(
                input_ids=tokens, attention_mask=seen
            ).pooler_output  # (n, T) → (n, D)
            return _rows(self._module.get_submodule("text_projection")(pooled))  # (n, d)
        # SigLIP was trained with visible padding, so there is no mask.
        return _rows(text_model(input_ids=tokens).pooler_output)  # (n, T) → (n, d)

    def _stacked(self, rows: Sequence[Tensor]) -> Float32Array:
        if not rows:
            return np.zeros((0, self._space.dimension), dtype=np.float32)
        return torch.cat(list(rows)).cpu().numpy()


def _whole(image: Image) -> UInt8Array:
    return image.pixels


def _rows(pooled: Tensor) -> Tensor:
    """L2-normalise rows in float32."""
    return functional.normalize(pooled.float(), dim=-1)
