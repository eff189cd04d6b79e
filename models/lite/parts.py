"""The parts of the `lite` profile, which share one classifier and one sentence encoder per
process.

The weights come with installed packages. They load, and their SHA-256 is checked, on first use.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from regard.core.errors import UsageError
from regard.core.protocols import Analyzer, Captioner, Encoder, Segmenter
from regard.core.records import Float32Array, Space
from regard.models.checkpoints.pinned import PinnedFile
from regard.models.lite import captioner, views
from regard.models.lite.analyzer import CAPTION_MODEL, LiteAnalyzer
from regard.models.lite.captioner import ClassCaptioner
from regard.models.lite.classifier import Classifier, limit_linear_algebra
from regard.models.lite.encoder import (
    JOINT,
    PARAMETERS,
    VISUAL,
    JointEncoder,
    VisualEncoder,
    joint_components,
    visual_components,
)
from regard.models.lite.parameters import SegmenterParameters
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.weights import (
    CLASS_NAMES,
    EFFICIENTNET_LITE2,
    MINILM_TOKENIZER,
    MINILM_WEIGHTS,
)
from regard.models.parts import MemoryNeed, Parameters, PartDefinition, read_parameters

if TYPE_CHECKING:
    from regard.models.lite.segmenter import SuperpixelSegmenter

# Resident memory while indexing beyond that of the fake profile: 0.5 GB measured.
_MEMORY = 600_000_000


@functools.cache
def _classifier() -> Classifier:
    return Classifier()


@functools.cache
def _sentences() -> SentenceEncoder:
    # Products of the few rows of a query take less time than several threads need to meet.
    limit_linear_algebra()
    return SentenceEncoder()


@functools.cache
def _joint() -> JointEncoder:
    return JointEncoder(_classifier(), _sentences())


@functools.cache
def _visual() -> VisualEncoder:
    return VisualEncoder(_classifier())


def _segmenter(parameters: SegmenterParameters | None = None) -> SuperpixelSegmenter:
    # Its libraries take long to import, and a text search segments nothing.
    from regard.models.lite.segmenter import SuperpixelSegmenter

    return SuperpixelSegmenter(parameters)


def make_analyzer(segmenter: Segmenter) -> Analyzer:
    """Make the analyzer, which shares views of an image between both encoders and the captioner.

    Limits the process to one compute thread for each call, because calls run in parallel.
    """
    limit_linear_algebra()
    return LiteAnalyzer(segmenter, _classifier(), _joint(), _visual())


class _PackagedPart:
    """A part whose weights come from pinned packages."""

    files: ClassVar[tuple[PinnedFile, ...]] = ()
    memory: ClassVar[int] = 0

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError when the definition sets a model, folder, device or dtype."""
        if (
            definition.source is not None
            or definition.device != "auto"
            or definition.dtype != "auto"
        ):
            raise UsageError(
                f"{definition.where}: {definition.kind} takes no model, folder, device or dtype",
                remedy="leave them out of the profile's file",
            )
        self.parameters = read_parameters(definition, self.parameters_model)

    parameters_model: ClassVar[type[Parameters]] = Parameters

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`; raises MissingDependency when a package is not installed."""
        for file in self.files:
            file.locate()
        return (MemoryNeed("cpu", self.memory),) if self.memory else ()


class JointPart(_PackagedPart):
    """The encoder of the joint space of images, regions and texts."""

    role: ClassVar[str] = "encoder"
    files = (EFFICIENTNET_LITE2, MINILM_WEIGHTS, MINILM_TOKENIZER)
    memory = _MEMORY

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {"classifier": EFFICIENTNET_LITE2.revision, "sentences": MINILM_WEIGHTS.revision}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return PARAMETERS

    def space(self) -> Space:
        """See `EncoderPart.space`."""
        return JOINT

    def components(self, rows: Float32Array) -> Float32Array:
        """See `ProjectingPart.components`."""
        return joint_components(rows)

    def load(self) -> Encoder:
        """See `EncoderPart.load`."""
        return _joint()


class VisualPart(_PackagedPart):
    """The encoder of the visual space, for image ↔ image and region ↔ region."""

    role: ClassVar[str] = "views"
    files = (EFFICIENTNET_LITE2,)

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {"classifier": EFFICIENTNET_LITE2.revision}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return views.PARAMETERS

    def space(self) -> Space:
        """See `EncoderPart.space`."""
        return VISUAL

    def components(self, rows: Float32Array) -> Float32Array:
        """See `ProjectingPart.components`."""
        return visual_components(rows)

    def load(self) -> Encoder:
        """See `EncoderPart.load`."""
        return _visual()


class ClassesPart(_PackagedPart):
    """The captioner that names classes, their kinds, and colours."""

    role: ClassVar[str] = "captioner"
    files = (EFFICIENTNET_LITE2, CLASS_NAMES)
    captions_regions = False

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: CAPTION_MODEL}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return captioner.PARAMETERS

    def names_thing(self, caption: str) -> bool:
        """Return whether the caption names a thing rather than colours."""
        return captioner.names_thing(caption)

    def load(self) -> Captioner:
        """See `CaptionerPart.load`."""
        return ClassCaptioner(_classifier(), _segmenter())


class SuperpixelsParameters(Parameters):
    """`max_regions`: most regions of an image."""

    max_regions: int = Field(default=12, ge=1)


class SuperpixelsPart(_PackagedPart):
    """The segmenter without learned features, for use with any encoder."""

    role: ClassVar[str] = "segmenter"
    parameters_model = SuperpixelsParameters
    parameters: SuperpixelsParameters

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: "superpixels"}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return asdict(self._known)

    def load(self) -> SuperpixelSegmenter:
        """See `SegmenterPart.load`."""
        return _segmenter(self._known)

    @property
    def _known(self) -> SegmenterParameters:
        return SegmenterParameters(max_regions=self.parameters.max_regions)
