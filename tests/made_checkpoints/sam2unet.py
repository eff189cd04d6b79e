"""Tiny random SAM2-UNet checkpoints: bare state dicts with the published files' keys.

Keys and shapes are written out here from the published layout, for fewer and narrower blocks: the
first stage 8 wide in place of 144, the decoder 8 in place of 64, adapters 4 in place of 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

DECODER, ADAPTER, WINDOW = 8, 4, 8
State = dict[str, torch.Tensor]


def make_sam2unet(
    path: Path, seed: int = 0, *, width: int = 8, depths: tuple[int, ...] = (1, 2, 4, 1)
) -> Path:
    """Write a checkpoint to `path`, in the format that its suffix names."""
    write_state(sam2unet_state(seed, width=width, depths=depths), path)
    return path


def write_state(state: State, path: Path) -> None:
    """safetensors for that suffix, else what `torch.save` writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def sam2unet_state(
    seed: int = 0, *, width: int = 8, depths: tuple[int, ...] = (1, 2, 4, 1)
) -> State:
    """Random weights, scaled so that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for key, shape in sam2unet_shapes(width, depths):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(100)
        elif key.endswith("running_var"):
            state[key] = 0.5 + torch.rand(shape, generator=generator)
        elif key.endswith(("bias", "running_mean")):
            state[key] = 0.1 * torch.randn(shape, generator=generator)
        elif len(shape) == 1:
            state[key] = 1 + 0.1 * torch.randn(shape, generator=generator)
        else:
            spread = 0.5 if "pos_embed" in key else math.sqrt(2 / math.prod(shape[1:]))
            state[key] = spread * torch.randn(shape, generator=generator)
    return state


def sam2unet_shapes(width: int, depths: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys and shapes in the order of a published file."""
    yield "encoder.pos_embed", (1, width, 7, 7)
    yield "encoder.pos_embed_window", (1, width, WINDOW, WINDOW)
    yield "encoder.patch_embed.proj.weight", (width, 3, 7, 7)
    yield "encoder.patch_embed.proj.bias", (width,)
    number, before = 0, width
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            yield from _block(f"encoder.blocks.{number}", before, width << stage)
            number, before = number + 1, width << stage
    for stage in range(4):
        yield from _receptive_field(f"rfb{stage + 1}", width << stage)
    for step in range(1, 5):
        for index, inputs in ((0, 2 * DECODER), (3, DECODER)):
            name = f"up{step}.conv.double_conv"
            yield f"{name}.{index}.weight", (DECODER, inputs, 3, 3)
            yield from _batch_norm(f"{name}.{index + 1}")
    for head in ("side1", "side2", "head"):
        yield f"{head}.weight", (1, DECODER, 1, 1)
        yield f"{head}.bias", (1,)


def _block(name: str, before: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    linear = {
        "block.attn.qkv": (3 * width, before),
        "block.attn.proj": (width, width),
        "block.mlp.layers.0": (4 * width, width),
        "block.mlp.layers.1": (width, 4 * width),
        "prompt_learn.0": (ADAPTER, before),
        "prompt_learn.2": (before, ADAPTER),
    }
    if before != width:
        linear["block.proj"] = (width, before)
    for layer, shape in linear.items():
        yield f"{name}.{layer}.weight", shape
        yield f"{name}.{layer}.bias", shape[:1]
    for norm, size in (("norm1", before), ("norm2", width)):
        yield f"{name}.block.{norm}.weight", (size,)
        yield f"{name}.block.{norm}.bias", (size,)


def _receptive_field(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    convolutions = {"branch0.0": (width, 1, 1)}
    for branch, kernel in ((1, 3), (2, 5), (3, 7)):
        convolutions[f"branch{branch}.0"] = (width, 1, 1)
        convolutions[f"branch{branch}.1"] = (DECODER, 1, kernel)
        convolutions[f"branch{branch}.2"] = (DECODER, kernel, 1)
        convolutions[f"branch{branch}.3"] = (DECODER, 3, 3)
    convolutions["conv_cat"] = (4 * DECODER, 3, 3)
    convolutions["conv_res"] = (width, 1, 1)
    for layer, shape in convolutions.items():
        yield f"{name}.{layer}.conv.weight", (DECODER, *shape)
        yield from _batch_norm(f"{name}.{layer}.bn")


def _batch_norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{leaf}", (DECODER,)
    yield f"{name}.num_batches_tracked", ()
