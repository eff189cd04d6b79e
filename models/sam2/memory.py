"""How much memory SAM 2 takes: its weights, and what it works with.

The allowances are peaks measured with the full-size models on a CPU, in numbers of the model's dtype, and
a margin: a third more for the encoder, a fifth more for the decoder.
"""

from __future__ import annotations

import math
from typing import Any

from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.tensors import Shapes
from regard.models.sam2.loading import STRIDES, image_size
from regard.models.sam2.part import Sam2Parameters

# Of an image's finest map, (S/4)² cells × the width of the first stage: 12 of them at once.
_ENCODER_MAPS = 16
# Of a point's upscaled map, (S/4)² cells × an eighth of the decoder's width: 5 of them at once.
_DECODER_MAPS = 6
# What the libraries take when they first compute, and a photograph's mask while it is drawn.
_FIXED = 450_000_000


def bytes_needed(
    config: Any, weights: Shapes, parameters: Sam2Parameters, placement: Placement
) -> int:
    """Bytes for the weights, a batch of images, a batch of points, and all candidates at their most."""
    cells = (image_size(config) // STRIDES[0]) ** 2
    decoder = config.mask_decoder_config
    width = config.vision_config.backbone_config.embed_dim_per_stage[0]
    candidates = parameters.points_per_side**2 * decoder.num_multimask_outputs
    numbers = sum(math.prod(shape) for shape in weights.values())
    numbers += parameters.batch_size * _ENCODER_MAPS * cells * width
    numbers += parameters.points_batch * _DECODER_MAPS * cells * decoder.hidden_size // 8
    numbers += candidates * cells
    return int(numbers * placement.item_bytes) + _FIXED
