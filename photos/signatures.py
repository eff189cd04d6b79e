"""Computes the signature of a photograph from its decoded pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from regard.core.records import Image
from regard.core.signatures import Signature, signature_shape

_SAMPLES = 16


def sign(image: Image) -> Signature:
    """Compute the signature; the same pixels give the same bytes."""
    rows, columns = signature_shape(image.width, image.height)
    # Take every n-th pixel of a large image; each signature pixel still averages 16 × 16 of them.
    across = max(1, image.width // (_SAMPLES * columns))
    down = max(1, image.height // (_SAMPLES * rows))
    sampled = image.pixels[down // 2 :: down, across // 2 :: across]
    grey = Pillow.fromarray(np.ascontiguousarray(sampled))
    # Average in whole steps first, then filter, so that nothing aliases.
    grey = grey.reduce(
        (max(1, grey.width // (4 * columns)), max(1, grey.height // (4 * rows)))
    ).convert("L")
    small = grey.resize((columns, rows), Pillow.Resampling.BILINEAR)
    return Signature(np.asarray(small, np.uint8), image.width, image.height)
