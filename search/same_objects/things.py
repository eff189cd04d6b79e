"""The things of photographs, and their nearest things in other photographs.

A segmenter proposes an object, its parts, and the object with some of its surroundings. The region
with the best objectness stands for all that overlap it (greedy non-maximum suppression), so that
the head of a bird does not become an object beside the bird. A thing is stored as a few numbers,
so that all things of a large library fit into memory; vectors are read when they are compared.

The vector index holds every region, not only things. So it is asked for more neighbours than
needed, and for still more if parts and the photograph's own regions took all places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import ChannelQuery, ChannelSearch, SearchCatalog
from regard.core.filters import AssetFilter
from regard.core.records import Channel, Float32Array, Int64Array, Region
from regard.core.same_objects import ContentRegions, ObjectCatalog
from regard.photos.masks import mask_iou

# Two regions are one thing if they share more than this of the smaller one.
_NESTED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Things:
    """All things of a library, one row each, by content and then best first.

    `regions` and `contents` (n,) are ids. `pictures` (n,) are equal for contents that are copies
    of one picture and count as one photograph. `boxes` (n, 4) are left, top, right and bottom as
    shares of the image. `objectness` (n,) is the share of the library's regions with a lower
    score. `colours` (n, c) are unit rows whose inner product is the similarity of colours, or None
    without such a model.
    """

    regions: Int64Array
    contents: Int64Array
    pictures: Int64Array
    boxes: Float32Array
    objectness: Float32Array
    colours: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.regions)

    def rows_of(self, regions: Int64Array) -> Int64Array:
        """The row of each region, or -1 if it is not a thing; any shape."""
        if not len(self):
            return np.full(regions.shape, -1)
        order = np.argsort(self.regions)
        places = np.searchsorted(self.regions, regions, sorter=order).clip(max=len(self) - 1)
        rows: Int64Array = order[places]
        return np.where(self.regions[rows] == regions, rows, -1)


def find_things(
    stored: Iterable[ContentRegions],
    picture_of: Callable[[int], int],
) -> Things:
    """The things of each content, without colours; `picture_of` gives the picture of a content."""
    regions: list[int] = []
    contents: list[int] = []
    pictures: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    scores: list[float] = []
    all_scores: list[float] = []
    for content in stored:
        all_scores += [region.score for region in content.regions]
        kept = best_disjoint(content.regions)
        if not kept:
            continue
        regions += [content.ids[place] for place in kept]
        contents += [content.content] * len(kept)
        pictures += [picture_of(content.content)] * len(kept)
        for place in kept:
            box = content.regions[place].box
            boxes.append(
                (
                    box.x / content.width,
                    box.y / content.height,
                    box.right / content.width,
                    box.bottom / content.height,
                )
            )
            scores.append(content.regions[place].score)
    ranked = np.sort(np.asarray(all_scores, dtype=np.float64))
    below = np.searchsorted(ranked, np.asarray(scores, dtype=np.float64))
    return Things(
        regions=np.asarray(regions, dtype=np.int64),
        contents=np.asarray(contents, dtype=np.int64),
        pictures=np.asarray(pictures, dtype=np.int64),
        boxes=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        objectness=(below / max(len(ranked), 1)).astype(np.float32),
    )


def best_disjoint(regions: Sequence[Region]) -> list[int]:
    """Positions of regions that overlap no better one, best first; ties keep their order."""
    masks = [region.mask for region in regions]
    areas = np.asarray([max(region.area, 1) for region in regions], dtype=np.float64)
    ious = mask_iou(masks, masks)
    common = ious * (areas[:, None] + areas[None, :]) / (1 + ious) if len(regions) else ious
    nested = common > _NESTED * np.minimum(areas[:, None], areas[None, :]) if len(regions) else ious
    kept: list[int] = []
    for place in sorted(range(len(regions)), key=lambda place: (-regions[place].score, place)):
        if not nested[place, kept].any():
            kept.append(place)
    return kept


# How many neighbours of a thing are kept.
NEIGHBOURS = 40
_AT_ONCE = 128
_ASKED = (200, 800, 3200)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest things in other pictures, nearest first.

    `rows` (n, 40) are rows of the things, `similarities` (n, 40) cosines; both are -1 where there
    are no more.
    """

    rows: Int64Array
    similarities: Float32Array


def find_neighbours(
    things: Things,
    catalog: ObjectCatalog,
    owners: SearchCatalog,
    index: ChannelSearch,
    channel: Channel,
    chosen: AssetFilter,
    should_stop: Callable[[], bool] = lambda: False,
) -> Neighbours | None:
    """Search the index for each thing; None if `should_stop` ended it."""
    rows = np.full((len(things), NEIGHBOURS), -1, dtype=np.int64)
    similarities = np.full((len(things), NEIGHBOURS), -1.0, dtype=np.float32)
    for start in range(0, len(things), _AT_ONCE):
        waiting = np.arange(start, min(start + _AT_ONCE, len(things)))
        ids = things.regions[waiting].tolist()
        vectors = catalog.vectors_of_regions([channel], ids)[channel]
        there = np.isfinite(vectors).all(axis=1)
        waiting, vectors = waiting[there], vectors[there]
        for asked in _ASKED:
            if not len(waiting):
                break
            if should_stop():
                return None
            scores, embeddings = index.search([ChannelQuery(channel, vectors, asked)], chosen)[0]
            found = things.rows_of(owners.owners(embeddings.ravel()).regions)
            found = found.reshape(embeddings.shape)
            short = []
            for place, thing in enumerate(waiting.tolist()):
                usable = found[place] >= 0
                usable &= things.pictures[found[place]] != things.pictures[thing]
                nearest = np.flatnonzero(usable)[:NEIGHBOURS]
                rows[thing, : len(nearest)] = found[place, nearest]
                similarities[thing, : len(nearest)] = scores[place, nearest]
                # A row that does not fill its last column holds everything.
                has_more = embeddings.shape[1] > 0 and embeddings[place, -1] >= 0
                if len(nearest) < NEIGHBOURS and has_more:
                    short.append(place)
            waiting, vectors = waiting[short], vectors[short]
    return Neighbours(rows, similarities)
