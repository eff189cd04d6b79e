"""Loads a SAM2-UNet from a published state dict with strict key accounting.

The trunk is transformers', some of whose names differ from the checkpoints'; all other names are
the published ones. Only `up4.*` is allowed beyond the network's keys.
"""

from __future__ import annotations

from pathlib import Path

import torch

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.tensors import Shapes, check_keys, fill, require_whole, shapes_of
from regard.models.sam2unet.network import Sam2UNet
from regard.models.sam2unet.weights import layout_of, open_weights

# The decoder's fourth step is in checkpoints but never used.
UNUSED = (r"up4\..*",)
_RENAMED = (
    (".patch_embed.projection.", ".patch_embed.proj."),
    (".block.layer_norm", ".block.norm"),
    (".mlp.proj_in.", ".mlp.layers.0."),
    (".mlp.proj_out.", ".mlp.layers.1."),
)


def published_key(name: str) -> str:
    """Return the checkpoint's key of a network parameter or buffer."""
    for ours, published in _RENAMED:
        name = name.replace(ours, published)
    return name


def count_parameters(file: Path) -> int:
    """Check a file's keys and shapes and count the network's elements, reading no weights.

    Raises ModelError when the file is damaged or not of a SAM2-UNet.
    """
    found = open_weights(file).shapes
    shapes = shapes_of(_unfilled(file, found))
    check_keys(file, {published_key(name): shape for name, shape in shapes.items()}, found, UNUSED)
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def load_network(file: Path, placement: Placement) -> Sam2UNet:
    """Load the network for inference; raises ModelError as `count_parameters` does."""
    weights = open_weights(file)
    network = _unfilled(file, weights.shapes)
    fill(network, weights, placement, where=file, key=published_key, ignored=UNUSED)
    require_whole(network)
    for name, parameter in network.named_parameters():
        if not parameter.is_floating_point():
            raise ModelError(f"{file} has whole numbers in {published_key(name)}")
    return network.eval()


def _unfilled(file: Path, found: Shapes) -> Sam2UNet:
    layout = layout_of(file, found)
    with torch.device("meta"):
        return Sam2UNet(layout)
