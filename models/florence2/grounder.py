"""The place that a text names, by Florence-2's phrase grounding."""

from __future__ import annotations

from collections.abc import Sequence

from regard.core.records import Image
from regard.models.checkpoints.placement import run_halving
from regard.models.florence2.reader import GROUNDING_PROMPT, Florence2Reader, located_box
from regard.models.parts import Place

# A phrase of some words, and a few boxes.
_MOST_TOKENS = 64


class Florence2Locator:
    """See `regard.models.parts.Locator`.

    The model writes the text's phrases in order, each with its boxes: the first box of the first
    phrase, which mostly is what a query is about, is taken.
    """

    def __init__(self, reader: Florence2Reader, *, threshold: float, batch_size: int) -> None:
        """`threshold`: least sureness of a box, in [0, 1]."""
        self._reader = reader
        self._threshold = threshold
        self._batch_size = batch_size

    def locate(self, images: Sequence[Image], texts: Sequence[str]) -> list[Place | None]:
        """Return the place of each text in its image; None where the model is not sure enough."""
        asked = list(zip(images, texts, strict=True))
        places: list[Place | None] = []
        for start in range(0, len(asked), self._batch_size):
            chunk = asked[start : start + self._batch_size]
            for located in run_halving(self._locate, chunk, "an image with a text"):
                places += located
        return places

    def _locate(self, asked: Sequence[tuple[Image, str]]) -> list[Place | None]:
        generated = self._reader.write(
            self._reader.look([image for image, _ in asked]),
            [GROUNDING_PROMPT.format(text=text) for _, text in asked],
            beams=1,
            max_new_tokens=_MOST_TOKENS,
        )
        places: list[Place | None] = []
        for row, (image, _) in enumerate(asked):
            found = self._reader.first_box(generated, row)
            box = None if found is None else located_box(found[0], image.width, image.height)
            is_sure = found is not None and found[1] >= self._threshold
            places.append(Place(box, found[1]) if found and box and is_sure else None)
        return places
