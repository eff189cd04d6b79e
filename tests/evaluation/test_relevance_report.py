"""Relevance is fitted to evidence that tells, measured on texts that the fit has not seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.stats import binom

from regard.core.geometry import Box
from regard.core.records import Target
from regard.core.relevance import Form, LogisticModel
from regard.evaluation.labels import LabelledImage, LabelledObject, LabelledSet
from regard.evaluation.relevance import evaluate_relevance
from regard.evaluation.relevance_fitting import (
    JudgedAnswer,
    JudgedHit,
    fit_logistic,
    probabilities,
)
from regard.evaluation.relevance_queries import LabelledQuery
from regard.evaluation.reliability import (
    Bin,
    area_under_curve,
    calibration_error,
    chance_error,
    draw_reliability,
    reliability_bins,
)
from regard.evaluation.retrieval import Answer

SPACES = {(Form.TEXT, target): frozenset({"made"}) for target in Target}
ABSENT = [f"absent {number}" for number in range(40)]


def labels(count: int = 80) -> LabelledSet:
    box = Box(0, 0, 10, 10)
    return LabelledSet(
        Path("/labels"),
        tuple(
            LabelledImage(
                f"{n}.jpg", 20, 20, (f"thing{n}",), (LabelledObject(f"thing{n}", box, None),)
            )
            for n in range(count)
        ),
    )


class MadeSearch:
    """Finds a text's photograph in 7 of 10 cases; right answers have better cosines."""

    def __call__(
        self,
        queries: Sequence[LabelledQuery],
        target: Target,
        limit: int,
        without: Sequence[Collection[str]],
    ) -> list[JudgedAnswer]:
        return [
            self._answer(query.terms[0].text, left_out)
            for query, left_out in zip(queries, without, strict=True)
        ]

    def _answer(self, text: str, left_out: Collection[str]) -> JudgedAnswer:
        rng = np.random.default_rng(list(text.encode()))
        own = f"{text.removeprefix('thing')}.jpg"
        found = rng.random() < 0.7 and text.startswith("thing") and own not in left_out
        cosine = rng.normal(0.7 if found else 0.4, 0.1)
        noise = rng.normal()
        hits = [
            JudgedHit(
                Answer(own if found and rank == 0 else f"other{rank}.jpg", Box(0, 0, 10, 10)),
                1.0 - rank / 10,
                {
                    "image.cosine": cosine - rank / 5,
                    "noise": noise,
                    "precedence": -float(np.log(rank + 1)),
                },
                None,
            )
            for rank in range(3)
        ]
        evidence = {"image.best": cosine, "concentration": noise, "keyword.best": rng.random()}
        return JudgedAnswer(tuple(hits), evidence, True)


def test_what_tells_is_found_and_what_does_not_is_not() -> None:
    report = evaluate_relevance(labels(), MadeSearch(), SPACES, ABSENT)
    image = report.forms[Form.TEXT, Target.IMAGE]
    measures = image.cross_validated
    assert measures.auroc is not None
    assert measures.auroc > 0.88
    assert measures.calibration_error is not None
    assert measures.calibration_error < 0.1
    assert measures.present_kept.value is not None
    assert 0.8 <= measures.present_kept.value <= 1
    assert measures.absent_rejected.total == len(ABSENT)
    assert measures.absent_rejected.value is not None
    # Three of ten texts that are there look as absent ones do; one of ten of them all may go.
    assert 0.1 < measures.absent_rejected.value < 0.6
    assert image.baselines["image.cosine"] == pytest.approx(measures.auroc, abs=0.05)
    assert abs((image.baselines["noise"] or 0) - 0.5) < 0.2
    assert image.own is None
    assert image.fitted.spaces == {"made"}
    assert image.fitted.hit.weights["image.cosine"] > 0
    assert image.fitted.presence.weights["image.best"] > 0
    document = report.to_json()
    assert document["text_to_image"]["profile"] is None
    assert document["text_to_region"]["queries"] == 80
    assert "cross-validated" in report.to_text()


