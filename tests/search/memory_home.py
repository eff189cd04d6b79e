"""A home in memory, with exact search over it, to hold the engine against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, ClassVar

import numpy as np

from regard.core.assets import Asset, AssetState, StoredRegion
from regard.core.catalog import (
    ChannelQuery,
    HitRecords,
    Neighbours,
    StoredVectors,
)
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.records import (
    Channel,
    Float32Array,
    Image,
    Kind,
    PipelineSpec,
    QueryKind,
    Routes,
    Space,
    Target,
    WeightedChannel,
)
from regard.core.relevance import Calibrations
from regard.search.engine import SearchEngine

IMAGE, REGION, CAPTION = (Channel("s", kind) for kind in (Kind.IMAGE, Kind.REGION, Kind.CAPTION))
DIMENSION = 8
NOON = datetime(2024, 5, 1, 12)


def unit(rng: np.random.Generator) -> Float32Array:
    vector = rng.standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def make_asset(number: int = 1, **changes: Any) -> Asset:
    values: dict[str, Any] = {
        "id": number,
        "content_id": number,
        "collection_id": 1,
        "collection": "default",
        "external_id": None,
        "uri": f"/{number}.jpg",
        "path": b"/%d.jpg" % number,
        "managed": False,
        "file_name": f"IMG_{number}.jpg",
        "title": None,
        "tags": (),
        "custom": {},
        "state": AssetState.INDEXED,
        "sha256": "0" * 64,
        "format": "JPEG",
        "width": 400,
        "height": 300,
        "size": 1000,
        "mtime_ns": 5,
        "taken_at": None,
        "taken_precision": None,
        "added_at": NOON,
        "dated_at": NOON,
        "deleted_at": None,
        "camera": None,
        "caption": None,
        "failure_reason": None,
    }
    return Asset(**(values | changes))


class MemoryHome:
    """Contents with regions and assets, and exact search over them.

    Implements `SearchCatalog`, `ChannelSearch` and `Profile`, and counts what is read.
    """

    name = "memory"
    batch_size = analyzer_threads = 1
    spec = PipelineSpec("memory", (Space("s", DIMENSION),), {})
    space = spec.spaces[0]
    calibrations: ClassVar[Calibrations] = {}
    takes_texts = True

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows: dict[Channel, dict[int, Float32Array]] = {IMAGE: {}, REGION: {}, CAPTION: {}}
        # Content and region of each embedding, 0 for no region.
        self.owner: dict[int, tuple[int, int]] = {}
        self.region: dict[int, StoredRegion] = {}
        self.asset: dict[int, Asset] = {}
        self.contents = 0
        self.depths: list[tuple[Channel, int]] = []

    def add_content(
        self,
        *,
        regions: int = 0,
        assets: int = 1,
        near: Float32Array | None = None,
        moments: int = 0,
    ) -> int:
        """A photograph, or with `moments` a video."""
        self.contents += 1
        content = self.contents
        self._embed(IMAGE, content, None, near)
        for _ in range(moments):
            number = len(self.region) + 1
            self.region[number] = StoredRegion(
                number, content, Box(0, 0, 2, 2), 4, 0.5, None, time_ms=number
            )
            self._embed(IMAGE, content, number, near)
        for _ in range(regions):
            number = len(self.region) + 1
            self.region[number] = StoredRegion(number, content, Box(0, 0, 2, 2), 4, 0.5, None)
            self._embed(REGION, content, number, near)
        for _ in range(assets):
            number = len(self.asset) + 1
            self.asset[number] = make_asset(number, content_id=content, uri=f"/{number}")
        return content

    def _embed(
        self, channel: Channel, content: int, region: int | None, near: Float32Array | None
    ) -> None:
        number = len(self.owner) + 1
        vector = unit(self.rng)
        if near is not None:
            vector = near + 0.01 * vector
            vector /= np.linalg.norm(vector)
        self.rows[channel][number] = vector
        self.owner[number] = (content, region or 0)

    @property
    def routes(self) -> Routes:
        image, region = WeightedChannel(IMAGE), WeightedChannel(REGION)
        return {
            (QueryKind.TEXT, Target.IMAGE): (image, region),
            (QueryKind.TEXT, Target.REGION): (region,),
            (QueryKind.IMAGE, Target.IMAGE): (image,),
            (QueryKind.IMAGE, Target.REGION): (region,),
            (QueryKind.REGION, Target.REGION): (region,),
        }

    def encoder(self, _space: str) -> MemoryHome:
        return self

    def components(self, _space: str, rows: Float32Array) -> Float32Array:
        return rows

    def knows(self, word: str) -> bool:
        return True

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        return np.stack([unit(np.random.default_rng(list(text.encode()))) for text in texts])

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        return self.encode_texts(["image"] * len(images))

    def encode_regions(
        self, images: Sequence[Image], boxes: Sequence[Sequence[Box]], _masks: object
    ) -> list[Float32Array]:
        return [self.encode_texts([str(box.to_list()) for box in boxes[0]]) for _ in images]

    def hit_records(
        self, contents: Collection[int], regions: Collection[int], _asset_filter: AssetFilter
    ) -> HitRecords:
        found: dict[int, list[Asset]] = {}
        for asset in self.asset.values():
            if asset.content_id in contents:
                found.setdefault(asset.content_id or 0, []).append(asset)
        return HitRecords(
            found, {number: self.region[number] for number in regions if number in self.region}
        )

    def asset_vectors(self, asset: int) -> StoredVectors:
        content = self.asset[asset].content_id or 0
        return StoredVectors(content, None, {IMAGE: self.rows[IMAGE][self._of(content, None)]})

    def region_vectors(self, region: int) -> StoredVectors:
        content = self.region[region].content_id
        return StoredVectors(
            content, region, {REGION: self.rows[REGION][self._of(content, region)]}
        )

    def _of(self, content: int, region: int | None) -> int:
        wanted = (content, region or 0)
        return next(number for number, owner in self.owner.items() if owner == wanted)

    def search(self, asked: Sequence[ChannelQuery], _chosen: AssetFilter) -> list[Neighbours]:
        return [self._search(query.channel, query.vectors, query.k) for query in asked]

    def _search(self, channel: Channel, queries: Float32Array, k: int) -> Neighbours:
        self.depths.append((channel, k))
        rows = self.rows[channel]
        found = Neighbours.empty(len(queries), min(k, len(rows) + 1))
        numbers = np.asarray(list(rows), np.int64)
        if len(rows):
            similar = queries @ np.stack(list(rows.values())).T
            order = np.lexsort((np.broadcast_to(numbers, similar.shape), -similar))
            order = order[:, : found.ids.shape[1]]
            of = np.asarray([self.owner[number] for number in numbers.tolist()], np.int64)
            found.scores[:, : order.shape[1]] = np.take_along_axis(similar, order, axis=1)
            found.ids[:, : order.shape[1]] = numbers[order]
            found.contents[:, : order.shape[1]] = of[order, 0]
            found.regions[:, : order.shape[1]] = of[order, 1]
        return found


def engine_over(home: MemoryHome) -> SearchEngine:
    return SearchEngine(home, home, home)  # type: ignore[arg-type]
