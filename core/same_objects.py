"""What the search for same objects reads from the catalog, stores there, and finds.

A thing is a region that stands for an object. Each content is compared once: its things and the
likely pairs that they form are stored. Groups are built from all pairs and stored as well; a list
shows the members that pass its filter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from regard.core.filters import AssetFilter
from regard.core.records import Channel, Float32Array, Region


@dataclass(frozen=True, slots=True)
class ContentRegions:
    """The regions of one content, best first, with their ids; `width` and `height` in pixels."""

    content: int
    width: int
    height: int
    ids: tuple[int, ...]
    regions: tuple[Region, ...]


# Things and pairs as the catalog stores them. `box` is left, top, right and bottom as shares of the
# image, `local` the mean cosine with the nearest things in other pictures (NaN without any), and
# `neighbours` the number of candidates.
THING = np.dtype(
    [
        ("region", "<i8"),
        ("score", "<f4"),
        ("box", "<f4", (4,)),
        ("local", "<f4"),
        ("neighbours", "<u2"),
    ]
)
PAIR = np.dtype([("region", "<i8"), ("other", "<i8"), ("cosine", "<f4")])

Rows = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ContentThings:
    """The things of one content, best first, and what they were compared with.

    `scores` are those of all regions; `things` has dtype `THING`; `colours` (things, c) are unit
    rows, (things, 0) without a model of colours. `pairs` has dtype `PAIR`: likely pairs of a thing
    with one of another picture. `among` is the number of contents at the comparison, 0 before it.
    """

    content: int
    scores: Float32Array
    things: Rows
    colours: Float32Array
    pairs: Rows = field(default_factory=lambda: np.empty(0, PAIR))
    among: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A thing in one photograph.

    `picture` is equal for contents that count as one photograph. `certainty` is the mean estimated
    probability, 0 to 1, that this and each member of another picture show one object.
    """

    content: int
    region: int
    picture: int
    certainty: float


@dataclass(frozen=True, slots=True)
class SameObject:
    """One object in several photographs: its sightings, the most certain first.

    `number` is its lowest region, which no other object has. `signs` are the means over its pairs,
    as in `search.same_objects.evidence.SIGNS`.
    """

    number: int
    sightings: tuple[Sighting, ...]
    signs: tuple[float, ...]


class ObjectCatalog(Protocol):
    """The catalog as the search for objects sees it."""

    def count_without_things(self) -> int:
        """How many contents `without_things` has left."""

    def count_due(self) -> int:
        """How many contents with stored things are to be compared.

        Those that were not, and those compared when there were at most half as many contents.
        """

    def without_things(self, after: int, limit: int) -> list[int]:
        """The next analysed contents by id with a live asset whose things are not stored."""

    def regions_of(self, contents: Collection[int]) -> list[ContentRegions]:
        """The regions of contents, by id; deleted contents are left out."""

    def vectors_of_regions(
        self, channels: Collection[Channel], regions: Sequence[int]
    ) -> Mapping[Channel, Float32Array]:
        """Vectors of regions, (n, d) a channel, in the order asked for; NaN for what has gone."""

    def save_things(self, contents: Sequence[ContentThings]) -> None:
        """Store the things of contents; ignore deleted contents."""

    def stored_things(self, contents: Collection[int] | None = None) -> Iterator[ContentThings]:
        """What is stored of these contents, or of all, by id."""

    def save_comparisons(self, compared: Sequence[ContentThings]) -> None:
        """Store the results of comparisons, replacing earlier ones; ignore deleted contents."""

    def comparisons(self) -> int:
        """A number that grows whenever comparisons are saved."""

    def grouped_comparisons(self) -> int:
        """The number of comparisons that the stored groups were built from."""

    def save_groups(self, groups: Sequence[SameObject], comparisons: int) -> None:
        """Replace all groups by those built from this number of comparisons."""

    def groups(self, asset_filter: AssetFilter, first: int) -> Iterator[SameObject]:
        """Groups from number `first` on, in order, with the sightings that pass the filter."""
