"""The Protocols between the packages.

`indexer`, `search` and `evaluation` use models and storage through these alone. Models have batch
methods only: order in is order out, and a batch gives the same rows as one by one, within the
tolerance that each implementation states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regard.core.errors import CannotWork, RegardError
from regard.core.geometry import Box, Mask
from regard.core.records import (
    Analysis,
    Float32Array,
    Image,
    PipelineSpec,
    Region,
    Routes,
    Space,
)
from regard.core.relevance import Calibrations
from regard.core.texts import Reader, ReaderSpec


class Encoder(Protocol):
    """Maps what it declares to take into one space; every row is L2-normalised."""

    @property
    def space(self) -> Space:
        """The space that the rows lie in."""

    @property
    def takes_texts(self) -> bool:
        """Whether `encode_texts` works; it raises UsageError otherwise."""

    @property
    def cosine_scale(self) -> float | None:
        """What 1 of the cosine of a text and an image adds to the log-odds that they belong
        together, as training learned it; None where it learned none."""

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        """Embed whole images, shape (n, d)."""

    def encode_regions(
        self,
        images: Sequence[Image],
        boxes: Sequence[Sequence[Box]],
        masks: Sequence[Sequence[Mask | None]],
    ) -> list[Float32Array]:
        """Embed regions of each image, a list of (r, d); a mask of None means the whole box."""

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed sentences, shape (n, d)."""

    def knows(self, word: str) -> bool:
        """Whether texts with this word, or this symbol, mean anything to the encoder."""


class Captioner(Protocol):
    """Writes one sentence an image."""

    def caption(self, images: Sequence[Image]) -> list[str]:
        """One sentence for each image; empty when there is nothing it is sure enough to say."""


class Segmenter(Protocol):
    """Finds the things in an image."""

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Regions of each image, best first."""


class Grounder(Protocol):
    """Finds in an image what a text names."""

    def ground(self, images: Sequence[Image], texts: Sequence[str]) -> list[Region | None]:
        """The region of each text in its image, None where the image does not show it.

        `score` is how sure that is, in [0, 1]. A batch gives the same as one by one.
        """


class Analyzer(Protocol):
    """Regions, captions and vectors of a batch of images, by few forward passes."""

    def analyze(self, images: Sequence[Image]) -> list[Analysis]:
        """One analysis an image."""


class Profile(Protocol):
    """A named set of models, each loaded on first use; pickled without what is loaded."""

    @property
    def name(self) -> str:
        """`lite`, `fake`, …"""

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces of its encoders; all that a search has to know of the pipeline.

        Raises ModelError when an encoder's files are not at hand.
        """

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline this profile makes today, told without loading weights.

        Raises ModelError when a model's files are not at hand.
        """

    def problems(self) -> Sequence[CannotWork]:
        """Why it can't index here, told without loading weights; empty when it can."""

    @property
    def routes(self) -> Routes:
        """(query kind, target) → the channels a query meets, with their weights."""

    @property
    def calibrations(self) -> Calibrations | None:
        """Calibrations by query form and target; None if a library may make its own."""

    @property
    def batch_size(self) -> int:
        """Images an analyzer works best on at once."""

    @property
    def analyzer_threads(self) -> int | None:
        """How many threads may call `analyze` at once with profit; None is one on each core."""

    def names_thing(self, caption: str) -> bool:
        """Whether a caption by this profile's captioner names a thing, not only its look."""

    def loaded_bytes(self) -> Mapping[str, int]:
        """Memory of the parts that are loaded, in bytes by part."""

    def encoder(self, space: str) -> Encoder:
        """The encoder of one of the spec's spaces."""

    @property
    def reader_spec(self) -> ReaderSpec | None:
        """What identifies the reader, told without loading weights; None if there is none.

        Raises MissingDependency when its files are not at hand.
        """

    def reader(self) -> Reader:
        """The reader; raises CannotWork if there is none, ModelError, MissingDependency."""

    def components(self, space: str, rows: Float32Array) -> Float32Array:
        """What rows (n, d) of a space consist of, (n, k), told without loading weights.

        Where rows are projections, what they were projected from, as nearly as they tell.
        """

    def grounding_problem(self) -> RegardError | None:
        """Why `grounder` can't be used, told without loading weights; None when it can.

        UnanswerableQuery when the profile has none, else ModelError or MissingDependency.
        """

    def grounder(self) -> Grounder:
        """The grounder; raises `grounding_problem`, and ModelError."""

    def analyzer(self) -> Analyzer:
        """The analyzer; raises ModelError or MissingDependency when it can't run here."""
