"""A captioner of transformers as a part of a profile; importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from regard.models.parts import (
    CheckpointPart,
    MemoryNeed,
    Parameters,
    PartDefinition,
    read_parameters,
)

if TYPE_CHECKING:
    from regard.models.image_text.captioner import ImageTextCaptioner

# Pixels, activations and cache of one image, in numbers: what the largest of the small models
# takes, SmolVLM-256M with an image cut into 13 tiles of 512 pixels (13 × 1024 × (4 × 768 + 2 ×
# 3072)).
_NUMBERS_PER_IMAGE = 125_000_000


class ImageTextParameters(Parameters):
    """The prompt and the generation settings.

    `prompt` is the question for models with a chat template and the start of the caption for
    others. `beams` = 1 is greedy search. `regions`: whether to caption regions as well.
    `image_processor`: settings of the model's image processor; `do_image_splitting = false` turns
    SmolVLM's tiles off.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    prompt: str = ""
    max_new_tokens: int = Field(default=40, ge=1, le=1024)
    beams: int = Field(default=1, ge=1, le=16)
    batch_size: int = Field(default=4, ge=1)
    regions: bool = False
    image_processor: dict[str, bool | int | float] = Field(default_factory=dict)


class ImageTextPart(CheckpointPart):
    """See `regard.models.parts.CaptionerPart`."""

    role = "captioner"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, ImageTextParameters)

    @property
    def captions_regions(self) -> bool:
        """Whether regions are captioned as well."""
        return self.parameters.regions

    def names_thing(self, caption: str) -> bool:
        """Return True: these models name things."""
        return bool(caption)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks type, processor, packages, and every tensor's name and
        shape."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.pretrained import (
            Task,
            check_model,
            load_processor,
            require_supported,
        )

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        require_supported(self.checkpoint, Task.IMAGE_TEXT)
        load_processor(self.checkpoint, self.parameters.image_processor)
        numbers = check_model(self.checkpoint, placement, Task.IMAGE_TEXT)
        numbers += self.parameters.batch_size * _NUMBERS_PER_IMAGE
        return (MemoryNeed(str(placement.device), numbers * placement.item_bytes),)

    def load(self) -> ImageTextCaptioner:
        """See `CaptionerPart.load`."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.pretrained import Task, load_model, load_processor
        from regard.models.image_text.captioner import ImageTextCaptioner

        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        parameters = self.parameters
        return ImageTextCaptioner(
            load_model(self.checkpoint, placement, Task.IMAGE_TEXT),
            load_processor(self.checkpoint, parameters.image_processor),
            placement,
            prompt=parameters.prompt,
            max_new_tokens=parameters.max_new_tokens,
            beams=parameters.beams,
            batch_size=parameters.batch_size,
        )
