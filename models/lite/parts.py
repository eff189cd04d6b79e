"""The parts of `lite` for a profile. They share one classifier and one sentence encoder a process.

The weights are small, come with packages, and load when first used; their SHA-256 is checked then.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from regard.core.errors import UsageError
from regard.core.protocols import Analyzer, Captioner, Encoder, Segmenter
from regard.core.records import Space
from regard.models.lite import captioner, views
from regard.models.lite.analyzer import CAPTION_MODEL, LiteAnalyzer
from regard.models.lite.captioner import ClassCaptioner
from regard.models.lite.classifier import Classifier, limit_threads
from regard.models.lite.encoder import JOINT, PARAMETERS, VISUAL, JointEncoder, VisualEncoder
from regard.models.lite.naming import Namer
from regard.models.lite.segmenter import SuperpixelSegmenter
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.weights import (
    CLASS_NAMES,
    EFFICIENTNET_LITE2,
    MINILM_TOKENIZER,
    MINILM_WEIGHTS,
    PinnedFile,
)
from regard.models.parts import MemoryNeed, Parameters, PartDefinition, read_parameters

# Resident memory of a process that indexes, less that of one with the fake profile: 0.5 GB measured.
_MEMORY = 600_000_000


@functools.cache
def _classifier() -> Classifier:
    return Classifier()


@functools.cache
def _sentences() -> SentenceEncoder:
    return SentenceEncoder()


@functools.cache
def _joint() -> JointEncoder:
    return JointEncoder(_classifier(), _sentences())


@functools.cache
def _visual() -> VisualEncoder:
    return VisualEncoder(_classifier())


def make_analyzer(segmenter: Segmenter) -> Analyzer:
    """The analyzer whose one look at an image serves both encoders and the captioner.

    From here on the process computes with one thread a call, since calls run side by side.
    """
    limit_threads()
    return LiteAnalyzer(segmenter, _classifier(), _joint(), _visual(), Namer(_sentences()))


class _PackagedPart:
    """A part whose weights come with pinned packages."""

    files: ClassVar[tuple[PinnedFile, ...]] = ()
    memory: ClassVar[int] = 0

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for a model, a device or a dtype of another choice: there is none."""
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
    """The joint space that texts meet."""

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

    def load(self) -> Encoder:
        """See `EncoderPart.load`."""
        return _joint()


class VisualPart(_PackagedPart):
    """The visual space for image ↔ image; it depends on the views alone."""

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

    def load(self) -> Encoder:
        """See `EncoderPart.load`."""
        return _visual()


class ClassesPart(_PackagedPart):
    """The captioner that says classes and colours."""

    role: ClassVar[str] = "captioner"
    files = (EFFICIENTNET_LITE2, MINILM_WEIGHTS, MINILM_TOKENIZER, CLASS_NAMES)
    captions_regions = False

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: CAPTION_MODEL}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return captioner.PARAMETERS

    def names_thing(self, caption: str) -> bool:
        """Whether the sentence names a thing rather than colours."""
        return captioner.names_thing(caption)

    def load(self) -> Captioner:
        """See `CaptionerPart.load`."""
        return ClassCaptioner(_classifier(), SuperpixelSegmenter(), Namer(_sentences()))


class SuperpixelsParameters(Parameters):
    """`max_regions`: how many an image has at most."""

    max_regions: int = Field(default=12, ge=1)


class SuperpixelsPart(_PackagedPart):
    """The segmenter without learned features; it goes with any encoder."""

    role: ClassVar[str] = "segmenter"
    parameters_model = SuperpixelsParameters
    parameters: SuperpixelsParameters

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: "superpixels"}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.load().parameters

    def load(self) -> SuperpixelSegmenter:
        """See `SegmenterPart.load`."""
        return SuperpixelSegmenter(max_regions=self.parameters.max_regions)