def test_where_nothing_changed_no_rule_can_tell_and_the_ceiling_says_so() -> None:
    report = evaluate_relevance(labels(), MadeSearch(), SPACES)
    image = report.forms[Form.TEXT, Target.IMAGE]
    found = image.first_right.value
    assert found is not None
    # What is found scores otherwise when it is out; what is not found scores the same.
    assert image.ceiling == pytest.approx(found + min(0.1, 1 - found), abs=0.02)
    rejected = image.cross_validated.taken_out_rejected.value
    assert rejected is not None
    assert rejected <= image.ceiling + 0.1


def test_a_logistic_model_comes_near_the_one_that_drew_its_outcomes() -> None:
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(20_000, 3)) * [1, 5, 1] + [0, 3, 0]
    true = LogisticModel({"a": 1.5, "b": 0.2, "c": -1.0}, -0.5)
    names = ["a", "b", "c"]
    outcomes = (rng.random(len(evidence)) < probabilities(true, names, evidence)).astype(float)
    weights = np.ones(len(evidence))
    free = fit_logistic(names, evidence, outcomes, weights, {"c"})
    for name, weight in true.weights.items():
        assert free.weights[name] == pytest.approx(weight, abs=0.06)
    assert free.constant == pytest.approx(true.constant, abs=0.06)
    # What can only speak for a thing is never held against it.
    bound = fit_logistic(names, evidence, outcomes, weights)
    assert "c" not in bound.weights
    assert probabilities(free, names, evidence[:1])[0] == pytest.approx(
        free.probability(dict(zip(names, evidence[0].tolist(), strict=True)))
    )
    assert free.probability({"a": 1.0}) is None


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(1)
    values, right = rng.integers(0, 5, 60).astype(float), rng.integers(0, 2, 60).astype(float)
    pairs = [
        0.5 if a == b else float(a > b)
        for a in values[right > 0].tolist()
        for b in values[right == 0].tolist()
    ]
    assert area_under_curve(values, right) == pytest.approx(sum(pairs) / len(pairs))
    assert area_under_curve(values, np.ones(60)) is None


def test_the_calibration_error_is_the_mean_distance_of_bins() -> None:
    said = np.asarray([0.05, 0.05, 0.95, 0.95, 1.0, 0.5])
    true = np.asarray([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    bins = reliability_bins(said, true)
    assert [one.count for one in bins] == [2, 1, 3]
    expected = (2 * 0.45 + 1 * 0.5 + 3 * abs(2.9 / 3 - 2 / 3)) / 6
    assert calibration_error(bins) == pytest.approx(expected)
    assert calibration_error(reliability_bins(np.zeros(0), np.zeros(0))) is None


def test_the_error_by_chance_is_that_of_exact_probabilities() -> None:
    assert chance_error(np.zeros(0)) is None
    assert chance_error(np.asarray([0.0, 1.0, 1.0])) == 0
    # Of a hundred fair coins, 4 on average fall otherwise than 50 would.
    share = chance_error(np.full(100, 0.5))
    assert share == pytest.approx(
        np.abs(binom(100, 0.5).rvs(10_000, random_state=1) - 50).mean() / 100, rel=0.1
    )
    rng = np.random.default_rng(2)
    said = rng.random(200)
    errors = [
        calibration_error(reliability_bins(said, (rng.random(200) < said).astype(np.float64)))
        for _ in range(300)
    ]
    assert chance_error(said) == pytest.approx(np.mean(errors), rel=0.1)


def test_the_diagram_shows_a_dot_where_its_bin_is(tmp_path: Path) -> None:
    path = tmp_path / "diagram.png"
    draw_reliability([("one", [Bin(0.25, 0.75, 5)]), ("none", [])], path)
    with Pillow.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    blue = np.argwhere((pixels == (0, 0x72, 0xB2)).all(axis=2))
    y, x = blue.mean(axis=0)
    # 64 pixels of margin around 320, all twice.
    assert x == pytest.approx(2 * (64 + 0.25 * 320), abs=1)
    assert y == pytest.approx(2 * (64 + 0.25 * 320), abs=1)
