"""A zero-shot detector as a profile's grounder; importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    from regard.models.grounding.detector import ZeroShotDetector

_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2")
# Activations of one image, in numbers: Grounding DINO's at 800 × 1,333 pixels, where the first
# stage of Swin and the fused encoder's 17,000 places take most.
_NUMBERS_PER_IMAGE = 250_000_000


class DetectorParameters(Parameters):
    """`threshold`: least sureness of a box, the probability of the word that it agrees with best."""

    threshold: float = Field(default=0.25, ge=0, le=1)


class DetectorPart(CheckpointPart):
    """See `regard.models.parts.LocatorPart`."""

    role = "grounder"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter or a missing model."""
        super().__init__(definition)
        self.parameters = read_parameters(definition, DetectorParameters)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`: checks type, processor, and every tensor's name and shape."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.pretrained import Task, check_model, load_processor

        self._require_type()
        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        load_processor(self.checkpoint, {})
        numbers = check_model(self.checkpoint, placement, Task.DETECTION)
        numbers += _NUMBERS_PER_IMAGE
        return (MemoryNeed(str(placement.device), numbers * placement.item_bytes),)

    def load(self) -> ZeroShotDetector:
        """See `LocatorPart.load`."""
        from regard.models.checkpoints.placement import Placement
        from regard.models.checkpoints.pretrained import Task, load_model, load_processor
        from regard.models.grounding.detector import ZeroShotDetector

        self._require_type()
        placement = Placement.resolve(self.definition.device, self.definition.dtype)
        return ZeroShotDetector(
            load_model(self.checkpoint, placement, Task.DETECTION),
            load_processor(self.checkpoint, {}),
            placement,
            threshold=self.parameters.threshold,
        )

    def _require_type(self) -> None:
        found = self.checkpoint.config().get("model_type")
        if found not in _TYPES:
            raise ModelError(
                f"{self.checkpoint.path / CONFIG} describes a model of type {found!r}, "
                f"which is none of {', '.join(_TYPES)}",
                remedy="name another grounder in the profile",
            )
