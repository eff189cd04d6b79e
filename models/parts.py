"""The parts of a profile (encoder, captioner, segmenter, …), described before they are loaded.

A part derives its name, the parameters that affect its output, problems that prevent it from
running, and its memory need from small files (configs, headers). Only `load` reads weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from regard.core.errors import UsageError
from regard.core.geometry import Box, Mask
from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Float32Array, Image, Space
from regard.core.texts import Reader
from regard.models.checkpoints.source import Checkpoint, ModelSource


class Parameters(BaseModel):
    """Base class of a kind's `parameters` table; unknown names and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Parameters such as batch sizes, which do not affect output or a pipeline's identity.
    working: ClassVar[frozenset[str]] = frozenset()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The parameters that affect the stored records."""
        return self.model_dump(mode="json", exclude=set(self.working))


@dataclass(frozen=True, slots=True)
class PartDefinition:
    """One table of a profile's TOML file; `where` names it in errors: "profile blip3, captioner".

    `base` is the file's folder, for relative paths among the parameters.
    """

    kind: str
    where: str
    source: ModelSource | None = None
    device: str = "auto"
    dtype: str = "auto"
    parameters: Mapping[str, Any] | None = None
    base: Path = Path()


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a part needs on a device ("cpu", "cuda:0"), including working memory."""

    device: str
    count: int


class Part(Protocol):
    """A model of a profile before loading; `role` is its key in a pipeline's parameters."""

    role: ClassVar[str]

    def names(self) -> Mapping[str, str]:
        """Return role → model and revision, for the pipeline; raises ModelError when files are
        absent."""

    def identity(self) -> Mapping[str, Any]:
        """Return all parameters that affect the part's output."""

    def needs(self) -> tuple[MemoryNeed, ...]:
        """Check everything possible without reading weights, and return the memory needed.

        Raises ModelError or MissingDependency when the part can't run here.
        """


class EncoderPart(Part, Protocol):
    """An encoder before loading."""

    def space(self) -> Space:
        """Return its space; raises ModelError when its config is absent."""

    def load(self) -> Encoder:
        """Read the weights and return the encoder; raises ModelError."""


@runtime_checkable
class ProjectingPart(Protocol):
    """An encoder part whose rows are projections of longer ones."""

    def components(self, rows: Float32Array) -> Float32Array:
        """See `regard.core.protocols.Profile.components`."""


class CaptionerPart(Part, Protocol):
    """A captioner before loading."""

    @property
    def captions_regions(self) -> bool:
        """Whether regions are captioned as well."""

    def names_thing(self, caption: str) -> bool:
        """Return whether a caption names a thing rather than only its appearance."""

    def load(self) -> Captioner:
        """Read the weights and return the captioner; raises ModelError."""


class SegmenterPart(Part, Protocol):
    """A segmenter before loading."""

    def load(self) -> Segmenter:
        """Read the weights and return the segmenter; raises ModelError."""


class ReaderPart(Part, Protocol):
    """A reader of text before loading."""

    def load(self) -> Reader:
        """Read the weights and return the reader; raises ModelError or MissingDependency."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text's thing is, in pixels, and how sure that is, in [0, 1]."""

    box: Box
    score: float


class Locator(Protocol):
    """Finds the box of what a text names."""

    def locate(self, images: Sequence[Image], texts: Sequence[str]) -> list[Place | None]:
        """Return the place of each text in its image, None where the image does not show it.

        Boxes lie within their images.
        """


@runtime_checkable
class BoxSegmenter(Protocol):
    """Draws the mask of the thing in a box."""

    def segment_boxes(self, images: Sequence[Image], boxes: Sequence[Box]) -> list[Mask]:
        """Return a mask for each image's box, which does not reach out of the box."""


class LocatorPart(Part, Protocol):
    """A grounder's locator before loading."""

    def load(self) -> Locator:
        """Read the weights and return the locator; raises ModelError."""


@runtime_checkable
class RegionCaptioner(Protocol):
    """A captioner that reads regions within their images; others are given crops."""

    def caption_regions(
        self, images: Sequence[Image], boxes: Sequence[Sequence[Box]]
    ) -> list[list[str]]:
        """One line for each box of each image; empty when there is nothing to say."""


@runtime_checkable
class TowerTaker(Protocol):
    """A captioner part that can share an encoder's vision tower."""

    def load_beside(self, encoder: Encoder) -> Captioner:
        """Load the captioner; share the encoder's tower when both have the same weights."""


_Parameters = TypeVar("_Parameters", bound=Parameters)


def read_parameters(definition: PartDefinition, model: type[_Parameters]) -> _Parameters:
    """Validate a part's parameters; raises UsageError naming profile, part and parameter."""
    try:
        return model.model_validate(dict(definition.parameters or {}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"])
        known = ", ".join(model.model_fields)
        raise UsageError(
            f"{definition.where}: the parameter {name} is wrong: {first['msg']}",
            remedy=f"parameters of {definition.kind}: {known}",
        ) from error


class CheckpointPart:
    """Base class of parts whose weights are a checkpoint."""

    role: ClassVar[str]

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError when the definition names no model or folder."""
        if definition.source is None:
            raise UsageError(
                f"{definition.where}: a {definition.kind} part needs a model or a path",
                remedy="name one in the profile's file",
            )
        self.definition = definition
        self.source = definition.source

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The local files; raises ModelError when they are absent."""
        return self.source.locate()

    @cached_property
    def weights_identity(self) -> str:
        """Model and revision, or else name and signature."""
        return self.checkpoint.identity

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: f"{self.definition.kind}:{self.weights_identity}"}


def expanded(path: str | Path) -> Path:
    """Expand `~` in a path; raises ValueError for an unknown user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{str(path)!r} begins with the folder of a user who is not known"
        ) from error
