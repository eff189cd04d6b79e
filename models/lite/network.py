"""EfficientNet-Lite2 in torch (Tan and Le, 2019, arXiv 1905.11946; no squeeze-and-excitation,
ReLU6).

Batch normalisation is folded into the preceding convolution and weights are channels-last, which
together halve the time of the reference definition; a test compares the outputs. Padding is
TensorFlow's SAME for the actual input size, so images of any size give one feature position for
every 32 pixels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch.nn import functional

from regard.core.errors import ModelError
from regard.core.records import Float32Array
from regard.models.lite.weights import EFFICIENTNET_LITE2

_BN_EPSILON = 1e-3
_BLOCK_STRIDES = (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution with its batch normalisation folded in."""

    weight: torch.Tensor  # (out, in / groups, k, k)
    bias: torch.Tensor  # (out,)
    stride: int = 1
    groups: int = 1
    bounded: bool = True  # followed by ReLU6

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        top, bottom = _same_padding(x.shape[2], self.weight.shape[2], self.stride)
        left, right = _same_padding(x.shape[3], self.weight.shape[3], self.stride)
        if top == bottom and left == right:
            padding = (top, left)
        else:
            x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
        x = functional.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return x.clamp_(0.0, 6.0) if self.bounded else x


@dataclass(frozen=True, slots=True)
class _Block:
    """An inverted residual block: expand, convolve each channel, project."""

    expand: _Convolution | None
    depthwise: _Convolution
    project: _Convolution
    residual: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(x) if self.expand is not None else x
        y = self.project(self.depthwise(y))
        return y.add_(x) if self.residual else y


@dataclass(frozen=True, slots=True)
class Network:
    """The network. The final linear layer is kept as numpy arrays."""

    stem: _Convolution
    blocks: tuple[_Block, ...]
    head: _Convolution
    class_weights: Float32Array  # (1000, 1280)
    class_biases: Float32Array  # (1000,)

    def features(self, pixels: Float32Array) -> Float32Array:
        """Normalised pixels (h, w, 3) → features (1280, ceil(h / 32), ceil(w / 32)) in [0, 6]."""
        # A permuted (h, w, 3) array is already a channels-last tensor.
        x = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)  # (1, 3, h, w)
        with torch.inference_mode():
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            features: Float32Array = self.head(x)[0].contiguous().numpy()
        return features


def _same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def load() -> Network:
    """Read, verify and fold the pinned checkpoint.

    Raises ModelError for a damaged file, MissingDependency for an absent package.
    """
    content = io.BytesIO(EFFICIENTNET_LITE2.read())
    tensors: dict[str, torch.Tensor] = torch.load(content, map_location="cpu", weights_only=True)

    def folded(
        convolution: str, norm: str, stride: int = 1, *, grouped: bool = False, bounded: bool = True
    ) -> _Convolution:
        weight = tensors[f"{convolution}.weight"]
        deviation = torch.sqrt(tensors[f"{norm}.running_var"] + _BN_EPSILON)
        scale = tensors[f"{norm}.weight"] / deviation
        return _Convolution(
            weight=(weight * scale[:, None, None, None]).contiguous(
                memory_format=torch.channels_last
            ),
            bias=tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale,
            stride=stride,
            groups=weight.shape[0] if grouped else 1,
            bounded=bounded,
        )

    def block(prefix: str, stride: int) -> _Block:
        expands = f"{prefix}._expand_conv.weight" in tensors
        expand = folded(f"{prefix}._expand_conv", f"{prefix}._bn0") if expands else None
        depthwise = folded(f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride, grouped=True)
        project = folded(f"{prefix}._project_conv", f"{prefix}._bn2", bounded=False)
        entering = expand.weight.shape[1] if expand else depthwise.weight.shape[0]
        residual = stride == 1 and entering == project.weight.shape[0]
        return _Block(expand, depthwise, project, residual)

    try:
        return Network(
            stem=folded("_conv_stem", "_bn0", 2),
            blocks=tuple(block(f"_blocks.{i}", s) for i, s in enumerate(_BLOCK_STRIDES)),
            head=folded("_conv_head", "_bn1"),
            class_weights=tensors["_fc.weight"].numpy(),
            class_biases=tensors["_fc.bias"].numpy(),
        )
    except KeyError as error:
        raise ModelError(f"{EFFICIENTNET_LITE2.path} lacks the tensor {error.args[0]}") from error
