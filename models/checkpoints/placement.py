"""The device and precision a model runs in, and the memory available there."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from regard.core.errors import ModelError, UsageError
from regard.models.memory import available_memory

_DEVICE = re.compile(r"cpu|cuda(:(?P<index>[0-9]{1,4}))?")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a floating dtype."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def resolve(cls, device: str = "auto", dtype: str = "auto") -> Placement:
        """Resolve a profile's device and dtype.

        `auto` is the first GPU and bfloat16 there, else the CPU and float32; `cuda` is the first GPU, so
        that each device has one name. Raises UsageError for an unknown word, ModelError for a GPU that
        is not there.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        found = _DEVICE.fullmatch(device)
        if found is None:
            raise UsageError(
                f"there is no device {device!r}", remedy="use auto, cpu, cuda or cuda:N"
            )
        index = int(found["index"] or 0)
        if device != "cpu" and index >= torch.cuda.device_count():
            raise ModelError(
                f"the device {device} is not on this machine",
                remedy="set the profile's device to auto or cpu",
            )
        resolved = torch.device("cpu") if device == "cpu" else torch.device("cuda", index)
        if dtype == "auto":
            dtype = "bfloat16" if resolved.type == "cuda" else "float32"
        if dtype not in _DTYPES:
            raise UsageError(
                f"there is no dtype {dtype!r}", remedy=f"use auto, {' or '.join(_DTYPES)}"
            )
        return cls(resolved, _DTYPES[dtype])

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return self.dtype.itemsize

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device; floats in the dtype, other kinds as they are."""
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    def free_bytes(self) -> int:
        """Memory that the device has left for this process."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_memory()
