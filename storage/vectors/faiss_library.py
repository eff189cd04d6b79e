"""FAISS, imported when the first vector index is built.

FAISS comes with an extra, because its CPU and GPU builds exclude each other. `regard --help` and
all that needs no index run without it.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regard.core.errors import MissingDependency

_import_lock, _is_loaded = threading.Lock(), threading.Event()


def load_faiss() -> Any:
    """The `faiss` module; raises MissingDependency where neither build is installed."""
    if (loaded := sys.modules.get("faiss")) is not None and _is_loaded.is_set():
        return loaded
    # Importing FAISS may use what Python or NumPy deprecates (SWIG types without `__module__`,
    # `numpy.core`), which no caller can mend. The filters are global to the process, so only one
    # thread at a time may set them aside.
    with _import_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            faiss = importlib.import_module("faiss")
            _is_loaded.set()
            return faiss
        except ModuleNotFoundError as error:
            if error.name != "faiss":
                raise
            raise MissingDependency(
                "the vector index needs FAISS, which is not installed",
                remedy="run: pip install 'regard[cpu]' (with an NVIDIA GPU: pip install 'regard[gpu]')",
            ) from error


def gpu_count() -> int:
    """How many GPUs this build of FAISS can use; 0 with a CPU build."""
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    return int(faiss.get_num_gpus())


@contextmanager
def faiss_threads(count: int) -> Iterator[Any]:
    """The `faiss` module, which takes so many threads for calls of this thread.

    For few queries, starting others takes longer than it saves.
    """
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)
