"""Finding and opening a SAM2-UNet's weights: a `.pth` file, or safetensors with the same keys.

A `.pth` is read as data alone (`weights_only`): a pickle that names code is refused, never run. It is
mapped into memory, so that asking for shapes reads no weights.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import torch

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.tensors import Shapes, TensorFiles

_REMEDY = "fetch the file again: a bare state dict, as .pth or .safetensors"


class StateDictFile(TensorFiles):
    """The tensors of one state dict that `torch.save` wrote, by name."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        super().__init__((path,))
        self._path = path

    @cached_property
    def shapes(self) -> Shapes:
        """Every tensor's shape; no weights are read.

        Raises ModelError for a file that is damaged or holds anything but tensors by name.
        """
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(
        self, names: Callable[[str], bool], placement: Placement
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors whose name is wanted, on the device; floats in the dtype."""
        for name, tensor in self._tensors.items():
            if names(name):
                # A copy: what is mapped would change, or vanish, with the file.
                yield name, placement.put(tensor.clone(memory_format=torch.contiguous_format))

    @cached_property
    def _tensors(self) -> Mapping[str, torch.Tensor]:
        content = _mapped(self._path)
        if not isinstance(content, Mapping) or not all(
            isinstance(name, str) and _plain(tensor) for name, tensor in content.items()
        ):
            raise ModelError(
                f"{self._path} holds other things than tensors by name", remedy=_REMEDY
            )
        return content


def _mapped(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors (a pickle that names code), or is damaged",
            remedy=_REMEDY,
        ) from error
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error
    # A damaged pickle fails in any way there is.
    except Exception as error:
        raise ModelError(
            f"{path} is damaged, or no state dict that torch.save wrote", remedy=_REMEDY
        ) from error


def _plain(tensor: object) -> bool:
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
    )


def open_weights(file: Path) -> TensorFiles:
    """The tensors of a weights file, by its suffix."""
    return TensorFiles((file,)) if file.suffix == ".safetensors" else StateDictFile(file)
