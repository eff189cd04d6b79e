"""SAM 2 as a profile's segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from regard.models.checkpoints.load_errors import guarded
from regard.models.parts import (
    CheckpointPart,
    MemoryNeed,
    PartDefinition,
    read_parameters,
)
from regard.models.sam2.parameters import Sam2Parameters

if TYPE_CHECKING:
    from regard.models.sam2.segmenter import Sam2Segmenter


class Sam2Part(CheckpointPart):
    """`facebook/sam2.1-hiera-*` and checkpoints of the same layout."""

    role: ClassVar[str] = "segmenter"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, Sam2Parameters)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks config, preprocessing, keys and shapes, reading only
        headers."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.tensors import shapes_of
        from regard.models.sam2.loading import (
            build,
            bytes_needed,
            check_headers,
            image_size,
            read_config,
        )
        from regard.models.sam2.preprocessing import Preprocessing

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        config = read_config(self.checkpoint)
        Preprocessing.read(self.checkpoint, image_size(config))
        model = build(config, self.checkpoint.path)
        check_headers(model, self.checkpoint)
        needed = bytes_needed(config, shapes_of(model), self.parameters, placement)
        return (MemoryNeed(str(placement.device), needed),)

    def load(self) -> Sam2Segmenter:
        """See `SegmenterPart.load`."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.sam2.segmenter import Sam2Segmenter

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        segmenter: Sam2Segmenter = guarded(
            lambda: Sam2Segmenter.from_checkpoint(self.checkpoint, placement, self.parameters),
            self.definition.where,
        )
        return segmenter
