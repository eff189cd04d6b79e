"""A contrastive encoder as a part of a profile; imports no torch.

The space is known from two small JSON files. Its name consists of the model and the first 8 hex
digits of a SHA-256 over the weights' identity and the preprocessing, so vectors of other weights
or other preprocessing belong to another space.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from regard.core.records import Space
from regard.models.checkpoints.source import Checkpoint
from regard.models.contrastive.architecture import Architecture, read_architecture
from regard.models.contrastive.preprocessing import (
    Patches,
    Preprocessing,
    RegionView,
    RegionViews,
    describe,
    read_preprocessing,
)
from regard.models.contrastive.text import TextTokenizer
from regard.models.parts import (
    CheckpointPart,
    MemoryNeed,
    Parameters,
    PartDefinition,
    read_parameters,
)

if TYPE_CHECKING:
    from torch import nn

    from regard.models.contrastive.encoder import ContrastiveEncoder


class ContrastiveParameters(Parameters):
    """How regions are cropped, and the batch size.

    The defaults for regions come from literature and were not measured. One crop at 1.25×
    (`context` 0.125 on each side) lies between the two that ViLD averages.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    region_view: RegionView = "context"
    context: float = Field(default=0.125, ge=0, le=2)
    batch_size: int = Field(default=32, ge=1)


class ContrastivePart(CheckpointPart):
    """See `regard.models.parts.EncoderPart`."""

    role = "encoder"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, ContrastiveParameters)

    @cached_property
    def architecture(self) -> Architecture:
        """The model's config; raises ModelError."""
        return read_architecture(self.checkpoint)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The image preprocessing; raises ModelError."""
        return read_preprocessing(self.checkpoint, self.architecture)

    def space(self) -> Space:
        """Return the space, read from the configs; raises ModelError when they are absent."""
        pixels = json.dumps(describe(self.preprocessing), sort_keys=True)
        digest = hashlib.sha256(f"{self.weights_identity}\n{pixels}".encode()).hexdigest()
        slug = _slug(self.checkpoint)
        return Space(f"{slug}-{digest[:8]}", self.architecture.dimension)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks configs, tokenizer, and every tensor's name and shape."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.tensors import TensorFiles, check_keys, shapes_of
        from regard.models.contrastive.loading import IGNORED, build

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        preprocessing = self.preprocessing
        TextTokenizer.read(self.checkpoint, self.architecture)
        tensors = TensorFiles(self.checkpoint.weights())
        module = build(self.checkpoint, self.architecture)
        check_keys(self.checkpoint.path, shapes_of(module), tensors.shapes, IGNORED)
        held = tensors.parameters * placement.item_bytes
        used = self.parameters.batch_size * _image_bytes(
            module, preprocessing, placement.item_bytes
        )
        return (MemoryNeed(str(placement.device), held + used),)

    def load(self) -> ContrastiveEncoder:
        """See `EncoderPart.load`."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.contrastive.encoder import ContrastiveEncoder
        from regard.models.contrastive.loading import load

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        views = RegionViews(
            self.parameters.region_view, self.parameters.context, self.preprocessing.levels.neutral
        )
        return ContrastiveEncoder(
            load(self.checkpoint, self.architecture, placement),
            self.space(),
            self.preprocessing,
            TextTokenizer.read(self.checkpoint, self.architecture),
            views,
            self.parameters.batch_size,
        )


def _slug(checkpoint: Checkpoint) -> str:
    name = checkpoint.path.name
    if checkpoint.published is not None:
        name = PurePosixPath(checkpoint.published.partition("@")[0]).name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "contrastive"


def _image_bytes(module: nn.Module, preprocessing: Preprocessing, item_bytes: int) -> int:
    """Elements held per image in the vision tower: activations of one layer at a time."""
    config: Any = module.get_submodule("vision_model").config
    if isinstance(preprocessing, Patches):
        tokens, pixels = preprocessing.most, preprocessing.most * preprocessing.side**2
    else:
        pixels = preprocessing.width * preprocessing.height
        tokens = pixels // int(config.patch_size) ** 2 + 1
    # The residual, its norm, and the larger of the feed-forward's two maps and attention's four.
    widths = 2 * config.hidden_size + max(2 * config.intermediate_size, 4 * config.hidden_size)
    return int(tokens * widths * item_bytes + 3 * pixels * (1 + 4 + 4))
