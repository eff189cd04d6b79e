"""Florence-2 as a profile's captioner and as its grounder; importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from regard.core.errors import ModelError
from regard.models.checkpoints.source import CONFIG
from regard.models.parts import (
    CheckpointPart,
    MemoryNeed,
    Parameters,
    PartDefinition,
    read_parameters,
)

if TYPE_CHECKING:
    from regard.models.florence2.captioner import Florence2Captioner
    from regard.models.florence2.grounder import Florence2Locator
    from regard.models.florence2.reader import Florence2Reader

# Activations of one 768 × 768 image of Florence-2-large, in numbers: the first stage's
# 192² cells × 256 channels × (the residual, its norm, and a feed-forward of 4 times the width).
_NUMBERS_PER_IMAGE = 60_000_000


class Florence2CaptionerParameters(Parameters):
    """How much to write, and how to search for it; `beams` = 1 is greedy.

    The published scores are of brief captions by 3 beams.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    detail: Literal["brief", "detailed", "paragraph"] = "brief"
    regions: bool = True
    beams: int = Field(default=3, ge=1, le=16)
    max_new_tokens: int = Field(default=64, ge=1, le=512)
    batch_size: int = Field(default=8, ge=1)


class Florence2GrounderParameters(Parameters):
    """`threshold`: least sureness of a box, the mean probability of its four sides."""

    threshold: float = Field(default=0.1, ge=0, le=1)
    batch_size: int = Field(default=4, ge=1)


class _Florence2Part(CheckpointPart):
    batch_size: int

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks type, processor, and every tensor's name and shape."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.pretrained import Task, check_model, load_processor

        self._require_type()
        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        load_processor(self.checkpoint, {})
        numbers = check_model(self.checkpoint, placement, Task.IMAGE_TEXT)
        numbers += self.batch_size * _NUMBERS_PER_IMAGE
        return (MemoryNeed(str(placement.device), numbers * placement.item_bytes),)

    def _reader(self) -> Florence2Reader:
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.pretrained import Task, load_model, load_processor
        from regard.models.florence2.reader import Florence2Reader

        self._require_type()
        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        model = load_model(self.checkpoint, placement, Task.IMAGE_TEXT)
        return Florence2Reader(model, load_processor(self.checkpoint, {}), placement)

    def _require_type(self) -> None:
        config = self.checkpoint.config()
        where = self.checkpoint.path / CONFIG
        if config.get("model_type") != "florence2":
            raise ModelError(
                f"{where} describes a model of type {config.get('model_type')!r}, not florence2",
                remedy="check that the profile names the right kind of model",
            )
        if "auto_map" in config:
            raise ModelError(
                f"{where} describes Florence-2 in the form that needs its own code, "
                "which regard never runs",
                remedy="name a model in transformers' own form: florence-community/Florence-2-large",
            )


class Florence2CaptionerPart(_Florence2Part):
    """See `regard.models.parts.CaptionerPart`."""

    role = "captioner"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, Florence2CaptionerParameters)
        self.batch_size = self.parameters.batch_size

    @property
    def captions_regions(self) -> bool:
        """Whether regions are captioned as well."""
        return self.parameters.regions

    def names_thing(self, caption: str) -> bool:
        """Return whether there is a caption: the model names things."""
        return bool(caption)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def load(self) -> Florence2Captioner:
        """See `CaptionerPart.load`."""
        from regard.models.florence2.captioner import Florence2Captioner

        parameters = self.parameters
        return Florence2Captioner(
            self._reader(),
            detail=parameters.detail,
            beams=parameters.beams,
            max_new_tokens=parameters.max_new_tokens,
            batch_size=parameters.batch_size,
        )


class Florence2GrounderPart(_Florence2Part):
    """See `regard.models.parts.LocatorPart`."""

    role = "grounder"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, Florence2GrounderParameters)
        self.batch_size = self.parameters.batch_size

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def load(self) -> Florence2Locator:
        """See `LocatorPart.load`."""
        from regard.models.florence2.grounder import Florence2Locator

        parameters = self.parameters
        return Florence2Locator(
            self._reader(), threshold=parameters.threshold, batch_size=parameters.batch_size
        )
