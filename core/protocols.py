"""What the rooms supply to each other.

`indexer`, `search` and `evaluation` see models and storage through these alone. Models have batch
methods only: order in is order out, and a batch gives the same rows as one by one, within the
tolerance that each implementation states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from regard.core.errors import CannotWork
from regard.core.geometry import Box, Mask
from regard.core.idset import IdSet
from regard.core.records import (
    Analysis,
    Float32Array,
    Image,
    Int64Array,
    PipelineSpec,
    Region,
    Routes,
    Space,
)
from regard.core.relevance import Calibrations


class Encoder(Protocol):
    """Maps what it declares to take into one space; every row is L2-normalised."""

    @property
    def space(self) -> Space:
        """The space that the rows lie in."""

    @property
    def takes_texts(self) -> bool:
        """Whether `encode_texts` works; it raises UsageError otherwise."""

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


class Captioner(Protocol):
    """Writes one sentence an image."""

    def caption(self, images: Sequence[Image]) -> list[str]:
        """One sentence for each image; empty when there is nothing it is sure enough to say."""


class Segmenter(Protocol):
    """Finds the things in an image."""

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Regions of each image, best first."""


class Analyzer(Protocol):
    """Regions, captions and vectors of a batch of images, by few forward passes."""

    def analyze(self, images: Sequence[Image]) -> list[Analysis]:
        """One analysis an image."""


class Profile(Protocol):
    """The named set of models; nothing heavy is loaded before one of its models is asked for."""

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
    def calibrations(self) -> Calibrations:
        """What relevance means, by form of query and target; empty where nothing was calibrated."""

    @property
    def batch_size(self) -> int:
        """Images an analyzer works best on at once."""

    @property
    def analyzer_threads(self) -> int:
        """How many threads may call `analyze` at once with profit."""

    def names_thing(self, caption: str) -> bool:
        """Whether a sentence of this profile's captioner says what a thing is, not only its look."""

    def loaded_bytes(self) -> Mapping[str, int]:
        """Memory of the parts that are loaded, in bytes by part."""

    def encoder(self, space: str) -> Encoder:
        """The encoder of one of the spec's spaces."""

    def analyzer(self) -> Analyzer:
        """The analyzer; raises ModelError or MissingDependency when it can't run here."""


class VectorIndex(Protocol):
    """Nearest neighbours by inner product over one channel.

    Ids are the embeddings' SQL ids: positive, never reused. Searching never changes shared state.
    """

    @property
    def applied_through(self) -> int:
        """The last position of the change log that this index contains."""

    def add(self, ids: Int64Array, vectors: Float32Array) -> None:
        """Add rows; `ids` (n,) int64 not present yet, `vectors` (n, d) float32, L2-normalised."""

    def remove(self, ids: Int64Array) -> None:
        """Forget rows; unknown ids are ignored."""

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None
    ) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows of each query among `allowed`.

        Returns scores (n, k) float32, descending, and ids (n, k) int64. Where fewer than `k` rows
        exist the rest is -inf and -1; never while `k` allowed rows exist.
        """

    def stats(self) -> Mapping[str, Any]:
        """Counts and sizes for `status`."""


class Snapshotting(Protocol):
    """An index that can be kept on disk."""

    def snapshot(self) -> None:
        """Write what is not on disk yet; a crash in the middle leaves the one before."""
