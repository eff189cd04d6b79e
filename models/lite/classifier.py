"""The ImageNet classifier of `lite`: images → features → logits.

Torch and the weights load on first use, because a text query needs neither.
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
_MEAN, _STD = np.float32(127), np.float32(128)  # of uint8 pixels, from the checkpoint's training


class Classifier:
    """Maps images to feature maps, and pooled features to ImageNet logits. Thread-safe.

    Images pass one at a time: on a CPU this is faster than a batch, whose activations exceed the
    cache, and makes results independent of batching.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # concurrent first calls must load the weights once
        self._loaded: Network | None = None

    def feature_map(self, image: Image, width: int, height: int) -> Float32Array:
        """Return features of the image resized to `width` × `height` pixels.

        Shape (1280, ceil(height / 32), ceil(width / 32)), float32 in [0, 6].
        """
        network = self._network()
        resized = PIL.Image.fromarray(image.pixels).resize(
            (width, height), PIL.Image.Resampling.BICUBIC
        )
        pixels = (np.asarray(resized, dtype=np.float32) - _MEAN) / _STD  # (h, w, 3)
        return network.features(pixels)

    def logits(self, pooled: Float32Array) -> Float32Array:
        """Return class logits of spatially averaged features: (..., 1280) → (..., 1000)."""
        network = self._network()
        return pooled @ network.class_weights.T + network.class_biases

    def _network(self) -> Network:
        with self._lock:
            if self._loaded is None:
                from regard.models.lite.network import load

                self._loaded = load()
            return self._loaded


def limit_threads() -> None:
    """Limit torch and numpy's linear algebra to one thread for each call, process-wide."""
    import torch

    torch.set_num_threads(1)
    limit_linear_algebra()


def limit_linear_algebra() -> None:
    """Limit numpy's linear algebra to one thread for each call, process-wide."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
