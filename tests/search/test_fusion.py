"""Fusion: one ranking out of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.catalog import Neighbours
from regard.core.records import Float32Array, Target, WeightedChannel
from regard.search import fusion
from regard.search.fusion import (
    LAST_SHARE,
    Ranking,
    points_by_span,
    points_by_strength,
    rank_by_vectors,
)
from tests.search.memory_home import IMAGE

_RANKING = st.lists(st.integers(1, 30), unique=True, max_size=20)
_WEIGHT = st.floats(0.01, 10)
_WEIGHTED = st.lists(st.tuples(_RANKING, _WEIGHT), min_size=1, max_size=4)


def ranked(ranking: Sequence[int], weight: float) -> Ranking:
    items = np.asarray(ranking, np.int64)
    ids = np.append(items, -1)
    scores = np.append(descending(len(items)), np.float32(-np.inf))
    columns = (scores, ids, np.maximum(ids, 0), np.zeros_like(ids))
    neighbours = Neighbours(*(column[None] for column in columns))
    return rank_by_vectors(WeightedChannel(IMAGE, weight), neighbours, 0, Target.IMAGE)


def fuse(rankings: Sequence[Sequence[int]], weights: Sequence[float]) -> list[tuple[int, float]]:
    fused = fusion.fuse(
        [ranked(*item) for item in zip(rankings, weights, strict=True)], Target.IMAGE, 0
    )
    assert fused.items.dtype == np.int64
    assert fused.contributions.sum(axis=0).tolist() == pytest.approx(fused.scores.tolist())
    return list(zip(fused.items.tolist(), fused.scores.tolist(), strict=True))


def descending(count: int) -> Float32Array:
    """Scores with the same step from each to the next."""
    return 0.3 - 0.01 * np.arange(count, dtype=np.float32)


def share(place: int, count: int) -> float:
    """What the item at a place, from 0, gets of its channel's weight by those scores."""
    return 1.0 if count == 1 else 1 - (1 - LAST_SHARE) * place / (count - 1)


def _items(fused: list[tuple[int, float]]) -> list[int]:
    return [item for item, _ in fused]


@given(ranking=_RANKING, weight=_WEIGHT)
def test_one_channel_keeps_its_order(ranking: list[int], weight: float) -> None:
    assert _items(fuse([ranking], [weight])) == ranking


@given(weighted=_WEIGHTED)
def test_the_score_is_the_sum_over_channels(weighted: list[tuple[list[int], float]]) -> None:
    rankings, weights = zip(*weighted, strict=True)
    fused = fuse(rankings, weights)
    for item, score in fused:
        expected = sum(
            weight * share(ranking.index(item), len(ranking))
            for ranking, weight in weighted
            if item in ranking
        )
        assert score == pytest.approx(expected, rel=1e-4)
    assert sorted(_items(fused)) == sorted(set().union(*rankings))
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)


@given(weighted=_WEIGHTED, data=st.data())
def test_the_order_of_channels_changes_no_score(
    weighted: list[tuple[list[int], float]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(weighted))
    one = dict(fuse(*map(list, zip(*weighted, strict=True))))
    other = dict(fuse(*map(list, zip(*shuffled, strict=True))))
    assert one == pytest.approx(other)


@given(weighted=_WEIGHTED)
def test_the_same_rankings_give_the_same_answer(weighted: list[tuple[list[int], float]]) -> None:
    rankings, weights = zip(*weighted, strict=True)
    assert fuse(rankings, weights) == fuse(rankings, weights)


@given(weighted=_WEIGHTED, factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_only_the_ratio_of_weights_matters(
    weighted: list[tuple[list[int], float]], factor: float
) -> None:
    rankings, weights = zip(*weighted, strict=True)
    scaled = fuse(rankings, [weight * factor for weight in weights])
    assert _items(scaled) == _items(fuse(rankings, weights))


@given(rankings=st.lists(_RANKING, min_size=2, max_size=4))
def test_what_is_first_everywhere_is_first(rankings: list[list[int]]) -> None:
    best = 99
    fused = fuse([[best, *ranking] for ranking in rankings], [1.0] * len(rankings))
    assert fused[0][0] == best


def test_ties_go_to_the_earlier_channel() -> None:
    assert _items(fuse([[5, 3], [3, 5]], [1, 1])) == [5, 3]
    assert _items(fuse([[5], [3]], [1, 1])) == [5, 3]
    assert _items(fuse([[3], [5]], [1, 1])) == [3, 5]
    assert _items(fuse([[5], [3]], [1, 2])) == [3, 5]


def test_nothing_gives_nothing() -> None:
    assert fuse([], []) == []
    assert fuse([[], []], [1, 1]) == []


def test_points_are_the_same_on_whatever_scale_the_scores_are() -> None:
    scores = np.asarray([0.9, 0.5, 0.5, 0.1], np.float32)
    points = points_by_span(scores, 2.0)
    middle = 1 + LAST_SHARE
    assert points.tolist() == pytest.approx([2.0, middle, middle, 2 * LAST_SHARE])
    assert points_by_span(100 * scores - 7, 2.0).tolist() == pytest.approx(points.tolist())
    assert points_by_span(np.full(3, 0.4, np.float32), 2.0).tolist() == [2.0, 2.0, 2.0]


def test_a_whole_match_of_words_is_worth_a_best_score() -> None:
    strengths = np.asarray([1.0, 0.5, 0.0], np.float32)
    best = points_by_span(descending(5), 0.7)[0]
    assert points_by_strength(strengths, 0.7).tolist() == pytest.approx([best, best / 2, 0])
