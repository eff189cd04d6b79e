"""Labels and photographs made in memory; every image is 40 × 30 pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from regard.core.geometry import Box
from regard.core.records import Image
from regard.evaluation.labels import LabelledImage, LabelledObject, LabelledSet
from regard.photos.masks import mask_from_box

WIDTH, HEIGHT = 40, 30

WriteSet = Callable[..., Path]


def make_object(text: str, box: Box, *, masked: bool = True) -> LabelledObject:
    """An object whose mask is its whole box."""
    return LabelledObject(text, box, mask_from_box(HEIGHT, WIDTH, box) if masked else None)


def make_labels(
    captions: Mapping[str, Sequence[str]],
    objects: Mapping[str, Sequence[LabelledObject]] | None = None,
) -> LabelledSet:
    """A labelled set without photographs on disk."""
    objects = objects or {}
    return LabelledSet(
        folder=Path("photos"),
        images=tuple(
            LabelledImage(name, WIDTH, HEIGHT, tuple(texts), tuple(objects.get(name, ())))
            for name, texts in captions.items()
        ),
    )


def grey_image(_path: Path) -> Image:
    """A decoder that needs no file."""
    return Image(np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
