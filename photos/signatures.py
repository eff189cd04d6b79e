"""Makes the signature of a photograph from its decoded pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from regard.core.records import Image
from regard.core.signatures import Signature, signature_shape

_SAMPLES = 16


def sign(image: Image) -> Signature:
    """The signature of decoded pixels; the same pixels give the same bytes."""
    rows, columns = signature_shape(image.width, image.height)
    # Of a large picture every n-th pixel: 16 × 16 of them still stand behind each of the signature's.
    across = max(1, image.width // (_SAMPLES * columns))
    down = max(1, image.height // (_SAMPLES * rows))
    sampled = image.pixels[down // 2 :: down, across // 2 :: across]
    grey = Pillow.fromarray(np.ascontiguousarray(sampled))
    # Whole steps first, which is exact averaging; then a filter that leaves nothing to alias.
    grey = grey.reduce(
        (max(1, grey.width // (4 * columns)), max(1, grey.height // (4 * rows)))
    ).convert("L")
    small = grey.resize((columns, rows), Pillow.Resampling.BILINEAR)
    return Signature(np.asarray(small, np.uint8), image.width, image.height)
