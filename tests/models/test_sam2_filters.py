"""The pure steps of automatic mask generation, against hand-made figures and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.models.sam2.candidates import (
    Candidates,
    Thresholds,
    mask_boxes,
    stability_scores,
    suppress,
    without_specks,
)
from regard.models.sam2.prompting import point_grid

pytestmark = pytest.mark.slow


def drawn(*rows: str) -> np.ndarray:
    """Logits from a drawing: `#` inside, `.` outside."""
    return np.array([[2.0 if cell == "#" else -3.0 for cell in row] for row in rows], np.float32)


def drawing(logits: np.ndarray) -> list[str]:
    return ["".join("#" if cell > 0 else "." for cell in row) for row in logits]


def test_a_grid_of_two_by_two_has_the_centres_of_the_quadrants_row_by_row():
    assert point_grid(2, 1024).tolist() == [[256, 256], [768, 256], [256, 768], [768, 768]]


def test_a_grid_of_one_point_asks_about_the_middle():
    assert point_grid(1, 128).tolist() == [[64, 64]]


def test_stability_is_the_iou_of_the_masks_at_both_thresholds():
    logits = torch.tensor(
        [
            [[3.0, 0.5, -0.5, -3.0]],  # 1 above +1, 3 above −1
            [[3.0, 2.0, -2.0, -3.0]],  # the same 2 at both
            [[-3.0, -3.0, -3.0, -3.0]],  # none at all
            [[0.5, 0.5, -5.0, -5.0]],  # none above +1
        ]
    )
    assert stability_scores(logits, 1.0).tolist() == pytest.approx([1 / 3, 1, 0, 0])


def test_thresholds_are_the_published_generators():
    # Two masks of two points; the second of each is half as large at +1 as at −1.
    sure, unsure = [[5.0, 5.0, -5.0, -5.0]], [[5.0, 0.5, -5.0, -5.0]]
    logits = torch.tensor([[sure, unsure], [sure, unsure]])
    candidates = Candidates()
    ious = torch.tensor([[0.8, 0.9], [0.9, 0.9]])
    candidates.take(logits, ious, Thresholds(0.8, 1.0, 1.0, 1))
    # A predicted IoU has to be above its threshold, a stability may be at it.
    assert candidates.scores.tolist() == pytest.approx([0.9])
    assert torch.equal(torch.stack(candidates.logits), torch.tensor([sure]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.02, 0.3, 0.9]))
def test_boxes_are_tight_and_empty_masks_have_none(seed: int, share: float):
    masks = np.random.default_rng(seed).random((4, 7, 5)) < share
    boxes = mask_boxes(torch.from_numpy(masks)).tolist()
    for mask, box in zip(masks, boxes, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [0, 0, 0, 0]
        if rows.size:
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == expected


def naive_suppression(boxes: list[list[int]], scores: list[float], limit: float) -> list[int]:
    """All pairs, one by one, in exact fractions of pixels."""
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda index: (-scores[index], index)):
        pixels = {
            (x, y)
            for x in range(boxes[row][0], boxes[row][2])
            for y in range(boxes[row][1], boxes[row][3])
        }
        for other in kept:
            others = {
                (x, y)
                for x in range(boxes[other][0], boxes[other][2])
                for y in range(boxes[other][1], boxes[other][3])
            }
            union = len(pixels | others)
            if union and len(pixels & others) > limit * union:
                break
        else:
            kept.append(row)
    return kept


_box = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 6), st.integers(0, 6)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_box, st.sampled_from([0.1, 0.25, 0.5, 0.75])), max_size=12),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
def test_suppression_keeps_what_a_plain_loop_over_pixels_keeps(items, limit: float):
    boxes = [box for box, _ in items]
    scores = [score for _, score in items]
    kept = suppress(np.array(boxes, np.int64).reshape(-1, 4), np.array(scores, np.float32), limit)
    assert kept.tolist() == naive_suppression(boxes, scores, limit)


def test_a_box_that_a_suppressed_box_overlaps_stays():
    # The second is the first's double, the third the second's, but not the first's.
    boxes = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    assert suppress(boxes, np.array([0.9, 0.8, 0.7], np.float32), 0.5).tolist() == [0, 2]


def test_small_holes_are_filled_and_large_ones_stay():
    logits = drawn(
        "#########",
        "#.###...#",
        "#####...#",
        "#########",
    )
    assert drawing(without_specks(logits, 4)) == [
        "#########",
        "#####...#",
        "#####...#",
        "#########",
    ]


def test_small_islands_go_and_corners_hold_an_island_together():
    logits = drawn(
        "##......#",
        "##.......",
        "..##...##",
        "......#..",
        ".........",
    )
    # The blocks meet at a corner and have six pixels; so do the three at the right, which are too
    # few.
    assert drawing(without_specks(logits, 4)) == [
        "##.......",
        "##.......",
        "..##.....",
        ".........",
        ".........",
    ]


def test_a_small_gap_against_the_border_counts_as_a_hole():
    assert drawing(without_specks(drawn("##.##", "#####"), 2)) == ["#####", "#####"]


def test_an_island_within_a_small_hole_becomes_part_of_what_is_around():
    logits = drawn(
        "######",
        "#....#",
        "#.##.#",
        "#....#",
        "######",
    )
    assert drawing(without_specks(logits, 11)) == ["######"] * 5


def test_a_mask_of_specks_alone_becomes_empty():
    assert not (without_specks(drawn("#..", "...", "..#"), 2) > 0).any()


def test_cleaning_turns_signs_and_leaves_magnitudes():
    logits = drawn("###", "#.#", "###")
    logits[1, 1] = 0.0
    clean = without_specks(logits, 2)
    assert (clean > 0).all()
    assert clean.dtype == np.float32
    untouched = drawn("##.", "##.")
    assert np.array_equal(without_specks(untouched, 2), untouched)


def test_nothing_is_cleaned_when_every_pixel_may_count():
    logits = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    assert np.array_equal(without_specks(logits, 1), logits)


def test_candidates_pass_each_filter_on_their_own_merit():
    square = torch.full((8, 8), -9.0)
    square[2:6, 1:7] = 9.0  # 24 cells
    small = torch.full((8, 8), -9.0)
    small[0, 0] = 9.0
    vague = square / 18  # ±0.5: empty at the upper threshold
    logits = torch.stack([square, small, vague, square]).reshape(2, 2, 8, 8)
    ious = torch.tensor([[0.9, 0.95], [0.99, 0.5]])
    candidates = Candidates()
    candidates.take(logits, ious, Thresholds(0.8, 0.9, 1.0, smallest=2))
    assert candidates.scores.tolist() == pytest.approx([0.9])
    assert candidates.boxes.tolist() == [[1, 2, 7, 6]]
    assert torch.equal(candidates.logits[0], square)


def test_no_candidates_at_all_are_empty_arrays():
    assert Candidates().scores.shape == (0,)
    assert Candidates().boxes.shape == (0, 4)
