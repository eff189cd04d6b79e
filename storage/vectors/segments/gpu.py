"""Sealed segments searched on GPU copies.

FAISS' GPU indexes can't remove rows, take no `IDSelector`, return at most 2048 neighbours, and
share a `StandardGpuResources` that is not thread-safe. So a copy is never changed, filtering
happens on what it returns (see `Sealed.scan`), and one lock a GPU covers copying, searching and
freeing.

A float16 scalar quantizer becomes a flat GPU index that stores float16 and rounds the queries to
float16 as well: its scores are off in the fourth digit. The error it declares makes the caller
fetch a few rows more and score them exactly.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from regard.core.records import Float32Array, Int64Array
from regard.storage.vectors.faiss_library import gpu_count, load_faiss
from regard.storage.vectors.segments.nearest import float32_error
from regard.storage.vectors.segments.segment import Segment

_logger = logging.getLogger(__name__)

# Registers of the GPU's selection kernels hold no more (`getMaxKSelection`).
_MAX_K = 2048
# Rounding a unit query to float16 moves an inner product by 2^-11 at most; the rest is for
# subnormals.
_FLOAT16_QUERY_ERROR = 2.0**-10


class GpuDevice:
    """One GPU; `clone` makes a GPU index of a CPU index, and raises RuntimeError without room."""

    def __init__(self, clone: Callable[[Any], Any]) -> None:
        self._clone = clone
        # Reentrant, for a copy may be collected, and so freed, by the thread that is searching.
        self._lock = threading.RLock()

    def copy(self, segment: Segment) -> GpuCopy | None:
        """A copy of the segment on this GPU; None, with a warning, when it has no room."""
        try:
            with self._lock:
                return GpuCopy(self._clone(segment.faiss_index), self._lock, segment.dimension)
        except RuntimeError as error:
            _logger.warning("a segment of %d rows stays on the CPU: %s", len(segment), error)
            return None


class GpuCopy:
    """A segment's copy on a GPU."""

    max_k = _MAX_K

    def __init__(self, gpu_index: Any, lock: threading.RLock, dimension: int) -> None:
        self._gpu_index = gpu_index
        self._lock = lock
        self.error = _FLOAT16_QUERY_ERROR + float32_error(dimension)

    def search(self, queries: Float32Array, k: int) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows: scores (n, k), descending, and positions (n, k), -1 past the last."""
        # In float16 a long query overflows and a short one vanishes; a unit query does neither.
        norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        norms[norms == 0] = 1
        units = (queries / norms).astype(np.float32)
        with self._lock:
            scores, positions = self._gpu_index.search(units, k)
        return (scores * norms).astype(np.float32), positions

    def __del__(self) -> None:
        # Freeing GPU memory goes through the shared resources too.
        with self._lock:
            self._gpu_index = None


@functools.cache
def gpu_devices() -> tuple[GpuDevice, ...]:
    """The GPUs that FAISS can use, the same objects for every index; none with a CPU build."""
    return tuple(_open(number) for number in range(gpu_count()))


def _open(number: int) -> GpuDevice:
    faiss = load_faiss()
    resources = faiss.StandardGpuResources()
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    if hasattr(options, "use_cuvs"):
        # cuVS has no float16 flat index; builds with it prefer it unless told otherwise.
        options.use_cuvs = False
    return GpuDevice(
        lambda cpu_index: faiss.index_cpu_to_gpu(resources, number, cpu_index, options)
    )
