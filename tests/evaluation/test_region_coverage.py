"""Coverage and mask IoU of stored regions against cases counted by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_labels import HEIGHT, WIDTH, make_labels, make_object

from regard.core.errors import CannotWork
from regard.core.geometry import Box
from regard.core.records import Region
from regard.evaluation.regions import evaluate_regions
from regard.evaluation.statistics import Share
from regard.photos.masks import encode_mask, mask_area, mask_from_box

BOX = Box(0, 0, 10, 10)
HALF = Box(0, 0, 10, 5)
FAR = Box(25, 20, 4, 4)


def region(box: Box) -> Region:
    return Region(box, mask_from_box(HEIGHT, WIDTH, box), box.area, 1.0)


def test_coverage_by_depth() -> None:
    labels = make_labels({"a": []}, {"a": [make_object("cup", BOX), make_object("hat", FAR)]})
    # The cup is met third, exactly by half; the hat only by the thirteenth region.
    boxes = [Box(15, 0, 3, 3), Box(0, 0, 10, 4), HALF, *[Box(35, 0, 2, 2)] * 9, FAR]
    report = evaluate_regions(labels, {"a": [region(box) for box in boxes]})
    assert report.coverage(5) == Share(1, 2)
    assert report.coverage(12) == Share(1, 2)
    assert report.coverage(None) == Share(2, 2)
    assert report.mask_iou(12).value == pytest.approx((0.5 + 0.0) / 2)
    assert report.mask_iou(None).value == pytest.approx((0.5 + 1.0) / 2)
    assert report.region_count == 13
    assert report.failures() == []


def test_box_and_mask_iou_are_told_apart() -> None:
    # An L of three quarters of the box: the same box, but 75 of 100 pixels.
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    pixels[0:10, 0:10] = True
    pixels[5:10, 5:10] = False
    mask = encode_mask(pixels)
    labels = make_labels({"a": []}, {"a": [make_object("cup", BOX)]})
    report = evaluate_regions(labels, {"a": [Region(BOX, mask, mask_area(mask), 1.0)]})
    (cup,) = report.objects
    assert cup.box_ious == (1.0,)
    assert cup.mask_ious == pytest.approx((0.75,))


def test_an_object_without_a_mask_counts_for_boxes_only() -> None:
    objects = [make_object("hat", FAR, masked=False), make_object("cup", BOX)]
    report = evaluate_regions(make_labels({"a": []}, {"a": objects}), {"a": [region(BOX)]})
    assert report.coverage(None) == Share(1, 2)
    assert report.mask_iou(None).total == 1
    assert report.mask_iou(None).value == 1.0


def test_no_regions_and_images_that_are_not_indexed() -> None:
    cup = [make_object("cup", BOX)]
    labels = make_labels({"a": [], "b": []}, {"a": cup, "b": cup})
    report = evaluate_regions(labels, {"a": []})
    assert report.coverage(None) == Share(0, 2)
    assert report.mask_iou(None).value == 0.0
    assert report.unanalyzed == ("b",)
    assert [missed.best_region for missed in report.failures()] == [None, None]
    assert "not indexed: 1 of" in report.to_text()


def test_failures_are_the_worst_met_first() -> None:
    labels = make_labels(
        {"a": [], "b": []},
        {"a": [make_object("cup", BOX)], "b": [make_object("hat", BOX), make_object("far", FAR)]},
    )
    report = evaluate_regions(
        labels, {"a": [region(Box(0, 0, 10, 4))], "b": [region(Box(0, 0, 10, 2))]}
    )
    assert [missed.object.text for missed in report.failures()] == ["far", "hat", "cup"]
    assert report.failures()[1].best_region == region(Box(0, 0, 10, 2))


def test_regions_of_another_size_are_refused() -> None:
    labels = make_labels({"a": []}, {"a": [make_object("cup", BOX)]})
    turned = Region(BOX, mask_from_box(WIDTH, HEIGHT, BOX), BOX.area, 1.0)
    with pytest.raises(CannotWork, match="30×40 pixels, its labels 40×30"):
        evaluate_regions(labels, {"a": [turned]})


def test_json_keys() -> None:
    labels = make_labels({"a": []}, {"a": [make_object("cup", BOX)]})
    written = evaluate_regions(labels, {"a": [region(BOX)]}).to_json()
    assert json.loads(json.dumps(written)) == written
    assert set(written) == {
        "images",
        "images_not_indexed",
        "objects",
        "regions",
        "coverage_at_5",
        "coverage_at_12",
        "coverage_all",
        "mask_iou_at_12",
        "mask_iou_all",
    }
    assert evaluate_regions(make_labels({"a": []}), {}).to_json()["coverage_all"]["value"] is None


BOXES = st.builds(
    Box, st.integers(0, 20), st.integers(0, 15), st.integers(1, 20), st.integers(1, 15)
)
STORED = st.dictionaries(st.sampled_from("abcd"), st.lists(BOXES, max_size=16), min_size=1)


@settings(max_examples=30)
@given(STORED, STORED, st.randoms(use_true_random=False))
def test_more_regions_cover_more_and_order_of_images_does_not_matter(
    labelled: Mapping[str, Sequence[Box]], stored: Mapping[str, Sequence[Box]], random: Random
) -> None:
    objects = {n: [make_object("x", box) for box in boxes] for n, boxes in labelled.items()}
    regions = {name: [region(box) for box in boxes] for name, boxes in stored.items()}
    labels = make_labels(dict.fromkeys(labelled, ()), objects)
    report = evaluate_regions(labels, regions)
    hits = [report.coverage(depth).hits for depth in (5, 12, None)]
    assert hits == sorted(hits)
    assert (report.mask_iou(12).value or 0.0) <= (report.mask_iou(None).value or 0.0)
    names = list(labelled)
    random.shuffle(names)
    again = evaluate_regions(make_labels(dict.fromkeys(names, ()), objects), regions)
    assert again.to_json() == report.to_json()
