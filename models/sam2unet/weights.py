"""The layout and weights of a SAM2-UNet checkpoint.

Checkpoints are bare state dicts without a config. Widths and depths follow from the shapes. Heads,
windows and blocks with global attention follow from rules that reproduce all four trunks of SAM 2,
including Hiera-L, which the published SAM2-UNet uses. Other trunks follow the same rules.
"""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.tensors import Shapes, TensorFiles

# Sides of the square that every picture is squashed to, and of its grid of patches (stride 4).
INPUT_SIDE = 352
_GRID = INPUT_SIDE // 4
_STAGES = 4
# Heads of Hiera-L have 72 channels; those of the other trunks 96 (widths of 96) or 56 (of 112).
_HEAD_CHANNELS = 72
# Widths of the trunks whose deep stages have windows of 14 and 7; Hiera-L (144) has 16 and 8.
_ODD_WINDOW_WIDTHS = (96, 112)


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of the trunk by stage, the adapters and the decoder.

    `windows` are in tokens of their stage; `global_blocks` count over the whole trunk;
    `background` is the (height, width) of the position embedding that is stretched over the image.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[int, ...]
    global_blocks: tuple[int, ...]
    background: tuple[int, int]
    mlp_ratio: float
    adapter_width: int
    decoder_width: int


def layout_of(where: object, shapes: Shapes) -> Layout:
    """Derive the layout from a checkpoint's keys and shapes; `where` is named in errors.

    Raises ModelError when they are not a SAM2-UNet's. Other keys are not checked here.
    """
    first = "encoder.blocks.0."
    width, *background = _shape(where, shapes, "encoder.pos_embed", 4)[1:]
    window = _shape(where, shapes, "encoder.pos_embed_window", 4)[-1]
    starts, count = _stage_starts(where, shapes)
    widths = tuple(
        _shape(where, shapes, f"encoder.blocks.{start}.block.norm2.weight", 1)[0]
        for start in starts
    )
    depths = tuple(end - start for start, end in itertools.pairwise([*starts, count]))
    return Layout(
        widths=widths,
        depths=depths,
        heads=_heads(where, widths),
        windows=_windows(where, width, window),
        global_blocks=_global_blocks(starts[2], depths[2]),
        background=(background[0], background[1]),
        mlp_ratio=_shape(where, shapes, f"{first}block.mlp.layers.0.weight", 2)[0] / widths[0],
        adapter_width=_shape(where, shapes, f"{first}prompt_learn.0.weight", 2)[0],
        decoder_width=_shape(where, shapes, "head.weight", 4)[1],
    )


def _shape(where: object, shapes: Shapes, key: str, dimensions: int) -> tuple[int, ...]:
    try:
        shape = shapes[key]
    except KeyError:
        raise _other(where, f"it lacks {key}") from None
    if len(shape) != dimensions or 0 in shape:
        raise _other(where, f"its {key} has the shape {list(shape)}")
    return shape


def _stage_starts(where: object, shapes: Shapes) -> tuple[list[int], int]:
    """Return the first block of each stage and the total number of blocks."""
    found = (re.match(r"encoder\.blocks\.(\d{1,6})\.", key) for key in shapes)
    blocks = {int(match[1]) for match in found if match}
    gaps = set(range(len(blocks))) - blocks
    if gaps:
        raise _other(where, f"it lacks encoder.blocks.{min(gaps)}")
    # Only where the width changes is the shortcut projected.
    starts = [
        block
        for block in range(len(blocks))
        if block == 0 or f"encoder.blocks.{block}.block.proj.weight" in shapes
    ]
    if len(starts) != _STAGES:
        raise _other(where, f"its encoder has {len(starts)} stages instead of {_STAGES}")
    return starts, len(blocks)


def _heads(where: object, widths: Sequence[int]) -> tuple[int, ...]:
    """Attention heads by stage: heads of about 72 channels at first, doubled in each stage."""
    first = max(1, round(widths[0] / _HEAD_CHANNELS))
    heads = tuple(first << stage for stage in range(len(widths)))
    if any(width % count for width, count in zip(widths, heads, strict=True)):
        raise _other(where, f"widths of {list(widths)} can't be divided among {list(heads)} heads")
    return heads


def _windows(where: object, width: int, window: int) -> tuple[int, ...]:
    """Window sizes by stage; the first is also the side of the tiled position embedding."""
    if window % 4 or _GRID % window:
        raise _other(where, f"windows of {window} tokens do not tile its {_GRID} × {_GRID} patches")
    if width in _ODD_WINDOW_WIDTHS:
        return (window, window // 2, 14, 7)
    return (window, window // 2, 2 * window, window)


def _global_blocks(start: int, depth: int) -> tuple[int, ...]:
    """Three evenly spaced blocks of the third stage, including its last.

    Never its first, which halves the map within windows.
    """
    last, step = start + depth - 1, max(1, round(depth / 3.6))
    return tuple(block for block in (last - 2 * step, last - step, last) if block > start)


def _other(where: object, reason: str) -> ModelError:
    return ModelError(
        f"{where} is not a state dict of a SAM2-UNet: {reason}",
        remedy="check that the profile names the right kind of model",
    )


_REMEDY = "fetch the file again: a bare state dict, as .pth or .safetensors"


class StateDictFile(TensorFiles):
    """Tensors of a state dict written by `torch.save`, by name."""

    def __init__(self, path: Path) -> None:
        """Opens no file."""
        super().__init__((path,))
        self._path = path

    @cached_property
    def shapes(self) -> Shapes:
        """Every tensor's shape, without reading weights.

        Raises ModelError for a file that is damaged or not a mapping of names to tensors.
        """
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(
        self, names: Callable[[str], bool], placement: Placement
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the wanted tensors on the device, floating ones in the dtype."""
        for name, tensor in self._tensors.items():
            if names(name):
                # Copy: memory-mapped tensors would change or vanish with the file.
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
    # A damaged pickle can raise any exception.
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
    """Open a weights file by its suffix."""
    return TensorFiles((file,)) if file.suffix == ".safetensors" else StateDictFile(file)
