"""The ImageNet classifier of `lite`: images → features → logits.

The runtime and the weights load on first use, because a text query needs neither.
"""

from __future__ import annotations

import threading

import numpy as np
import PIL.Image

from regard.core.records import Float32Array, Image
from regard.models.lite.network import Network, load
from regard.models.lite.runtime import Features, make_features

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
        self._loaded: tuple[Network, Features] | None = None

    def feature_map(self, image: Image, width: int, height: int) -> Float32Array:
        """Return features of the image resized to `width` × `height` pixels.

        Shape (1280, ceil(height / 32), ceil(width / 32)), float32 in [0, 6].
        """
        _, features = self._load()
        resized = PIL.Image.fromarray(image.pixels).resize(
            (width, height), PIL.Image.Resampling.BICUBIC
        )
        pixels = (np.asarray(resized, dtype=np.float32) - _MEAN) / _STD  # (h, w, 3)
        return features(pixels)

    def logits(self, pooled: Float32Array) -> Float32Array:
        """Return class logits of spatially averaged features: (..., 1280) → (..., 1000)."""
        network, _ = self._load()
        return pooled @ network.class_weights.T + network.class_biases

    def _load(self) -> tuple[Network, Features]:
        with self._lock:
            if self._loaded is None:
                network = load()
                self._loaded = network, make_features(network)
            return self._loaded


def limit_linear_algebra() -> None:
    """Limit numpy's linear algebra to one thread for each call, process-wide."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
