"""What keeps vectors and finds the nearest ones: the interface of all vector engines.

An engine keeps one index for each channel of a pipeline. Each index is derived from the catalog: it
follows the change log and says up to which position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from regard.core.catalog import Neighbours
from regard.core.errors import HomeError
from regard.core.idset import IdSet
from regard.core.records import Float16Array, Float32Array, Int64Array, Kind

# Ids (n,) positive int64, vectors (n, d) float32 or float16, and the ids of contents and regions
# (n,), 0 for none.
Additions = tuple[Int64Array, npt.NDArray[np.floating], Int64Array, Int64Array]
# Samples (q, d) of each kind of query that a channel gets.
Queries = Callable[[], Sequence[Float32Array]]


@dataclass(frozen=True, slots=True)
class IndexIdentity:
    """The catalog UUID, pipeline fingerprint and channel of an index."""

    catalog: str
    pipeline: str
    space: str
    kind: Kind
    dimension: int


class VectorIndex(Protocol):
    """Nearest neighbours by inner product over one channel's vectors of norm 1, that is cosine.

    Scores are exact over the float16 vectors of the catalog; which rows are scored may be
    approximate. Changes and searches may come from several threads. All methods raise
    EngineUnavailable while the engine can't be used.
    """

    identity: IndexIdentity

    @property
    def applied_through(self) -> int:
        """The last position of the change log that this process knows to be in the index."""

    @property
    def is_exact(self) -> bool:
        """Whether searches score all rows."""

    def changing(self) -> AbstractContextManager[None]:
        """The right to change the index for the block; waits until no other process has it.

        From then on `applied_through` tells what other processes have applied.
        """

    def check(self) -> None:
        """Raise EngineUnavailable if the engine does not answer soon, where it may be away alone."""
        return None

    def apply(self, additions: Additions, removals: Int64Array, *, through: int) -> None:
        """Take one step of the change log, which ends at position `through`; visible as a whole.

        `additions` have norm 1 and are kept as float16; an id that is there already keeps its row.
        An id that is also in `removals` was added and deleted within the step. A step that ends at
        or before `applied_through` changes nothing, so the log may be replayed. Raises ValueError.
        """

    def fill(self, additions: Iterable[Additions], *, through: int) -> None:
        """Take all rows up to position `through` into an empty index, by ascending ids, in steps.

        One step at a time is in memory. Raises ValueError as `apply` does; then the index stays
        empty.
        """

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None, *, exact: bool = False
    ) -> Neighbours:
        """The `k` best rows of each query (n, d) whose contents are `allowed`; ties by ascending id.

        Padded only when fewer than `k` allowed rows exist. With `exact` no row is missed. Raises
        ValueError for queries that are not finite or of another dimension, and for a negative `k`.
        """

    def ids(self) -> Int64Array:
        """All ids, ascending."""

    def vectors(self, ids: Int64Array) -> Float16Array:
        """The vectors of `ids` (n,), float16 (n, d), in their order; raises NotFound."""

    @property
    def row_count(self) -> int:
        """How many rows a search can find."""

    def stats(self) -> Mapping[str, Any]:
        """Counts, among them `rows`, and sizes; which ones depends on the engine."""

    def snapshot(self, queries: Queries | None = None) -> None:
        """Make durable what is not yet; with `queries`, also make searches of what is large fast."""

    def damage(self) -> Sequence[str]:
        """What is damaged, other than the vectors: a clause each, such as "the file X is damaged"."""

    @property
    def unsaved_rows(self) -> int:
        """Rows that are in memory alone until a snapshot."""


class VectorEngine(Protocol):
    """Keeps the indexes of one home's pipelines.

    It is made without asking whether it can be used; methods raise EngineUnavailable while not.
    """

    folder: Path
    """Where the home keeps files about indexes: see `index_folder`."""

    def open(self, identity: IndexIdentity) -> VectorIndex:
        """A channel's index as it is kept; an empty one at position 0 where there is none.

        Raises IndexMismatch when it is damaged or was made for something else.
        """

    def create(self, identity: IndexIdentity) -> VectorIndex:
        """An empty index, which replaces the one that is kept when it is filled or has a snapshot."""

    def kept_stats(self, identity: IndexIdentity) -> Mapping[str, Any] | None:
        """The counts of an index as it is kept, without opening it; None where there is none.

        Raises IndexMismatch when it is damaged.
        """

    def forget(self, catalog: str, pipeline: str) -> None:
        """Delete a pipeline's indexes that are not in its folder.

        `catalog` is its UUID, `pipeline` a fingerprint.
        """


@contextmanager
def disk_errors_named(folder: Path) -> Iterator[None]:
    """Raise HomeError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise HomeError(
            f"the vector indexes in {folder} can't be used: {error.strerror or error}",
            remedy="check permissions and free space, then run: regard rebuild",
        ) from error


def sample_rows(index: VectorIndex, count: int, seed: int) -> tuple[Int64Array, Float32Array]:
    """Ids (m,) and vectors (m, d) of up to `count` rows of an index.

    The same rows and seed give the same sample.
    """
    ids = index.ids()
    rng = np.random.default_rng([len(ids), seed])
    chosen = rng.choice(ids, min(count, len(ids)), replace=False) if len(ids) else ids
    vectors = index.vectors(chosen).astype(np.float32)
    is_finite = np.isfinite(vectors).all(axis=1)  # damaged rows may not be
    return chosen[is_finite], vectors[is_finite]
