"""The measure of regions grouped by object: counted by hand, and split by identity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_labels import HEIGHT, WIDTH, WriteSet, make_labels, make_object
from made_library import regard

from regard.core.errors import CannotWork
from regard.core.geometry import Box, Mask
from regard.evaluation.same_objects import (
    Identities,
    ObjectReport,
    fit_logistic,
    identify,
    measure_groups,
    split,
    training_pairs,
)
from regard.photos.masks import mask_from_box

LEFT, RIGHT = Box(0, 0, 10, 20), Box(20, 0, 10, 20)


def mask(box: Box) -> Mask:
    return mask_from_box(HEIGHT, WIDTH, box)


@pytest.fixture
def identities() -> Identities:
    """A cup in four photographs (in `d` no region covers it), a hat in two, a bell in one."""
    objects = {
        "a": [make_object("cup", LEFT), make_object("hat", RIGHT)],
        "b": [make_object("cup", LEFT), make_object("bell", RIGHT)],
        "c": [make_object("cup", LEFT), make_object("hat", RIGHT)],
        "d": [make_object("cup", LEFT)],
    }
    part, elsewhere = Box(0, 0, 10, 5), Box(12, 22, 6, 6)
    regions = {
        "a": {1: mask(LEFT), 2: mask(RIGHT), 3: mask(elsewhere)},
        "b": {11: mask(LEFT), 12: mask(RIGHT), 13: mask(part)},
        "c": {21: mask(LEFT), 22: mask(RIGHT), 23: mask(elsewhere), 24: mask(part)},
        "d": {31: mask(part)},
    }
    return identify(make_labels({name: [] for name in objects}, objects), regions)


def counts(report: ObjectReport) -> dict[str, tuple[int, int]]:
    return {name: (share.hits, share.total) for name, share in report.shares.items()}


def test_regions_stand_for_what_they_cover_by_half_and_parts_lie_on_it(
    identities: Identities,
) -> None:
    assert identities.text(1) == "cup"
    assert identities.text(12) == "bell"
    assert identities.text(13) is None
    assert identities.regions[13].on == "cup"
    assert identities.regions[3].on is None


def test_pairs_and_groups_are_counted(identities: Identities) -> None:
    # Right: 1-11, 1-21, 11-21. Wrong: hat with bell; background with background; parts of one cup.
    report = measure_groups(identities, [[1, 11, 21], [2, 12], [3, 23], [13, 24]])
    assert counts(report) == {
        "precision": (3, 6),
        "precision_on_object": (4, 6),
        # Cups: 3 of 6 pairs are covered; hats: 1.
        "recall": (3, 7),
        "recall_covered": (3, 4),
        "pure_groups": (1, 4),
    }


def test_two_regions_of_one_photograph_are_no_pair_and_no_pair_counts_twice(
    identities: Identities,
) -> None:
    report = measure_groups(identities, [[1, 2, 22]])
    assert counts(report)["precision"] == (1, 2)
    assert counts(report)["recall"] == (1, 7)


def test_nothing_found_has_no_precision(identities: Identities) -> None:
    report = measure_groups(identities, [])
    assert report.shares["precision"].value is None
    assert report.shares["recall"].value == 0
    assert "–" in report.to_text()


def test_halves_part_identities_and_together_count_everything_once(
    identities: Identities,
) -> None:
    groups = [[1, 11, 21], [2, 12], [3, 23], [13, 24]]
    whole = measure_groups(identities, groups)
    for seed in range(8):
        one, other = split(identities, seed)
        assert not one.texts & other.texts
        assert {abs(len(one.texts) - len(other.texts))} <= {0, 1}
        halves = [measure_groups(identities, groups, half) for half in (one, other)]
        assert ObjectReport.mean(halves, 1) == whole
        assert ObjectReport.mean([*halves, *halves], 2) == whole


def test_training_leaves_out_parts_and_the_other_half(identities: Identities) -> None:
    pairs = [(1, 11), (1, 12), (13, 24), (3, 23), (11, 24)]
    used, same = training_pairs(identities, pairs, None)
    assert used.tolist() == [True, True, False, True, False]
    assert same.tolist() == [True, False, False, False, False]
    one, other = split(identities, 0)
    for pair in range(len(pairs)):
        both = [training_pairs(identities, pairs, half)[0][pair] for half in (one, other)]
        assert sum(both) <= 1


def test_logistic_regression_finds_the_weights_that_made_the_data() -> None:
    generator = np.random.default_rng(0)
    signs = generator.normal([5.0, -2.0], [2.0, 0.5], size=(40_000, 2)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(1.5 + 0.8 * (signs[:, 0] - 5) - 2.0 * (signs[:, 1] + 2))))
    same = generator.random(len(signs)) < chance
    intercept, weights = fit_logistic(signs, same)
    assert weights == pytest.approx((0.8, -2.0), abs=0.08)
    assert intercept == pytest.approx(1.5 - 0.8 * 5 - 2.0 * 2, abs=0.3)
    # To count the others twice is to have twice as many of them: log 2 less, the weights the same.
    halved, unmoved = fit_logistic(signs, same, 2.0)
    assert halved == pytest.approx(intercept - np.log(2), abs=0.25)
    assert unmoved == pytest.approx(weights, abs=0.08)


def test_pairs_of_one_kind_alone_are_refused() -> None:
    with pytest.raises(CannotWork, match="weights need pairs"):
        fit_logistic(np.zeros((3, 2), np.float32), np.asarray([True, True, True]))


def test_objects_without_masks_and_masks_of_other_sizes_are_refused() -> None:
    bare = make_labels({"a": []}, {"a": [make_object("cup", LEFT, masked=False)]})
    with pytest.raises(CannotWork, match="no mask"):
        identify(bare, {})
    labelled = make_labels({"a": []}, {"a": [make_object("cup", LEFT)]})
    with pytest.raises(CannotWork, match="size"):
        identify(labelled, {"a": {1: mask_from_box(9, 9, Box(0, 0, 3, 3))}})


def test_the_command_measures_a_folder(write_set: WriteSet, tmp_path: Path) -> None:
    runs = [30, 10, WIDTH * HEIGHT - 40]
    folder = write_set(
        ["a.png", "b.png"],
        objects=[
            {
                "image_id": image,
                "category_id": 1,
                "bbox": [1, 0, 1, 10],
                "description": "cup",
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs},
            }
            for image in (1, 2)
        ],
    )
    common = ("--images", folder, "--instances", folder / "instances.json", "--profile", "fake")
    outcome = regard("evaluate", "objects", *common, "--home", tmp_path / "home", "--json")
    assert outcome.code == 0, outcome
    document = json.loads(outcome.out)
    assert document["recall"]["total"] == 1
    assert set(document) == {
        "precision",
        "precision_on_object",
        "recall",
        "recall_covered",
        "pure_groups",
    }
    table = regard("evaluate", "objects", *common, "--home", tmp_path / "home")
    assert b"labelled pairs that are found" in table.out
    parts = (*common, "--home", tmp_path / "home", "--part", "2", "--draws", "3", "--json")
    document = json.loads(regard("evaluate", "objects", *parts).out)
    assert document["recall"]["total"] == 3
    for wrong, words in (
        (("--part", "2", "--halves", "2"), "exclude each other"),
        (("--draws", "2"), "needs --part"),
    ):
        regard("evaluate", "objects", *common, *wrong).expect_sentence(2, words)
    refused = regard("evaluate", "objects", *common, "--home", tmp_path / "home", "--halves", "2")
    refused.expect_sentence(3, "weights need pairs")
