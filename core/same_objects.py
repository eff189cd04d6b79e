"""What the search for same objects reads from the catalog, and what it finds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Sighting:
    """A thing in one photograph.

    `certainty` is the mean estimated probability, 0 to 1, that this and each other member show one
    object.
    """

    content: int
    region: int
    certainty: float


@dataclass(frozen=True, slots=True)
class SameObject:
    """One object in several photographs: its sightings, the most certain first, one a content.

    `certainty` is the mean over all pairs, 0 to 1; `reasons` say in words what speaks for it.
    """

    sightings: tuple[Sighting, ...]
    certainty: float
    reasons: tuple[str, ...]


class ObjectCatalog(Protocol):
    """The catalog as the search for objects sees it."""

    def moment(self) -> object:
        """Equal to an earlier one as long as no region, asset or collection has changed since."""

    def content_regions(self, asset_filter: AssetFilter) -> Iterator[ContentRegions]:
        """Contents with an asset that passes the filter, by id, read page by page."""

    def vectors_of_regions(
        self, channels: Collection[Channel], regions: Sequence[int]
    ) -> Mapping[Channel, Float32Array]:
        """Vectors of regions, (n, d) a channel, in the order asked for; NaN for what has gone."""
