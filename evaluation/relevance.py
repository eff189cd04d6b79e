"""Whether relevance is worth its name: told on labelled photographs, and fitted to them.

Each distinct labelled text is a query. Of its hits those are right that bear the text; for regions, those
that meet an object of the text at IoU ≥ 0.5. A text is asked twice: of all photographs, where something
right is present, and of all but those that bear the text, where nothing is: so presence is fitted to
nothing but what a text's own photographs add, and never to how texts are worded. Texts of things that no
photograph shows may be given beside; nothing is fitted to them.

Cross-validated figures are of models that saw no text of the same last word, so that green peppers say
nothing of yellow ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regard.core.records import Target
from regard.core.relevance import Calibration, LogisticModel
from regard.evaluation.labels import LabelledSet
from regard.evaluation.logistic import Float64Array, fit_logistic, probabilities
from regard.evaluation.reliability import Bin, area_under_curve, calibration_error, reliability
from regard.evaluation.retrieval import Answer, boxes_by_text, images_by_caption, is_right_region
from regard.evaluation.statistics import Share, as_table

# Hits of each text that are learned from; the first counts as much as the next several together.
DEPTH = 20
_FOLDS = 10
# The share of present texts that should at least pass the cut-off, and the one that it is set for: in a
# smaller collection than the labelled one best cosines are lower, and fewer pass.
_KEPT = 0.9
_KEPT_WHEN_FITTED = 0.91
_ROUNDING = 1e-4
_EITHER_SIGN = frozenset({"concentration"})
Evidence = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JudgedHit:
    """A hit, its fused score, what it was judged by, and its relevance where there is a calibration."""

    answer: Answer
    score: float
    evidence: Evidence
    relevance: float | None


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The first hits of a text, what their presence was judged by, and whether anything matched."""

    hits: tuple[JudgedHit, ...]
    evidence: Evidence
    matched: bool


class JudgedSearcher(Protocol):
    """Answers texts over the labelled set's images."""

    def __call__(
        self, texts: Sequence[str], target: Target, limit: int, without: Sequence[frozenset[str]]
    ) -> Sequence[JudgedAnswer]:
        """Up to `limit` hits of each text, among all images but those that `without` names for it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One text with its two answers, and which hits of the first are right."""

    text: str
    present: JudgedAnswer
    taken_out: JudgedAnswer
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """How well a relevance tells right first hits from wrong ones, and how honest it is."""

    auroc: float | None
    error: float | None
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, relevances: Float64Array, right: Float64Array) -> Told:
        """Of first hits' relevances (n,) and whether they are right (n,)."""
        return cls(
            area_under_curve(relevances, right),
            calibration_error(relevances, right),
            reliability(relevances, right),
        )

    def to_json(self) -> dict[str, Any]:
        """`auroc`, `calibration_error`, and `reliability`, a list of bins."""
        bins = [
            {"relevance": one.relevance, "right": one.right, "hits": one.count} for one in self.bins
        ]
        return {"auroc": self.auroc, "calibration_error": self.error, "reliability": bins}


@dataclass(frozen=True, slots=True)
class Cut:
    """What a cut-off lets pass: of texts that something is there for, whose own is out, absent ones."""

    present_kept: Share
    taken_out_rejected: Share
    absent_rejected: Share

    def to_json(self) -> dict[str, Any]:
        """The three shares."""
        return {
            "present_kept": self.present_kept.to_json(),
            "taken_out_rejected": self.taken_out_rejected.to_json(),
            "absent_rejected": self.absent_rejected.to_json(),
        }


