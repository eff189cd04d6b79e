"""Clocks, operation counts and floors for `models.py`: the best possible figures on this machine.

A floor is the larger of two times: the operations that torch's own counter finds in the call, over
the measured rate of large square matrix products; and the bytes that cannot but be moved, over the
measured rate of a large copy. Both rates are of this device and dtype, measured in the same run,
never a data sheet's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from regard.models.checkpoints.placement import Placement

Call = Callable[[], Any]

# A figure is the median of so many timed calls, or of as many as fit its seconds, but never of
# one.
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Floor:
    """The arithmetic operations and the bytes moved that a call cannot avoid."""

    operations: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A device and precision with its measured operations/s and bytes/s."""

    placement: Placement
    name: str
    matrix_rate: float
    bandwidth: float

    @classmethod
    def measure(cls, placement: Placement) -> Machine:
        """The best of several square matrix products, and of copies between two large buffers."""
        cuda = placement.device.type == "cuda"
        sides = (4096, 8192, 16384) if cuda else (1024, 2048, 4096)
        matrix = max(_matrix_rate(placement, side) for side in sides)
        bandwidth = _copy_rate(placement, 4 << 30 if cuda else 256 << 20)
        name = torch.cuda.get_device_name(placement.device) if cuda else "CPU"
        return cls(placement, name, matrix, bandwidth)

    def seconds(self, *floors: Floor) -> float:
        """The floors of steps that come one after another, added up."""
        return sum(
            max(floor.operations / self.matrix_rate, floor.moved / self.bandwidth)
            for floor in floors
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of a call; the most bytes held on the GPU meanwhile, weights included, None
    on CPU."""

    seconds: float
    peak: int | None


def synchronize(placement: Placement) -> None:
    """Wait until the device is idle."""
    if placement.device.type == "cuda":
        torch.cuda.synchronize(placement.device)


def bytes_of(module: torch.nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(weight.nbytes for weight in module.parameters())


def count_operations(call: Call) -> int:
    """Operations of a call's matrix products, convolutions and attention (a multiply-add is
    two)."""
    # torch counts every kernel of attention but the CPU's.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(
        display=False, custom_mapping={attention: _attention_operations}
    ) as counter:
        call()
    return int(counter.get_total_flops())


def timed(call: Call, placement: Placement, limit: float = 3.0) -> Timing:
    """Warm up once, then take the median; the device is idle before and after each.

    After `limit` seconds there are no more repeats but the second.
    """
    cuda = placement.device.type == "cuda"
    call()
    synchronize(placement)
    if cuda:
        torch.cuda.reset_peak_memory_stats(placement.device)
    times: list[float] = []
    while len(times) < 2 or (len(times) < _REPEATS and sum(times) < limit):
        started = time.perf_counter()
        call()
        synchronize(placement)
        times.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(placement.device) if cuda else None
    return Timing(statistics.median(times), peak)


def _attention_operations(
    query: Any, key: Any, value: Any, *_: Any, out_val: Any = None, **__: Any
) -> int:
    count: Any = sdpa_flop_count  # torch leaves it untyped
    return int(count(query, key, value))


def _matrix_rate(placement: Placement, side: int) -> float:
    """Operations a second of (side, side) times (side, side), from normal random numbers."""
    # Zeros would let a GPU clock higher than any model does.
    left, right = (
        torch.randn(side, side, device=placement.device).to(placement.dtype) for _ in range(2)
    )
    out = torch.empty_like(left)
    calls = 10 if placement.device.type == "cuda" else 1

    def multiply() -> None:
        for _ in range(calls):
            torch.mm(left, right, out=out)

    with torch.inference_mode():
        return calls * 2 * side**3 / timed(multiply, placement).seconds


def _copy_rate(placement: Placement, size: int) -> float:
    """Bytes a second, read and written ones, of a copy of `size` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=placement.device)
    target = torch.empty_like(source)
    seconds = timed(lambda: target.copy_(source), placement).seconds
    return 2 * size / seconds
