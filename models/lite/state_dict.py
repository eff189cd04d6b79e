"""Reads a state dict in torch's format before 1.6, without torch.

Importing torch takes 2 s and 200 MB, more than everything else that the analysis of one photograph
needs. The format is five pickles (magic number, version, system, state dict, names of storages),
and then each storage: its length as an int64 and its numbers, little-endian.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


def read_state_dict(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a state dict as read-only views of `content`.

    `content` must have been verified: only classes of tensors are made, but a forged length could
    still read other numbers of the file.
    """
    stream = io.BytesIO(content)
    storages: dict[str, _Storage] = {}
    *_, tensors, names = (_Unpickler(stream, storages).load() for _ in range(5))
    for name in names:
        length = int.from_bytes(stream.read(8), "little")
        dtype = np.dtype(storages[name].dtype)
        storages[name].numbers = np.frombuffer(content, dtype, length, stream.tell())
        stream.seek(length * dtype.itemsize, io.SEEK_CUR)
    return {
        name: np.lib.stride_tricks.as_strided(
            storage.numbers[start : start + math.prod(shape)],
            shape,
            [step * storage.numbers.itemsize for step in strides],
        )
        for name, (storage, start, shape, strides) in tensors.items()
    }


@dataclass(slots=True)
class _Storage:
    """A run of numbers in the checkpoint, which follow after everything that refers to them."""

    dtype: str
    numbers: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0))


class _Unpickler(pickle.Unpickler):
    """Returns tensors as (storage, first number, shape, strides), and refuses other classes."""

    def __init__(self, stream: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        return _CLASSES[module, name]

    def persistent_load(self, saved: tuple[Any, ...]) -> _Storage:
        _, dtype, name, *_ = saved
        return self._storages.setdefault(name, _Storage(dtype))


_CLASSES = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *tensor: tensor[:4],
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}
