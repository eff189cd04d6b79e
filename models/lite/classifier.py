"""The ImageNet classifier behind everything `lite` sees: images → features → logits.

Torch is imported with the weights on first use, since a text query needs neither.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from regard.core.records import Float32Array, Image

if TYPE_CHECKING:
    from regard.models.lite.network import Network

STRIDE = 32
FEATURES = 1280
CLASSES = 1000
NATIVE_SIDE = 260
_MEAN, _STD = np.float32(127), np.float32(128)  # of uint8 pixels, as the checkpoint was trained


class Classifier:
    """Images → maps of 1280 features, and pooled features → ImageNet logits.

    Images go through one at a time: on a CPU that is faster than a batch, whose activations leave the
    cache, and it makes a batch equal its images one by one exactly. Safe to call from several
    threads; the weights load on first use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two first callers must not load the weights twice
        self._loaded: Network | None = None

    def feature_map(self, image: Image, width: int, height: int) -> Float32Array:
        """Features of the image resized to `width` × `height`.

        Returns float32 of shape (1280, ceil(height / 32), ceil(width / 32)), each in [0, 6].
        """
        network = self._network()
        resized = PIL.Image.fromarray(image.pixels).resize(
            (width, height), PIL.Image.Resampling.BICUBIC
        )
        pixels = (np.asarray(resized, dtype=np.float32) - _MEAN) / _STD  # (h, w, 3)
        return network.features(pixels)

    def logits(self, pooled: Float32Array) -> Float32Array:
        """Class logits of spatially averaged features: (..., 1280) → (..., 1000)."""
        network = self._network()
        return pooled @ network.class_weights.T + network.class_biases

    def _network(self) -> Network:
        with self._lock:
            if self._loaded is None:
                from regard.models.lite.network import load

                self._loaded = load()
            return self._loaded


def limit_threads() -> None:
    """Let each call of torch and of numpy's linear algebra compute on one thread, process-wide."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
