"""The parts of a profile (encoder, captioner, segmenter), described before they are loaded.

A part reads from small files (configs, headers) its name, the parameters that change its output,
whether it can run here, and how much memory it needs. Only `load` reads weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from regard.core.errors import ModelError, RegardError, UsageError
from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Space
from regard.models.checkpoints.source import Checkpoint, ModelSource


class Parameters(BaseModel):
    """Base of a kind's `parameters` table in a profile: an unknown name or a wrong type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Names that do not change what is written (batch sizes and such): no part of a pipeline's identity.
    working: ClassVar[frozenset[str]] = frozenset()

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the records that are written."""
        return self.model_dump(mode="json", exclude=set(self.working))


@dataclass(frozen=True, slots=True)
class PartDefinition:
    """One table of a profile's TOML file; `where` names it in errors: "profile blip3, captioner".

    `base` is where relative paths among the parameters start: the folder of the file.
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
    """Bytes that a loaded part takes on a device ("cpu", "cuda:0"), working memory included."""

    device: str
    count: int


class Part(Protocol):
    """A model of a profile that is not loaded yet; `role` is its name among a pipeline's parameters."""

    role: ClassVar[str]

    def names(self) -> Mapping[str, str]:
        """Role → model and revision, for the pipeline; raises ModelError when it is not on this machine."""

    def identity(self) -> Mapping[str, Any]:
        """All parameters that change what the part writes."""

    def needs(self) -> tuple[MemoryNeed, ...]:
        """Check all that can be checked without reading weights, and say what memory loading takes.

        Raises ModelError or MissingDependency when the part can't run here.
        """


class EncoderPart(Part, Protocol):
    """An encoder that is not loaded yet."""

    def space(self) -> Space:
        """Its space; raises ModelError when its config is not on this machine."""

    def load(self) -> Encoder:
        """The encoder, weights read; raises ModelError."""


class CaptionerPart(Part, Protocol):
    """A captioner that is not loaded yet."""

    @property
    def captions_regions(self) -> bool:
        """Whether each region is to be captioned too."""

    def names_thing(self, caption: str) -> bool:
        """Whether a sentence of this captioner says what a thing is, not only its look."""

    def load(self) -> Captioner:
        """The captioner, weights read; raises ModelError."""


class SegmenterPart(Part, Protocol):
    """A segmenter that is not loaded yet."""

    def load(self) -> Segmenter:
        """The segmenter, weights read; raises ModelError."""


@runtime_checkable
class TowerTaker(Protocol):
    """A captioner part that can read through the vision tower that an encoder has loaded."""

    def load_beside(self, encoder: Encoder) -> Captioner:
        """The captioner, over the encoder's tower where both hold the same weights."""


# Of what a library says: some quote whole configs.
_LONGEST_REASON = 300

_Parameters = TypeVar("_Parameters", bound=Parameters)


def read_parameters(definition: PartDefinition, model: type[_Parameters]) -> _Parameters:
    """A part's parameters, checked; raises UsageError that names profile, part and parameter."""
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
    """Shared by parts whose weights are a checkpoint: finding it, and naming it in a pipeline."""

    role: ClassVar[str]

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError when the definition names no model."""
        if definition.source is None:
            raise UsageError(
                f"{definition.where}: a {definition.kind} part needs a model or a path",
                remedy="name one in the profile's file",
            )
        self.definition = definition
        self.source = definition.source

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The files on this machine; raises ModelError when they are not there."""
        return self.source.locate()

    @cached_property
    def weights_identity(self) -> str:
        """Model and revision, or name and signature."""
        return self.checkpoint.identity

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: f"{self.definition.kind}:{self.weights_identity}"}


def expanded(path: str | Path) -> Path:
    """A path with `~` made a folder; raises ValueError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{str(path)!r} begins with the folder of a user who is not known"
        ) from error


def guarded(load: Callable[[], Any], where: str) -> Any:
    """Run a loader of a library, turning what it raises into a ModelError that names the part.

    Faults in a checkpoint's files make libraries raise arbitrary exceptions.
    """
    try:
        return load()
    except RegardError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        first = words.partition(". ")[0][:_LONGEST_REASON]
        raise ModelError(f"{where} can't be loaded: {first}") from error
