"""Reads safetensors into a model, one tensor at a time, with strict key accounting.

A model is created on the `meta` device, which allocates no memory. `check_keys` compares its keys
with the files' before weights are read; `fill` then reads each tensor directly to its device and
dtype. At most one tensor exists twice at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement

Shapes = Mapping[str, tuple[int, ...]]

# How what `torch.save` writes begins: a zip archive, or a pickle of protocol 2.
_PICKLES = (b"PK\x03\x04", b"\x80\x02")


class TensorFiles:
    """The tensors of one or several safetensors files, by name."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Opens no file."""
        self._paths = tuple(paths)

    @cached_property
    def shapes(self) -> Shapes:
        """Every tensor's shape, read from the headers.

        Raises ModelError for a damaged file, another format, or a duplicate name.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self._paths:
            with _opened(path, "cpu") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    if name in shapes:
                        raise ModelError(f"{path} repeats the tensor {name} of another shard")
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        return shapes

    @property
    def parameters(self) -> int:
        """Total number of elements."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def read(
        self, names: Callable[[str], bool], placement: Placement
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the wanted tensors on the device, floating ones in the dtype.

        Yields copies: memory-mapped tensors would change or vanish with the file.
        """
        for path in self._paths:
            with _opened(path, str(placement.device)) as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    if names(name):
                        mapped = file.get_tensor(name)
                        put = placement.put(mapped)
                        is_copy = put.device.type != "cpu" or put.data_ptr() != mapped.data_ptr()
                        yield name, put if is_copy else put.clone()


def _opened(path: Path, device: str) -> Any:
    try:
        return safe_open(path, framework="pt", device=device)
    except (SafetensorError, OSError) as error:
        if _begins_as_pickle(path):
            raise ModelError(
                f"{path} is a pickle, whatever its name says, where safetensors is expected",
                remedy="convert it with safetensors, or take a revision that has safetensors",
            ) from error
        raise ModelError(
            f"{path} is damaged or no safetensors file: {error}", remedy="fetch the model again"
        ) from error


def _begins_as_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4).startswith(_PICKLES)
    except OSError:
        return False


def shapes_of(module: nn.Module) -> Shapes:
    """The keys and shapes required of a model's checkpoint."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def check_keys(where: object, expected: Shapes, found: Shapes, ignored: Sequence[str] = ()) -> None:
    """Raise ModelError for a missing or unexpected key or a wrong shape.

    `ignored`: regular expressions of optional keys; `where` is named in the error.
    """
    missing = [key for key in expected if key not in found]
    surplus = [
        key
        for key in found
        if key not in expected and not any(re.fullmatch(rule, key) for rule in ignored)
    ]
    if missing or surplus:
        parts = [
            f"{len(keys)} {word}, such as {keys[0]}"
            for keys, word in ((missing, "missing"), (surplus, "unknown"))
            if keys
        ]
        raise ModelError(
            f"{where} has other keys than its model: {'; '.join(parts)}",
            remedy="check that the profile names the right kind of model",
        )
    for key, shape in expected.items():
        if found[key] != shape:
            raise ModelError(
                f"{where} has {key} of shape {list(found[key])} where its model has {list(shape)}"
            )


def fill(
    module: nn.Module,
    tensors: TensorFiles,
    placement: Placement,
    *,
    where: object,
    key: Callable[[str], str] = lambda name: name,
    ignored: Sequence[str] = (),
) -> None:
    """Fill a model on `meta`; `key` maps a model's key to the checkpoint's.

    Raises ModelError as `check_keys` does. Buffers absent from checkpoints are left on `meta`.
    """
    expected = {key(name): shape for name, shape in shapes_of(module).items()}
    check_keys(where, expected, tensors.shapes, ignored)
    targets = {key(name): name for name in module.state_dict()}
    for name, tensor in tensors.read(targets.__contains__, placement):
        assign(module, targets[name], tensor)


def assign(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Replace a parameter or buffer by a tensor without copying it."""
    *path, leaf = name.split(".")
    owner = module.get_submodule(".".join(path))
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def require_whole(module: nn.Module) -> None:
    """Raise AssertionError when a parameter or buffer is still on `meta`."""
    left = [
        name
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.is_meta
    ]
    assert not left, f"never filled: {left}"