@dataclass(frozen=True, slots=True)
class TargetReport:
    """Relevance for one target.

    `ceiling`: the share of taken-out texts that any rule could reject that keeps 0.9 of the present
    ones: where nothing that presence is judged by changed, no rule can tell the two answers apart.
    `baselines`: AUROC of single numbers.
    """

    texts: int
    first_right: Share
    own: tuple[Told, Cut] | None
    cross_validated: tuple[Told, Cut]
    baselines: Mapping[str, float | None]
    ceiling: float
    fitted: Calibration

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values; `profile` is null where it has no calibration."""

        def both(pair: tuple[Told, Cut] | None) -> dict[str, Any] | None:
            return None if pair is None else {**pair[0].to_json(), **pair[1].to_json()}

        return {
            "texts": self.texts,
            "first_right": self.first_right.to_json(),
            "profile": both(self.own),
            "cross_validated": both(self.cross_validated),
            "baselines": dict(self.baselines),
            "taken_out_ceiling": self.ceiling,
        }


@dataclass(frozen=True, slots=True)
class RelevanceReport:
    """Relevance by target, over one labelled set."""

    images: int
    absent: int
    targets: Mapping[Target, TargetReport]

    def to_json(self) -> dict[str, Any]:
        """`images`, `absent_texts`, and `TargetReport.to_json` by `text_to_image` and `text_to_region`."""
        found = {f"text_to_{target}": report.to_json() for target, report in self.targets.items()}
        return {"images": self.images, "absent_texts": self.absent, **found}

    def to_text(self) -> str:
        """A table for people."""
        rows = []
        for target, report in self.targets.items():
            rows.append(
                [f"text → {target}", "AUROC", "calibration error", "present kept", "absent told",
                 "own out told"]
            )  # fmt: skip
            for name, pair in (
                ("the profile's", report.own),
                ("cross-validated", report.cross_validated),
            ):
                if pair is not None:
                    told, cut = pair
                    shares = cut.present_kept, cut.absent_rejected, cut.taken_out_rejected
                    rows.append([f"  {name}", _number(told.auroc), _number(told.error),
                                 *map(str, shares)])  # fmt: skip
            rows += [
                [f"  {name} alone", _number(area), "", "", "", ""]
                for name, area in report.baselines.items()
            ]
            rows.append(["  ceiling", "", "", "", "", f"{100 * report.ceiling:.1f} %"])
        return "\n".join(
            [
                f"{self.images} images, {self.absent} texts of what none shows",
                *as_table(rows),
                "in parentheses: 95 % interval (Wilson)",
            ]
        )


def evaluate_relevance(
    labels: LabelledSet, search: JudgedSearcher, space: str, absent: Sequence[str] = ()
) -> RelevanceReport:
    """Measure relevance of `search`, and fit a calibration for texts of `space` to the same labels.

    Image texts are captions, region texts those of objects; a target without any is left out.
    """
    texts = {
        Target.IMAGE: {text: frozenset(found) for text, found in images_by_caption(labels).items()},
        Target.REGION: {text: frozenset(found) for text, found in boxes_by_text(labels).items()},
    }
    boxes = boxes_by_text(labels)

    def is_right(target: Target, text: str, answer: Answer) -> bool:
        if target is Target.REGION:
            return is_right_region(answer, boxes[text])
        return answer.file_name in texts[target][text]

    reports = {}
    for target, bearers in texts.items():
        if not bearers:
            continue
        asked = _ask(search, target, bearers, is_right)
        nothing = [frozenset[str]()] * len(absent)
        of_absent = search(absent, target, DEPTH, nothing) if absent else ()
        reports[target] = _report(asked, of_absent, space)
    return RelevanceReport(len(labels.images), len(absent), reports)


def _ask(
    search: JudgedSearcher,
    target: Target,
    bearers: Mapping[str, frozenset[str]],
    is_right: Callable[[Target, str, Answer], bool],
) -> list[_Asked]:
    texts = sorted(bearers)
    present = search(texts, target, DEPTH, [frozenset()] * len(texts))
    taken_out = search(texts, target, DEPTH, [bearers[text] for text in texts])
    return [
        _Asked(text, first, second, tuple(is_right(target, text, hit.answer) for hit in first.hits))
        for text, first, second in zip(texts, present, taken_out, strict=True)
        if first.hits and second.hits
    ]


def _report(asked: Sequence[_Asked], absent: Sequence[JudgedAnswer], space: str) -> TargetReport:
    names = sorted(asked[0].present.hits[0].evidence)
    signs = sorted(asked[0].present.evidence)
    first = np.asarray([query.right[0] for query in asked], dtype=np.float64)
    folds = np.asarray([_fold(query.text) for query in asked])
    tops = _table([query.present.hits[0].evidence for query in asked], names)
    present = _table([query.present.evidence for query in asked], signs)
    taken_out = _table([query.taken_out.evidence for query in asked], signs)
    of_absent = _table([answer.evidence for answer in absent], signs)

    relevances = np.zeros(len(asked))
    kept, out_rejected = np.zeros(len(asked), bool), np.zeros(len(asked), bool)
    absent_rejected: list[bool] = []
    for fold in range(_FOLDS):
        there = folds == fold
        others = [query for query, held_out in zip(asked, there, strict=True) if not held_out]
        if not others or not there.any():
            continue
        hit, presence, cut_off = _fit(others, names, signs)
        relevances[there] = probabilities(hit, names, tops[there])
        kept[there] = probabilities(presence, signs, present[there]) >= cut_off
        out_rejected[there] = probabilities(presence, signs, taken_out[there]) < cut_off
        # Absent texts belong to no fold: each of the models is asked about all of them.
        absent_rejected += (probabilities(presence, signs, of_absent) < cut_off).tolist()
    runs = max(1, len(absent_rejected) // max(1, len(absent)))
    cross_validated = (
        Told.of(relevances, first),
        Cut(
            Share.of(kept.tolist()),
            Share.of(out_rejected.tolist()),
            Share(round(sum(absent_rejected) / runs), len(absent)),
        ),
    )
    hit, presence, cut_off = _fit(asked, names, signs)
    # Rarity of words changes with every photograph, the rest only where one of the text's own was best.
    seen = [place for place, name in enumerate(signs) if not name.startswith("keyword.")]
    # Two searches of the same vectors may differ in the last digits.
    changes = np.abs(present - taken_out)[:, seen].max(axis=1, initial=0.0)
    unchanged = float((changes < _ROUNDING).mean())
    return TargetReport(
        texts=len(asked),
        first_right=Share.of(first.astype(bool).tolist()),
        own=_own(asked, absent, first),
        cross_validated=cross_validated,
        baselines=_baselines(asked, names, tops, first),
        ceiling=1 - unchanged + min(1 - _KEPT, unchanged),
        fitted=Calibration(space, hit, presence, cut_off),
    )


def _fit(
    asked: Sequence[_Asked], names: Sequence[str], signs: Sequence[str]
) -> tuple[LogisticModel, LogisticModel, float]:
    """The models of a hit's and of an answer's evidence, and the cut-off of presence."""
    hits = [
        (hit.evidence, right, 1 / rank)
        for query in asked
        for rank, (hit, right) in enumerate(zip(query.present.hits, query.right, strict=True), 1)
    ]
    hit = fit_logistic(
        names,
        _table([evidence for evidence, _, _ in hits], names),
        np.asarray([right for _, right, _ in hits], dtype=np.float64),
        np.asarray([weight for _, _, weight in hits]),
        _EITHER_SIGN,
    )
    there = _table([query.present.evidence for query in asked], signs)
    not_there = _table([query.taken_out.evidence for query in asked], signs)
    presence = fit_logistic(
        signs,
        np.concatenate([there, not_there]),
        np.repeat([1.0, 0.0], len(asked)),
        np.ones(2 * len(asked)),
        _EITHER_SIGN,
    )
    cut_off = float(np.quantile(probabilities(presence, signs, there), 1 - _KEPT_WHEN_FITTED))
    return hit, presence, cut_off


def _own(
    asked: Sequence[_Asked], absent: Sequence[JudgedAnswer], first: Float64Array
) -> tuple[Told, Cut] | None:
    """What the searcher itself says, where it says anything."""
    said = [query.present.hits[0].relevance for query in asked]
    known = [relevance for relevance in said if relevance is not None]
    if len(known) < len(said):
        return None
    return (
        Told.of(np.asarray(known), first),
        Cut(
            Share.of(query.present.matched for query in asked),
            Share.of(not query.taken_out.matched for query in asked),
            Share.of(not answer.matched for answer in absent),
        ),
    )


def _baselines(
    asked: Sequence[_Asked], names: Sequence[str], tops: Float64Array, first: Float64Array
) -> dict[str, float | None]:
    score = np.asarray([query.present.hits[0].score for query in asked])
    following = [query.present.hits[1:2] for query in asked]
    gap = score - [hits[0].score if hits else 0.0 for hits in following]
    found = {name: area_under_curve(tops[:, place], first) for place, name in enumerate(names)}
    found.pop("precedence")
    return {
        **found,
        "fused score": area_under_curve(score, first),
        "gap to the next hit": area_under_curve(gap, first),
    }


def _fold(text: str) -> int:
    """Texts that end in the same word are in the same fold, on every machine."""
    words = re.findall(r"\w+", text.lower())
    return hashlib.sha256((words or [text])[-1].encode()).digest()[0] % _FOLDS


def _table(rows: Sequence[Evidence], names: Sequence[str]) -> Float64Array:
    return np.asarray([[row[name] for name in names] for row in rows]).reshape(-1, len(names))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
