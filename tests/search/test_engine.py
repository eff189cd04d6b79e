"""The engine over a catalog in memory: how deep it reads, and what it leaves out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pytest

from regard.core.catalog import AssetView, Owner, RegionView, StoredVectors
from regard.core.errors import UsageError
from regard.core.geometry import Box
from regard.core.records import (
    Channel,
    Float32Array,
    Image,
    Int64Array,
    Kind,
    PipelineSpec,
    QueryKind,
    Routes,
    Space,
    Target,
    WeightedChannel,
)
from regard.search.answers import Answer, ImageQuery, LikeQuery, Query, Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.search.identifiers import Reference, parse_identifier

IMAGE, REGION, CAPTION = (Channel("s", kind) for kind in (Kind.IMAGE, Kind.REGION, Kind.CAPTION))
_DIMENSION = 8


def _unit(rng: np.random.Generator) -> Float32Array:
    vector = rng.standard_normal(_DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class MemoryHome:
    """Contents with regions and assets, and exact search over them.

    Implements `SearchCatalog`, `ChannelSearch` and `Profile`, and counts what is read.
    """

    name = "memory"
    batch_size = analyzer_threads = 1
    spec = PipelineSpec("memory", (Space("s", _DIMENSION),), {})
    space = spec.spaces[0]
    takes_texts = True

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows: dict[Channel, dict[int, Float32Array]] = {IMAGE: {}, REGION: {}, CAPTION: {}}
        self.owner: dict[int, Owner] = {}
        self.region: dict[int, RegionView] = {}
        self.asset: dict[int, AssetView] = {}
        self.contents = 0
        self.depths: list[tuple[Channel, int]] = []

    def add_content(
        self, *, regions: int = 0, assets: int = 1, near: Float32Array | None = None
    ) -> int:
        self.contents += 1
        content = self.contents
        self._embed(IMAGE, content, None, near)
        for _ in range(regions):
            number = len(self.region) + 1
            self.region[number] = RegionView(number, content, Box(0, 0, 2, 2), 4, None)
            self._embed(REGION, content, number, near)
        for _ in range(assets):
            number = len(self.asset) + 1
            path = f"/{number}"
            self.asset[number] = AssetView(number, content, path, path.encode(), 9, 9, None)
        return content

    def _embed(
        self, channel: Channel, content: int, region: int | None, near: Float32Array | None
    ) -> None:
        number = len(self.owner) + 1
        vector = _unit(self.rng)
        if near is not None:
            vector = near + 0.01 * vector
            vector /= np.linalg.norm(vector)
        self.rows[channel][number] = vector
        self.owner[number] = Owner(number, content, region)

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

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        return np.stack([_unit(np.random.default_rng(list(text.encode()))) for text in texts])

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        return self.encode_texts(["image"] * len(images))

    def encode_regions(
        self, images: Sequence[Image], boxes: Sequence[Sequence[Box]], _masks: object
    ) -> list[Float32Array]:
        return [self.encode_texts([str(box.to_list()) for box in boxes[0]]) for _ in images]

    def owners(self, embeddings: Int64Array) -> dict[int, Owner]:
        return {
            number: self.owner[number] for number in embeddings.tolist() if number in self.owner
        }

    def assets(
        self, contents: Collection[int], _collection: str | None
    ) -> dict[int, list[AssetView]]:
        found: dict[int, list[AssetView]] = {}
        for view in self.asset.values():
            if view.content in contents:
                found.setdefault(view.content, []).append(view)
        return found

    def regions(self, regions: Collection[int]) -> dict[int, RegionView]:
        return {number: self.region[number] for number in regions if number in self.region}

    def asset_vectors(self, asset: int) -> StoredVectors:
        content = self.asset[asset].content
        return StoredVectors(content, None, {IMAGE: self.rows[IMAGE][self._of(content, None)]})

    def region_vectors(self, region: int) -> StoredVectors:
        content = self.region[region].content
        return StoredVectors(
            content, region, {REGION: self.rows[REGION][self._of(content, region)]}
        )

    def _of(self, content: int, region: int | None) -> int:
        return next(
            owner.embedding
            for owner in self.owner.values()
            if (owner.content, owner.region) == (content, region)
        )

    def search(
        self, channel: Channel, queries: Float32Array, k: int, _collection: str | None
    ) -> tuple[Float32Array, Int64Array]:
        self.depths.append((channel, k))
        rows = self.rows[channel]
        width = min(k, len(rows) + 1)
        scores = np.full((len(queries), width), -np.inf, np.float32)
        ids = np.full((len(queries), width), -1, np.int64)
        numbers = np.asarray(list(rows), np.int64)
        if len(rows):
            similar = queries @ np.stack(list(rows.values())).T
            order = np.lexsort((np.broadcast_to(numbers, similar.shape), -similar))[:, :width]
            scores[:, : order.shape[1]] = np.take_along_axis(similar, order, axis=1)
            ids[:, : order.shape[1]] = numbers[order]
        return scores, ids


def _engine(home: MemoryHome) -> SearchEngine:
    return SearchEngine(home, home, home)  # type: ignore[arg-type]


def _search(home: MemoryHome, query: Query | str, target: Target, limit: int) -> Answer:
    query = TextQuery(query) if isinstance(query, str) else query
    answer = _engine(home).search(query, Scope(target, limit))
    assert len(answer.hits) <= limit
    assert [hit.rank for hit in answer.hits] == list(range(1, len(answer.hits) + 1))
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    if target is Target.IMAGE:
        assert len({hit.asset.id for hit in answer.hits}) == len(answer.hits)
    else:
        assert all(hit.region is not None for hit in answer.hits)
    return answer


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 61, 10**6, 10**30])
@pytest.mark.parametrize("target", list(Target))
def test_as_many_hits_as_there_are_up_to_the_limit(limit: int, target: Target) -> None:
    home = MemoryHome()
    for _ in range(60):
        home.add_content(regions=1)
    assert len(_search(home, "red", target, limit).hits) == min(limit, 60)


def test_one_content_with_thousands_of_regions_hides_no_other() -> None:
    """All that is near the query belongs to one content; the others lie far below it."""
    home = MemoryHome()
    near = home.encode_texts(["red"])[0]
    home.rows[IMAGE].clear()
    crowded = home.add_content(regions=3000, near=near)
    for _ in range(20):
        home.add_content(regions=1)
    home.rows[IMAGE].clear()
    answer = _search(home, "red", Target.IMAGE, 15)
    assert len(answer.hits) == 15
    assert answer.hits[0].asset.content == crowded
    assert answer.hits[0].region is not None


def test_twins_each_are_a_hit_and_count_for_the_limit() -> None:
    home = MemoryHome()
    home.add_content(assets=5)
    home.add_content(assets=1)
    assert len(_search(home, "red", Target.IMAGE, 3).hits) == 3
    assert len(_search(home, "red", Target.IMAGE, 10).hits) == 6


def test_like_an_asset_leaves_out_only_itself() -> None:
    home = MemoryHome()
    home.add_content(assets=2)
    for _ in range(9):
        home.add_content()
    answer = _search(home, LikeQuery(Reference(1, False)), Target.IMAGE, 100)
    assert sorted(hit.asset.id for hit in answer.hits) == list(range(2, 12))
    # Its twin looks exactly like it.
    assert answer.hits[0].asset.id == 2
    assert len(_search(home, LikeQuery(Reference(1, False)), Target.IMAGE, 10).hits) == 10


def test_like_an_asset_gives_as_many_regions_as_wanted() -> None:
    """Its own regions, the nearest of all, are left out, and others take their places."""
    home = MemoryHome()
    near = _unit(home.rng)
    home.add_content(regions=50, near=near)
    for _ in range(40):
        home.add_content(regions=1)
    stored = home.asset_vectors

    def vectors(asset: int) -> StoredVectors:
        found = stored(asset)
        return StoredVectors(found.content, None, {IMAGE: near, REGION: near})

    home.asset_vectors = vectors  # type: ignore[method-assign]
    for limit in (1, 3, 39, 40, 41):
        answer = _search(home, LikeQuery(Reference(1, False)), Target.REGION, limit)
        assert len(answer.hits) == min(limit, 40)
        assert all(hit.asset.id != 1 for hit in answer.hits)


def test_like_a_region_leaves_out_only_itself() -> None:
    home = MemoryHome()
    for _ in range(5):
        home.add_content(regions=2)
    answer = _search(home, LikeQuery(Reference(3, True)), Target.REGION, 100)
    regions = sorted(hit.region.id for hit in answer.hits if hit.region is not None)
    assert regions == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_what_was_deleted_since_makes_room_for_others() -> None:
    home = MemoryHome()
    for _ in range(30):
        home.add_content(regions=1)
    best = _search(home, "red", Target.IMAGE, 3)
    for hit in best.hits:
        # The index still knows it, the catalog does not.
        del home.asset[hit.asset.id]
    assert len(_search(home, "red", Target.IMAGE, 3).hits) == 3
    best = _search(home, "red", Target.REGION, 3)
    for hit in best.hits:
        assert hit.region is not None
        del home.region[hit.region.id]
    assert len(_search(home, "red", Target.REGION, 3).hits) == 3


def test_an_answer_does_not_depend_on_its_neighbours_in_a_batch() -> None:
    home = MemoryHome()
    home.add_content(regions=1500, near=home.encode_texts(["crowded"])[0])
    for _ in range(300):
        home.add_content(regions=2)
    texts = ["crowded", "red", "blue", "green"]
    scope = Scope(Target.IMAGE, 100)

    def shown(answers: Sequence[Answer]) -> list[list[tuple[int, int | None, float]]]:
        return [
            [(hit.asset.id, hit.region and hit.region.id, hit.score) for hit in answer.hits]
            for answer in answers
        ]

    alone = [_engine(home).search(TextQuery(text), scope) for text in texts]
    together = _engine(home).search_texts([TextQuery(text) for text in texts], scope)
    assert shown(together) == shown(alone)
    assert _engine(home).search_texts([], scope) == []


def test_the_region_shown_is_the_best_matching_one() -> None:
    home = MemoryHome()
    for _ in range(5):
        home.add_content(regions=3)
    query = home.encode_texts(["red"])[0]
    for hit in _search(home, "red", Target.IMAGE, 5).hits:
        scores = {
            owner.region: float(home.rows[REGION][owner.embedding] @ query)
            for owner in home.owner.values()
            if owner.content == hit.asset.content and owner.region is not None
        }
        assert hit.region is not None
        assert hit.region.id == max(scores, key=lambda region: scores[region])
        assert [match.channel for match in hit.channels] == [IMAGE, REGION]
        assert hit.channels[1].score == pytest.approx(max(scores.values()))


def test_a_query_that_the_profile_has_no_channel_for() -> None:
    home = MemoryHome()
    with pytest.raises(UsageError, match="no region query with images"):
        _search(home, LikeQuery(Reference(1, True)), Target.IMAGE, 1)


def test_a_box_is_cut_at_the_picture_s_edge_and_refused_outside() -> None:
    home = MemoryHome()
    home.add_content(regions=1)
    picture = Image(np.zeros((10, 20, 3), np.uint8))
    seen: list[list[int]] = []
    encode = home.encode_regions

    def watched(
        images: Sequence[Image], boxes: Sequence[Sequence[Box]], masks: object
    ) -> list[Float32Array]:
        seen.extend(box.to_list() for box in boxes[0])
        return encode(images, boxes, masks)

    home.encode_regions = watched  # type: ignore[method-assign]
    for box in (Box(-5, -5, 10, 10), Box(15, 5, 100, 100)):
        _search(home, ImageQuery(picture, "p", box), Target.REGION, 1)
    assert seen == [[0, 0, 5, 5], [15, 5, 5, 5]]
    with pytest.raises(UsageError, match="outside the picture of 20×10"):
        _search(home, ImageQuery(picture, "p", Box(20, 0, 5, 5)), Target.REGION, 1)


def test_identifiers() -> None:
    assert parse_identifier("a1") == Reference(1, False)
    assert parse_identifier(" r999999999999999999 ") == Reference(999999999999999999, True)
    for text in ("", "a", "1", "a01", "a+1", "A1", "a1 2", "a1\n2", "b1", "a1.0", "a١", "-a1"):
        with pytest.raises(UsageError):
            parse_identifier(text)
