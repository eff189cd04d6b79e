"""The segmentation score against confusion matrices counted pixel by pixel, and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.core.errors import CannotWork
from regard.core.geometry import Mask
from regard.evaluation.segmentation import (
    ClassTexts,
    SegmentationReport,
    SegmentedPhotograph,
    evaluate_segmentation,
    shown_by_region,
)
from regard.evaluation.semantic_labels import SemanticClass
from regard.photos.masks import decode_mask, encode_mask

WALL, DOOR, LAMP = 1, 2, 3
CLASSES = [SemanticClass(("wall",)), SemanticClass(("door", "gate")), SemanticClass(("lamp",))]
H, W, C = 3, 4, len(CLASSES)


def mask(rows: list[list[int]]) -> Mask:
    return encode_mask(np.array(rows, bool))


def photograph(
    truth: list[list[int]],
    regions: list[tuple[list[list[int]], int]],
    image_label: int = WALL,
    name: str = "a.jpg",
) -> SegmentedPhotograph:
    return SegmentedPhotograph(
        name,
        np.array(truth, np.int32),
        tuple(mask(rows) for rows, _ in regions),
        np.array([label for _, label in regions], np.int64),
        image_label,
    )


ONE = photograph(
    [
        [1, 1, 1, 0],
        [1, 2, 2, 0],
        [3, 2, 2, 0],
    ],
    [
        # The first region goes before the second where both cover: (1, 1) is a door.
        ([[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], DOOR),
        ([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0]], WALL),
    ],
    LAMP,
)


def test_a_score_by_hand() -> None:
    report = evaluate_segmentation(CLASSES, [ONE])
    # truth → given:  wall 4 → wall 4;  door 4 → door 2, wall 1, none 1;  lamp 1 → none 1.
    assert report.labelled.ious().tolist() == [4 / 5, 2 / 4, 0]
    assert report.labelled.miou.value == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert report.labelled.pixel_accuracy.value == pytest.approx(6 / 9)
    assert report.labelled.mean_class_accuracy.value == pytest.approx((1 + 0.5 + 0) / 3)
    assert report.coverage == pytest.approx(7 / 9)
    # What nothing covers becomes a lamp: one pixel rightly, one that is a door.
    assert report.filled.ious().tolist() == [4 / 5, 2 / 4, 1 / 2]
    assert report.filled.pixel_accuracy.value == pytest.approx(7 / 9)
    # The second region's own pixels are four of the wall and one of the door: nothing gets better.
    assert report.ceiling.ious().tolist() == [4 / 5, 2 / 4, 0]


def test_a_class_that_is_only_given_counts_in_the_mean_and_not_in_the_accuracy() -> None:
    whole = [[1] * W] * H
    report = evaluate_segmentation(CLASSES, [photograph(whole, [(whole, DOOR)])])
    ious = report.labelled.ious()
    assert ious[:2].tolist() == [0, 0]
    assert math.isnan(ious[2])
    assert report.labelled.miou.value == 0
    assert report.labelled.mean_class_accuracy.value == 0
    assert report.ceiling.miou.value == 1
    document = report.to_json()
    assert document["per_class"][2] == {"class": "lamp", "iou": None, "accuracy": None, "pixels": 0}
    assert document["classes_shown"] == 1
    json.dumps(document, allow_nan=False)


def test_a_photograph_without_regions() -> None:
    report = evaluate_segmentation(CLASSES, [photograph([[1] * W] * H, [], WALL)])
    assert report.coverage == 0
    assert report.labelled.miou.value == 0
    assert report.filled.miou.value == 1


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(CannotWork, match="has a class"):
        evaluate_segmentation(CLASSES, [photograph([[0] * W] * H, [])])
    with pytest.raises(CannotWork, match="has a class"):
        evaluate_segmentation(CLASSES, [])


def test_regions_of_another_size_are_refused() -> None:
    other = SegmentedPhotograph(
        "a.jpg", np.ones((H, W), np.int32), (encode_mask(np.ones((W, H), bool)),),
        np.array([1]), 1,
    )  # fmt: skip
    with pytest.raises(CannotWork, match=r"regions of a\.jpg have 3×4 pixels, its mask 4×3"):
        evaluate_segmentation(CLASSES, [other])


@st.composite
def photographs(draw: st.DrawFn) -> SegmentedPhotograph:
    def grid(low: int, high: int) -> list[list[int]]:
        row = st.lists(st.integers(low, high), min_size=W, max_size=W)
        return draw(st.lists(row, min_size=H, max_size=H))

    count = draw(st.integers(0, 3))
    label = st.integers(1, C)
    regions = [(grid(0, 1), draw(label)) for _ in range(count)]
    return photograph(grid(0, C), regions, draw(label))


SETS = st.lists(photographs(), min_size=1, max_size=4).filter(
    lambda drawn: any(one.truth.any() for one in drawn)
)


def confusion(drawn: list[SegmentedPhotograph], *, fill: bool) -> list[list[int]]:
    """Pixels by class shown and class given, counted one by one; given 0 is none."""
    counted = [[0] * (C + 1) for _ in range(C + 1)]
    for one in drawn:
        arrays = [decode_mask(m) for m in one.masks]
        for y in range(H):
            for x in range(W):
                given = one.image_label if fill else 0
                for array, label in zip(arrays, one.labels, strict=True):
                    if array[y, x]:
                        given = int(label)
                        break
                counted[int(one.truth[y, x])][given] += 1
    return counted


@given(SETS)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_confusion_matrix(drawn: list[SegmentedPhotograph]) -> None:
    report = evaluate_segmentation(CLASSES, drawn)
    for tally, fill in ((report.labelled, False), (report.filled, True)):
        counted = confusion(drawn, fill=fill)
        ious, accuracies = [], []
        for c in range(1, C + 1):
            right, shown = counted[c][c], sum(counted[c])
            given = sum(counted[other][c] for other in range(1, C + 1))
            if shown + given - right:
                ious.append(right / (shown + given - right))
            if shown:
                accuracies.append(right / shown)
        total = sum(map(sum, counted[1:]))
        assert tally.miou.value == pytest.approx(sum(ious) / len(ious))
        assert tally.mean_class_accuracy.value == pytest.approx(sum(accuracies) / len(accuracies))
        right = sum(counted[c][c] for c in range(1, C + 1))
        assert tally.pixel_accuracy.value == pytest.approx(right / total)
    uncovered = sum(row[0] for row in confusion(drawn, fill=False)[1:])
    assert report.coverage == pytest.approx(1 - uncovered / total)


@given(SETS)
@settings(max_examples=30, deadline=None)
def test_no_labels_of_these_regions_get_more_pixels_right_than_the_ceiling(
    drawn: list[SegmentedPhotograph],
) -> None:
    report = evaluate_segmentation(CLASSES, drawn)
    assert report.ceiling.right.sum() >= report.labelled.right.sum()
    assert report.ceiling.right.sum() <= report.labelled.given.sum()


@given(SETS)
@settings(max_examples=20, deadline=None)
def test_the_interval_holds_what_one_photograph_alone_says(
    drawn: list[SegmentedPhotograph],
) -> None:
    alone = evaluate_segmentation(CLASSES, [drawn[0]] if drawn[0].truth.any() else drawn)
    many = evaluate_segmentation(CLASSES, ([drawn[0]] if drawn[0].truth.any() else drawn) * 3)
    assert many.labelled.miou.value == pytest.approx(alone.labelled.miou.value)
    accuracy = many.labelled.pixel_accuracy
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert 0 <= accuracy.low <= accuracy.high <= 1


def test_intervals_tell_how_much_photographs_differ() -> None:
    whole = [[1] * W] * H
    right, wrong = photograph(whole, [(whole, WALL)]), photograph(whole, [(whole, LAMP)])

    def width(report: SegmentationReport) -> float:
        accuracy = report.labelled.pixel_accuracy
        assert accuracy.low is not None
        assert accuracy.high is not None
        return accuracy.high - accuracy.low

    few, many = (evaluate_segmentation(CLASSES, [right, wrong] * n) for n in (3, 50))
    assert few.labelled.pixel_accuracy.value == many.labelled.pixel_accuracy.value == 0.5
    assert width(evaluate_segmentation(CLASSES, [right] * 10)) == 0
    assert 0.1 < width(many) < width(few) <= 1


def test_pixels_by_region_sum_to_what_is_measured() -> None:
    table = shown_by_region(ONE, C)
    assert table.tolist() == [[0, 2, 0], [4, 1, 0], [0, 1, 1]]


def test_the_text_names_the_measures() -> None:
    text = evaluate_segmentation(CLASSES, [ONE]).to_text()
    for words in ("1 images, 2 regions, 3 of 3 classes", "mIoU", "ceiling", "77.8 %", "door"):
        assert words in text


def encode(texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The wall is up, the door to the right, the gate to the left."""
    known = {"wall": (0, 1), "door": (1, 0), "gate": (-1, 0), "lamp": (0, -1)}
    return np.array([known[text.removeprefix("a photo of a ")] for text in texts], np.float32)


@pytest.mark.parametrize("prompt", ["{}", "a photo of a {}"])
def test_a_region_gets_the_class_of_the_nearest_name(prompt: str) -> None:
    texts = ClassTexts(CLASSES, {"s": (encode, 1.0)}, prompt)  # type: ignore[dict-item]
    rows = np.array([[0.1, 0.9], [0.9, 0.1], [-0.9, 0.1], [0, -1]], np.float32)
    assert texts.nearest({"s": rows}).tolist() == [WALL, DOOR, DOOR, LAMP]
    assert texts.nearest({"s": np.zeros((0, 2), np.float32)}).shape == (0,)


def test_spaces_count_by_their_weight() -> None:
    up, right = np.array([[0, 1]], np.float32), np.array([[1, 0]], np.float32)
    for weight, expected in ((0.5, WALL), (2.0, DOOR)):
        texts = ClassTexts(CLASSES, {"s": (encode, 1.0), "t": (encode, weight)})  # type: ignore[dict-item]
        assert texts.nearest({"s": up, "t": right}).tolist() == [expected]
