"""Queries of several terms against their definition, by brute force over all that is stored."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from memory_home import IMAGE, REGION, MemoryHome, engine_over, unit

from regard.core.catalog import StoredVectors
from regard.core.errors import NotFound, UnanswerableQuery, UsageError
from regard.core.geometry import Box
from regard.core.records import (
    Channel,
    Float32Array,
    Image,
    Kind,
    QueryKind,
    Routes,
    Target,
    WeightedChannel,
)
from regard.search.answers import (
    Answer,
    ComposedQuery,
    ImageQuery,
    LikeQuery,
    PlainQuery,
    Query,
    Reference,
    Scope,
    Term,
    TextQuery,
    query_json,
)

SEEN, SEEN_REGION = Channel("v", Kind.IMAGE), Channel("v", Kind.REGION)
ROUTES: Routes = {
    (QueryKind.TEXT, Target.IMAGE): (WeightedChannel(IMAGE, 1.0), WeightedChannel(REGION, 0.5)),
    (QueryKind.TEXT, Target.REGION): (WeightedChannel(REGION, 1.0),),
    # The joint image channel is met by texts too, with another weight.
    (QueryKind.IMAGE, Target.IMAGE): (WeightedChannel(SEEN, 0.8), WeightedChannel(IMAGE, 0.3)),
    (QueryKind.IMAGE, Target.REGION): (WeightedChannel(SEEN_REGION, 1.0),),
    (QueryKind.REGION, Target.IMAGE): (WeightedChannel(SEEN_REGION, 0.7),),
    (QueryKind.REGION, Target.REGION): (WeightedChannel(SEEN_REGION, 0.9),),
}
PICTURE = Image(np.zeros((10, 20, 3), np.uint8))


@dataclass(frozen=True)
class Encoder:
    """An encoder whose vectors depend on what is encoded and on the space alone."""

    space: str

    def _unit(self, what: object) -> Float32Array:
        return unit(np.random.default_rng(list(f"{self.space} {what}".encode())))

    def knows(self, word: str) -> bool:
        return True

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        return np.stack([self._unit(text) for text in texts])

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        return np.stack([self._unit(image.pixels.shape) for image in images])

    def encode_regions(
        self, images: Sequence[Image], boxes: Sequence[Sequence[Box]], _masks: object
    ) -> list[Float32Array]:
        return [np.stack([self._unit(box.to_list()) for box in of_image]) for of_image in boxes]


class TwoSpaces(MemoryHome):
    """A home as `lite` makes it: texts meet one space, pictures mostly the other."""

    routes = ROUTES  # type: ignore[assignment]

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.rows |= {SEEN: {}, SEEN_REGION: {}}
        for number in range(25):
            self.add_content(regions=number % 4, assets=1 + (number % 7 == 0))

    def encoder(self, space: str) -> Encoder:  # type: ignore[override]
        return Encoder(space)

    def _embed(
        self, channel: Channel, content: int, region: int | None, near: Float32Array | None
    ) -> None:
        for each in (channel, Channel("v", channel.kind)):
            super()._embed(each, content, region, near)
            number = len(self.owner)
            # As a catalog keeps it, so that its norm is not quite 1.
            self.rows[each][number] = self.rows[each][number].astype(np.float16).astype(np.float32)

    def stored(self, channel: Channel, content: int, region: int) -> Float32Array:
        return next(
            vector
            for number, vector in self.rows[channel].items()
            if self.owner[number] == (content, region)
        )

    def asset_vectors(self, asset: int) -> StoredVectors:
        if asset not in self.asset:
            raise NotFound("it is not there")
        content = self.asset[asset].content_id
        channels = (IMAGE, SEEN)
        return StoredVectors(content, None, {c: self.stored(c, content, 0) for c in channels})

    def region_vectors(self, region: int) -> StoredVectors:
        content = self.region[region].content_id
        channels = (REGION, SEEN_REGION)
        vectors = {c: self.stored(c, content, region) for c in channels}
        return StoredVectors(content, region, vectors)


def kind_of(query: PlainQuery) -> QueryKind:
    match query:
        case TextQuery():
            return QueryKind.TEXT
        case ImageQuery(_, _, box):
            return QueryKind.IMAGE if box is None else QueryKind.REGION
        case LikeQuery(reference):
            return QueryKind.REGION if reference.is_region else QueryKind.IMAGE


def vector_of(home: TwoSpaces, query: PlainQuery, space: str) -> Float32Array:
    encoder = Encoder(space)
    match query:
        case TextQuery(text):
            return encoder.encode_texts([text])[0]
        case ImageQuery(image, _, box):
            if box is None:
                return encoder.encode_images([image])[0]
            return encoder.encode_regions([image], [[box]], None)[0][0]
        case LikeQuery(reference):
            if reference.is_region:
                content = home.region[reference.id].content_id
                return home.stored(Channel(space, Kind.REGION), content, reference.id)
            return home.stored(Channel(space, Kind.IMAGE), home.asset[reference.id].content_id, 0)


def by_definition(
    home: TwoSpaces, terms: Sequence[Term], target: Target, passing: Collection[int] | None = None
) -> list[tuple[int, int, float]]:
    """(asset, region or 0, score) of every hit: sums, rankings and fusion written out.

    `passing` are the assets that may be found, None for all.
    """
    may_pass = set(home.asset if passing is None else passing)
    contents = {home.asset[number].content_id for number in may_pass}
    total = sum(term.weight for term in terms if not term.negative)
    channels = dict.fromkeys(
        weighted.channel for term in terms for weighted in ROUTES[kind_of(term.query), target]
    )
    scores: dict[int, float] = {}
    shown: dict[int, int] = {}
    for channel in channels:
        met = [
            (term, weighted.weight)
            for term in terms
            for weighted in ROUTES[kind_of(term.query), target]
            if weighted.channel == channel
        ]
        wanted = [(term, weight) for term, weight in met if not term.negative]
        if not wanted:
            continue
        query = sum(
            (-term.weight if term.negative else term.weight)
            * vector_of(home, term.query, channel.space).astype(np.float64)
            for term, _ in met
        )
        query /= np.linalg.norm(query)
        weight = max(weight for _, weight in wanted)
        weight *= sum(term.weight for term, _ in wanted) / total
        found: dict[int, float] = {}
        best = sorted(home.rows[channel].items(), key=lambda row: -float(row[1] @ query))
        for number, vector in best:
            content, region = home.owner[number]
            item = content if target is Target.IMAGE else region
            if content in contents and item not in found:
                found[item] = float(vector @ query)
                if region:
                    shown.setdefault(item, region)
        top, last = max(found.values(), default=0.0), min(found.values(), default=0.0)
        for item, cosine in found.items():
            share = 0.1 + 0.9 * (cosine - last) / (top - last) if top > last else 1.0
            scores[item] = scores.get(item, 0.0) + weight * share
    likes = [term.query.reference for term in terms if isinstance(term.query, LikeQuery)]
    hits = []
    for item, score in sorted(scores.items(), key=lambda entry: -entry[1]):
        content = item if target is Target.IMAGE else home.region[item].content_id
        own = {like.id for like in likes if like.is_region}
        if target is Target.IMAGE:
            own = {home.region[region].content_id for region in own}
        for asset in home.asset.values():
            is_itself = Reference(asset.id, False) in likes or item in own
            if asset.content_id == content and asset.id in may_pass and not is_itself:
                hits.append((asset.id, shown.get(item, 0), score))
    return hits


def drawn_terms(rng: random.Random, home: TwoSpaces) -> tuple[Term, ...]:
    queries: list[PlainQuery] = [
        TextQuery(rng.choice(["red", "a blue bus", "dogs"])),
        TextQuery(rng.choice(["rain", "night"])),
        ImageQuery(PICTURE, "p.jpg"),
        ImageQuery(PICTURE, "p.jpg", Box(rng.randrange(5), 2, 5, 6)),
        LikeQuery(Reference(rng.choice(list(home.asset)), False)),
        LikeQuery(Reference(rng.choice(list(home.region)), True)),
    ]
    chosen = rng.sample(queries, rng.randint(1, 4))
    signs = [False, *(rng.random() < 0.4 for _ in chosen[1:])]
    rng.shuffle(signs)
    return tuple(
        Term(query, rng.choice([1.0, 0.5, rng.uniform(0.01, 10)]), negative)
        for query, negative in zip(chosen, signs, strict=True)
    )


def answer(home: TwoSpaces, query: Query, target: Target, limit: int = 1000) -> Answer:
    return engine_over(home).search(query, Scope(target, limit))


def plain(found: Answer) -> list[tuple[object, ...]]:
    return [(hit.rank, hit.score, hit.asset, hit.region, hit.channels) for hit in found.hits]


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("seed", range(40))
def test_the_answer_is_that_of_the_definition(seed: int, target: Target) -> None:
    home = TwoSpaces(seed)
    terms = drawn_terms(random.Random(seed), home)
    found = answer(home, ComposedQuery(terms), target).hits
    expected = by_definition(home, terms, target)
    assert [hit.score for hit in found] == pytest.approx([s for *_, s in expected], abs=1e-5)
    # Where scores are equal, which is rare, the order is not the definition's matter.
    rounded = [
        sorted((asset, region) for asset, region, score in hits)
        for hits in (
            expected,
            [(h.asset.id, h.region.id if h.region else 0, h.score) for h in found],
        )
    ]
    assert rounded[0] == rounded[1]
    assert len(found) > 5


@pytest.mark.parametrize("target", list(Target))
@pytest.mark.parametrize("weight", [1.0, 0.3, 1e-300, 1e300])
def test_one_positive_term_is_the_plain_query(target: Target, weight: float) -> None:
    home = TwoSpaces(3)
    for query in (
        TextQuery("red"),
        ImageQuery(PICTURE, "p.jpg"),
        ImageQuery(PICTURE, "p.jpg", Box(1, 2, 3, 4)),
        LikeQuery(Reference(1, False)),
        LikeQuery(Reference(2, True)),
    ):
        composed = ComposedQuery((Term(query, weight),))
        assert plain(answer(home, composed, target)) == plain(answer(home, query, target))


def test_the_vector_of_a_single_term_is_the_stored_one() -> None:
    home = TwoSpaces(3)
    stored = home.stored(SEEN, 1, 0)
    rows = {home.owner[number][0]: vector for number, vector in home.rows[SEEN].items()}
    for hit in answer(home, LikeQuery(Reference(1, False)), Target.IMAGE).hits:
        (match,) = (match for match in hit.channels if match.space == SEEN.space)
        # Its norm is off by more than this.
        assert match.score == pytest.approx(float(rows[hit.asset.content_id] @ stored), abs=1e-6)


def test_only_the_ratio_of_weights_matters() -> None:
    home = TwoSpaces(4)
    answers = [
        answer(
            home,
            ComposedQuery(
                (Term(TextQuery("red"), 2.0 * factor), Term(TextQuery("blue"), factor, True))
            ),
            Target.IMAGE,
        )
        for factor in (1.0, 1e300, 1e-300)
    ]
    assert plain(answers[0]) == plain(answers[1]) == plain(answers[2])


def test_a_negative_term_pushes_away() -> None:
    home = TwoSpaces(5)
    near = Encoder("s").encode_texts(["rain"])[0]
    rainy = home.add_content(near=near)
    with_rain = ComposedQuery((Term(TextQuery("red")), Term(TextQuery("rain"))))
    without = ComposedQuery((Term(TextQuery("red")), Term(TextQuery("rain"), negative=True)))

    def rank(query: Query) -> int:
        channels = next(
            hit.channels
            for hit in answer(home, query, Target.IMAGE).hits
            if hit.asset.content_id == rainy
        )
        return next(
            match.rank for match in channels if match.space == IMAGE.space and match.kind == "image"
        )

    assert rank(with_rain) == 1
    assert rank(without) > 20


def test_terms_that_cancel_out() -> None:
    home = TwoSpaces(6)
    red = TextQuery("red")
    gone = ComposedQuery((Term(red), Term(red, negative=True)))
    with pytest.raises(UnanswerableQuery, match="cancel each other out"):
        answer(home, gone, Target.IMAGE)
    # In the channels of texts nothing is left; those that the picture alone meets remain.
    picture = Term(ImageQuery(PICTURE, "p.jpg"))
    found = answer(home, ComposedQuery((*gone.terms, picture)), Target.IMAGE)
    matches = {(match.space, match.kind) for hit in found.hits for match in hit.channels}
    assert matches == {(SEEN.space, "image"), (IMAGE.space, "image")}
    more = ComposedQuery((Term(red, 1.5), Term(red, negative=True)))
    ranked = [hit.asset.id for hit in answer(home, more, Target.IMAGE).hits]
    assert ranked == [hit.asset.id for hit in answer(home, red, Target.IMAGE).hits]


def test_what_is_no_composed_query() -> None:
    for weight in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="not a number above 0"):
            Term(TextQuery("red"), weight)
    for terms in ((), (Term(TextQuery("red"), negative=True),)):
        with pytest.raises(UnanswerableQuery, match="only negative terms"):
            ComposedQuery(terms)
    home = TwoSpaces(7)
    unknown = Term(LikeQuery(Reference(10**6, False)), negative=True)
    with pytest.raises(NotFound):
        answer(home, ComposedQuery((Term(TextQuery("red")), unknown)), Target.IMAGE)


def test_the_json_of_queries() -> None:
    picture = ImageQuery(PICTURE, "p.jpg", Box(1, 2, 3, 4))

    assert query_json(TextQuery("red")) == {"text": "red"}
    assert query_json(ImageQuery(PICTURE, "p.jpg")) == {"image": "p.jpg"}
    assert query_json(picture) == {"image": "p.jpg", "box": [1, 2, 3, 4]}
    assert query_json(LikeQuery(Reference(5, True))) == {"like": "r5"}
    composed = ComposedQuery(
        (
            Term(TextQuery("red")),
            Term(TextQuery("rain"), 0.5, True),
            Term(picture, 2.0),
            Term(LikeQuery(Reference(5, False))),
        )
    )
    assert query_json(composed) == {
        "text": "red",
        "negative_text": "rain",
        "image": "p.jpg",
        "box": [1, 2, 3, 4],
        "like": "a5",
        "weights": {"text": 1.0, "negative_text": 0.5, "image": 2.0, "like": 1.0},
    }
    twice = ComposedQuery((Term(TextQuery("red")), Term(TextQuery("bus"), 2.0)))
    assert query_json(twice) == {
        "text": ["red", "bus"],
        "weights": {"text": [1.0, 2.0]},
    }
