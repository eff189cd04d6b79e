"""The things of photographs: the regions that stand for objects.

A segmenter proposes an object, its parts, and the object with some of its surroundings. The region
with the best objectness stands for all that overlap it (greedy non-maximum suppression), so that
the head of a bird does not become an object beside the bird. A thing is stored as a few numbers,
so that all things of a large library fit into memory; vectors are read when they are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.records import Channel, Float32Array, Int64Array, Region
from regard.core.same_objects import (
    THING,
    ContentRegions,
    ContentThings,
    ObjectCatalog,
    Rows,
)
from regard.photos.masks import mask_iou

# Two regions are one thing if they share more than this of the smaller one.
_NESTED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """The channel that knows the colours of regions.

    `of_rows` maps its vectors (n, d) to unit rows (n, c) without negative values.
    """

    channel: Channel
    of_rows: Callable[[Float32Array], Float32Array]


@dataclass(frozen=True, slots=True, eq=False)
class Things:
    """The things of a library, one row each, by region.

    `regions` and `contents` (n,) are ids. `pictures` (n,) are equal for contents that count as one
    photograph, such as copies. `boxes` (n, 4) are left, top, right and bottom as shares of the
    image. `objectness` (n,) is the share of the library's regions with a lower score. `local` (n,)
    is the mean cosine with the nearest things of other pictures, NaN without any, and `neighbours`
    (n,) the number of candidates; a comparison sets both. `share_of_regions` is the share of regions
    that are things. `colours` (n, c) are unit rows whose inner product is the similarity of colours,
    or None without such a model.
    """

    regions: Int64Array
    contents: Int64Array
    pictures: Int64Array
    boxes: Float32Array
    objectness: Float32Array
    local: Float32Array
    neighbours: Int64Array
    share_of_regions: float
    colours: Float32Array | None

    def __len__(self) -> int:
        return len(self.regions)

    def rows_of(self, regions: Int64Array) -> Int64Array:
        """The row of each region, or -1 if it is not a thing; any shape."""
        if not len(self):
            return np.full(regions.shape, -1)
        rows = np.searchsorted(self.regions, regions).clip(max=len(self) - 1)
        return np.where(self.regions[rows] == regions, rows, -1)


def gather(stored: Iterable[ContentThings], pictures: Mapping[int, int]) -> Things:
    """All things of contents; `pictures` maps contents that count as one photograph.

    Memory is bounded by the numbers above: what is stored of a content is not kept.
    """
    empty = ContentThings(0, np.empty(0, np.float32), np.empty(0, THING), _NO_COLOURS)
    portions = [_concatenate(portion) for portion in _portions(stored)] or [_concatenate([empty])]
    rows, scores, contents = (
        np.concatenate([portion[place] for portion in portions]) for place in range(3)
    )
    colours = [portion[3] for portion in portions if portion[3].shape[1]]
    order = np.argsort(rows["region"])
    rows, contents, scores = rows[order], contents[order], np.sort(scores)
    below = np.searchsorted(scores, rows["score"])
    numbers = np.asarray([pictures.get(content, content) for content in contents.tolist()])
    return Things(
        regions=rows["region"].astype(np.int64),
        contents=contents,
        pictures=numbers.astype(np.int64),
        boxes=rows["box"].astype(np.float32),
        objectness=(below / max(len(scores), 1)).astype(np.float32),
        local=rows["local"].astype(np.float32),
        neighbours=rows["neighbours"].astype(np.int64),
        share_of_regions=len(rows) / max(len(scores), 1),
        colours=np.concatenate(colours)[order] if colours else None,
    )


_PORTION = 4096
_NO_COLOURS = np.empty((0, 0), np.float32)


def _portions(stored: Iterable[ContentThings]) -> Iterator[list[ContentThings]]:
    """Contents in portions of a few megabytes."""
    portion = []
    for content in stored:
        portion.append(content)
        if len(portion) == _PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _concatenate(
    stored: Sequence[ContentThings],
) -> tuple[Rows, Float32Array, Int64Array, Float32Array]:
    """Things, scores of all regions, contents of the things, and their colours."""
    counts = [len(content.things) for content in stored]
    colours = [content.colours for content in stored if len(content.things)]
    return (
        np.concatenate([content.things for content in stored]),
        np.concatenate([content.scores for content in stored]),
        np.repeat(np.asarray([content.content for content in stored], np.int64), counts),
        np.concatenate(colours) if colours else _NO_COLOURS,
    )


def find_things(
    contents: Iterable[ContentRegions], catalog: ObjectCatalog, colours: Colours | None
) -> list[ContentThings]:
    """The things of contents, which are not compared yet."""
    found = []
    for content in contents:
        kept = best_disjoint(content.regions)
        things = np.zeros(len(kept), THING)
        things["local"] = np.nan
        for row, place in zip(things, kept, strict=True):
            region = content.regions[place]
            box = region.box
            row["region"] = content.ids[place]
            row["score"] = region.score
            row["box"] = (
                box.x / content.width,
                box.y / content.height,
                box.right / content.width,
                box.bottom / content.height,
            )
        scores = np.asarray([region.score for region in content.regions], np.float32)
        found.append((content.content, scores, things))
    counts = [len(things) for _, _, things in found]
    ids = [int(region) for _, _, things in found for region in things["region"]]
    if colours is None or not ids:
        rows = np.empty((len(ids), 0), np.float32)
    else:
        vectors = catalog.vectors_of_regions([colours.channel], ids)[colours.channel]
        # Things deleted meanwhile have no neighbours either.
        rows = colours.of_rows(np.nan_to_num(vectors))
    parts = np.split(rows, np.cumsum(counts)[:-1]) if found else []
    return [
        ContentThings(content, scores, things, part)
        for (content, scores, things), part in zip(found, parts, strict=True)
    ]


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
