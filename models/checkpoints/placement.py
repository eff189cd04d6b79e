"""The device and precision in which a model runs, and running within the device's memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from regard.core.errors import ModelError, UsageError
from regard.models.checkpoints.memory import available_memory

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

        `auto` means the first GPU and bfloat16, or else the CPU and float32; `cuda` means the
        first GPU. Raises UsageError for an unknown name, ModelError for an absent GPU.
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
        """Bytes of one element."""
        return self.dtype.itemsize

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move a tensor to the device, and a floating one to the dtype."""
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    def free_bytes(self) -> int:
        """Bytes available to this process on the device."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_memory()


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_halving(
    run: Callable[[Sequence[_Item]], _Result], items: Sequence[_Item], what: str
) -> list[_Result]:
    """Run over all items at once if GPU memory allows, else over smaller pieces, in order.

    A piece that does not fit is halved. Raises ModelError, naming `what`, when a single item does
    not fit.
    """
    waiting, results = [items], []
    while waiting:
        piece = waiting.pop()
        result = _attempt(run, piece)
        if result is not None:
            results.append(result[0])
        elif len(piece) > 1:
            # The failed attempt's memory is released only outside its exception handler.
            torch.cuda.empty_cache()
            half = (len(piece) + 1) // 2
            waiting += [piece[half:], piece[:half]]
        else:
            raise ModelError(
                f"{what} does not fit into the GPU's memory, even alone",
                remedy="free memory, or set the profile's device to cpu",
            )
    return results


def _attempt(
    run: Callable[[Sequence[_Item]], _Result], piece: Sequence[_Item]
) -> tuple[_Result] | None:
    try:
        return (run(piece),)
    except torch.cuda.OutOfMemoryError:
        return None
