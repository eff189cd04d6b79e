"""Recall, ranks and region hits against cases counted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_labels import make_labels, make_object

from regard.core.errors import CannotWork
from regard.core.geometry import Box
from regard.core.records import Target
from regard.evaluation.labels import LabelledSet
from regard.evaluation.retrieval import Answer, Retrieval, evaluate_retrieval
from regard.evaluation.statistics import Share

Script = Mapping[tuple[str, Target], Sequence[Answer]]


def scripted(script: Script) -> Callable[..., list[Sequence[Answer]]]:
    """A searcher that knows its answers beforehand; none for other texts."""

    def search(texts: Sequence[str], target: Target, limit: int) -> list[Sequence[Answer]]:
        return [list(script.get((text, target), ()))[:limit] for text in texts]

    return search


def images(*names: str) -> list[Answer]:
    return [Answer(name) for name in names]


def by_images(labels: LabelledSet, answers: Mapping[str, Sequence[str]]) -> Retrieval:
    script = {(text, Target.IMAGE): images(*names) for text, names in answers.items()}
    return evaluate_retrieval(labels, scripted(script)).fused


def by_regions(labels: LabelledSet, answers: Mapping[str, Sequence[Answer]]) -> Retrieval:
    script = {(text, Target.REGION): found for text, found in answers.items()}
    return evaluate_retrieval(labels, scripted(script)).fused


def test_recall_is_counted_a_caption_and_a_shared_caption_is_right_on_any_bearer() -> None:
    labels = make_labels({"a": ["frog"], "b": ["frog"], "c": ["bus", "tree"], "d": ["bird"]})
    found = by_images(
        labels,
        {
            "frog": ["c", "b", "a"],  # rank 2 for both captions
            "bus": ["c"],  # rank 1
            "tree": ["a", "b", "d", "c"],  # rank 4
            "bird": [],  # not found
        },
    )
    assert found.images.recall(1) == Share(1, 5)
    assert found.images.recall(5) == Share(4, 5)
    assert found.images.recall(10) == Share(4, 5)
    # Ranks 1, 2, 2, 4, none.
    assert found.images.median_rank == 2.0
    assert [(query.text, query.rank) for query in found.images.failures()] == [
        ("bird", None),
        ("tree", 4),
        ("frog", 2),
    ]


def test_a_caption_that_one_image_bears_twice_counts_twice() -> None:
    labels = make_labels({"a": ["frog", "frog"], "b": ["bus"]})
    found = by_images(labels, {"frog": ["a"], "bus": ["a"]})
    assert found.images.recall(1) == Share(2, 3)


def test_the_median_is_null_when_it_is_not_found() -> None:
    labels = make_labels({"a": ["frog"], "b": ["bus"]})
    # The median of rank 1 and none lies between them: not found.
    found = by_images(labels, {"frog": ["a"]})
    assert found.images.median_rank is None
    assert found.to_json()["text_to_image"]["median_rank"] is None


def test_the_whole_ranking_is_asked_for_and_no_more() -> None:
    names = [f"{i:02}" for i in range(25)]
    labels = make_labels({name: [f"caption {name}"] for name in names})
    found = by_images(labels, {f"caption {name}": names for name in names})
    # Ranks 1 to 25.
    assert found.images.recall(10) == Share(10, 25)
    assert found.images.median_rank == 13.0
    assert all(len(query.answers) == 10 for query in found.images.queries)


BOX = Box(0, 0, 10, 10)
HALF = Box(0, 0, 10, 5)


def test_a_region_hit_needs_the_right_image_and_half_the_union() -> None:
    labels = make_labels(
        {"a": [], "b": []},
        {"a": [make_object("cup", BOX)], "b": [make_object("hat", BOX)]},
    )
    assert BOX.iou(HALF) == 0.5
    exactly_half = by_regions(labels, {"cup": [Answer("a", HALF)]})
    assert exactly_half.regions.recall(1) == Share(1, 2)
    too_small = by_regions(labels, {"cup": [Answer("a", Box(0, 0, 7, 7))]})
    assert too_small.regions.recall(10) == Share(0, 2)
    wrong_image = by_regions(labels, {"cup": [Answer("b", BOX)]})
    assert wrong_image.regions.recall(10) == Share(0, 2)
    no_box = by_regions(labels, {"cup": [Answer("a")]})
    assert no_box.regions.recall(10) == Share(0, 2)


def test_regions_are_counted_a_text_and_any_box_of_the_text_is_right() -> None:
    far = Box(20, 15, 10, 10)
    labels = make_labels(
        {"a": [], "b": []},
        {
            "a": [make_object("cup", BOX), make_object("cup", far), make_object("hat", HALF)],
            "b": [make_object("cup", BOX)],
        },
    )
    found = by_regions(
        labels,
        {
            "cup": [Answer("a", Box(30, 0, 5, 5)), Answer("a", far)],
            "hat": [Answer("b", HALF)] * 9 + [Answer("a", HALF)],
        },
    )
    assert found.regions.recall(1) == Share(0, 2)
    assert found.regions.recall(10) == Share(2, 2)
    assert [query.rank for query in found.regions.queries] == [2, 10]


def test_answers_past_the_limit_do_not_count() -> None:
    labels = make_labels({"a": []}, {"a": [make_object("cup", BOX)]})

    def overlong(texts: Sequence[str], target: Target, limit: int) -> list[list[Answer]]:
        return [[Answer("a", Box(30, 20, 5, 5))] * limit + [Answer("a", BOX)] for _ in texts]

    assert evaluate_retrieval(labels, overlong).fused.regions.recall(10) == Share(0, 1)


def test_ablations_stand_beside_the_fused_search() -> None:
    labels = make_labels({"a": ["frog"], "b": ["bus"]})
    good = scripted({(t, Target.IMAGE): images(n) for t, n in (("frog", "a"), ("bus", "b"))})
    report = evaluate_retrieval(labels, good, {"without captions": scripted({})})
    written = report.to_json()
    assert json.loads(json.dumps(written)) == written
    assert (written["images"], written["captions"], written["objects"]) == (2, 2, 0)
    assert written["text_to_image"]["recall_at_10"]["value"] == 1.0
    assert set(written["text_to_image"]) == {
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "median_rank",
        "halves",
    }
    assert set(written["text_to_region"]) == {"hit_at_1", "hit_at_10", "halves"}
    assert written["text_to_region"]["hit_at_1"]["value"] is None
    ablated = written["ablations"]["without captions"]
    assert ablated["text_to_image"]["recall_at_10"]["value"] == 0.0
    table = report.to_text()
    assert "without captions" in table
    assert "100.0 %" in table
    assert "not found" in table


def test_either_half_has_all_texts_of_a_head_noun() -> None:
    labels = make_labels({"a": ["A red frog."], "b": ["A frog, asleep."], "c": ["A heron."]})
    found = by_images(labels, {"A red frog.": ["a"], "A frog, asleep.": ["a", "b"]})
    assert [half.recall(1) for half in found.images.halves] == [Share(1, 2), Share(0, 1)]
    halves = found.to_json()["text_to_image"]["halves"]
    assert [half["recall_at_5"]["hits"] for half in halves] == [2, 0]


def test_an_answer_outside_the_set_is_refused() -> None:
    labels = make_labels({"a": ["frog"]})
    with pytest.raises(CannotWork, match=r"answered with z\.jpg"):
        by_images(labels, {"frog": ["z.jpg"]})


def test_a_searcher_that_loses_a_text_is_a_bug() -> None:
    with pytest.raises(ValueError, match="shorter"):
        evaluate_retrieval(make_labels({"a": ["frog"]}), lambda texts, target, limit: [])


CAPTIONS = st.dictionaries(
    st.sampled_from([f"{i}.jpg" for i in range(14)]),
    st.lists(st.sampled_from(["frog", "bus", "tree", "bird"]), max_size=3),
    min_size=1,
)


def shuffled(labels: LabelledSet, seed: int) -> Callable[..., list[Sequence[Answer]]]:
    """A searcher with an arbitrary ranking that depends on the text alone."""
    names = sorted(image.file_name for image in labels.images)

    def search(texts: Sequence[str], target: Target, limit: int) -> list[Sequence[Answer]]:
        return [
            images(*sorted(names, key=lambda name: crc32(f"{seed} {text} {name}".encode())))[:limit]
            for text in texts
        ]

    return search


@given(CAPTIONS, st.integers())
def test_recall_grows_with_k_and_a_full_ranking_finds_all(
    captions: dict[str, list[str]], seed: int
) -> None:
    labels = make_labels(captions)
    found = evaluate_retrieval(labels, shuffled(labels, seed)).fused.images
    hits = [found.recall(k).hits for k in (1, 5, 10, len(captions))]
    assert hits == sorted(hits)
    assert hits[-1] == sum(map(len, captions.values()))


@given(CAPTIONS, st.integers(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(
    captions: dict[str, list[str]], seed: int, random: Random
) -> None:
    labels = make_labels(captions)
    items = list(captions.items())
    random.shuffle(items)
    again = make_labels(dict(items))
    search = shuffled(labels, seed)
    assert evaluate_retrieval(labels, search) == evaluate_retrieval(again, search)


@given(CAPTIONS)
def test_a_perfect_searcher_reaches_one(captions: dict[str, list[str]]) -> None:
    labels = make_labels(
        captions,
        {name: [make_object(text, BOX) for text in texts] for name, texts in captions.items()},
    )

    def perfect(texts: Sequence[str], target: Target, limit: int) -> list[list[Answer]]:
        return [
            [Answer(name, BOX) for name, borne in captions.items() if text in borne][:limit]
            for text in texts
        ]

    found = evaluate_retrieval(labels, perfect).fused
    if any(captions.values()):
        assert found.images.recall(1).value == 1.0
        assert found.regions.recall(1).value == 1.0
        assert found.images.median_rank == 1.0
    assert found.images.failures() == found.regions.failures() == []
