"""EfficientNet-Lite2 (Tan and Le, 2019, arXiv 1905.11946; no squeeze-and-excitation, ReLU6).

Only the layers stand here, as numpy arrays; `runtime` computes the features. Batch normalisation
is folded into the preceding convolution. Padding is TensorFlow's SAME for the actual input size,
so images of any size give one feature position for every 32 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regard.core.records import Float32Array
from regard.models.lite.state_dict import read_state_dict
from regard.models.lite.weights import EFFICIENTNET_LITE2

_BN_EPSILON = 1e-3
_BLOCK_STRIDES = (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with its batch normalisation folded in."""

    weight: Float32Array  # (out, in / groups, k, k)
    bias: Float32Array  # (out,)
    stride: int = 1
    groups: int = 1
    bounded: bool = True  # followed by ReLU6


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block: expand, convolve each channel, project."""

    expand: Convolution | None
    depthwise: Convolution
    project: Convolution
    residual: bool


@dataclass(frozen=True, slots=True)
class Network:
    """The layers, as numpy arrays."""

    stem: Convolution
    blocks: tuple[Block, ...]
    head: Convolution
    class_weights: Float32Array  # (1000, 1280)
    class_biases: Float32Array  # (1000,)


def load() -> Network:
    """Read, verify and fold the pinned checkpoint.

    Raises ModelError for a damaged file, MissingDependency for an absent package.
    """
    tensors = read_state_dict(EFFICIENTNET_LITE2.read())

    def folded(
        convolution: str, norm: str, stride: int = 1, *, grouped: bool = False, bounded: bool = True
    ) -> Convolution:
        weight = tensors[f"{convolution}.weight"]
        deviation = np.sqrt(tensors[f"{norm}.running_var"] + np.float32(_BN_EPSILON))
        scale = tensors[f"{norm}.weight"] / deviation
        return Convolution(
            weight=np.asarray(weight * scale[:, None, None, None], dtype=np.float32),
            bias=np.asarray(
                tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale, dtype=np.float32
            ),
            stride=stride,
            groups=weight.shape[0] if grouped else 1,
            bounded=bounded,
        )

    def block(prefix: str, stride: int) -> Block:
        expands = f"{prefix}._expand_conv.weight" in tensors
        expand = folded(f"{prefix}._expand_conv", f"{prefix}._bn0") if expands else None
        depthwise = folded(f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride, grouped=True)
        project = folded(f"{prefix}._project_conv", f"{prefix}._bn2", bounded=False)
        entering = expand.weight.shape[1] if expand else depthwise.weight.shape[0]
        residual = stride == 1 and entering == project.weight.shape[0]
        return Block(expand, depthwise, project, residual)

    return Network(
        stem=folded("_conv_stem", "_bn0", 2),
        blocks=tuple(block(f"_blocks.{i}", s) for i, s in enumerate(_BLOCK_STRIDES)),
        head=folded("_conv_head", "_bn1"),
        class_weights=tensors["_fc.weight"],
        class_biases=tensors["_fc.bias"],
    )
