"""Whether relevance is worth its name: told on labelled photographs, and fitted to them.

For each form of query and each target: how well relevance tells right first hits from wrong ones, how
honest it is as a probability, what the cut-off lets pass, and the same of single numbers in its place.
What is asked and what counts as right is `relevance_queries`' matter, how models are fitted and
cross-validated `relevance_fitting`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regard.core.records import Target
from regard.core.relevance import Calibration, Form
from regard.evaluation.labels import LabelledSet
from regard.evaluation.logistic import Float64Array
from regard.evaluation.relevance_fitting import (
    Asked,
    JudgedAnswer,
    baselines,
    ceiling,
    cross_validate,
    fit,
)
from regard.evaluation.relevance_queries import LabelledQuery, labelled_queries
from regard.evaluation.reliability import Bin, area_under_curve, calibration_error, reliability
from regard.evaluation.statistics import Share, as_table

# Hits of each query that are learned from; the first counts as much as the next several together.
DEPTH = 20
# Of the query's own photograph, to be left out: more than its regions.
_OWN = 20


class JudgedSearcher(Protocol):
    """Answers labelled queries over the labelled set's images."""

    def __call__(
        self,
        queries: Sequence[LabelledQuery],
        target: Target,
        limit: int,
        without: Sequence[Collection[str]],
    ) -> Sequence[JudgedAnswer | None]:
        """Up to `limit` hits of each query, among all images but those that `without` names for it.

        None for what can't be asked: for a box for which no region stands.
        """


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
    """What a cut-off lets pass: of queries that something is there for, whose own is out, absent ones."""

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
class FormReport:
    """Relevance of one form of query for one target.

    `ceiling`: the share of taken-out queries that any rule could reject that keeps 0.9 of the present
    ones: where nothing that presence is judged by changed, no rule can tell the two answers apart.
    `baselines`: AUROC of single numbers.
    """

    queries: int
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
            "queries": self.queries,
            "first_right": self.first_right.to_json(),
            "profile": both(self.own),
            "cross_validated": both(self.cross_validated),
            "baselines": dict(self.baselines),
            "taken_out_ceiling": self.ceiling,
        }


@dataclass(frozen=True, slots=True)
class RelevanceReport:
    """Relevance by form of query and target, over one labelled set."""

    images: int
    absent: int
    forms: Mapping[tuple[Form, Target], FormReport]

    def to_json(self) -> dict[str, Any]:
        """`images`, `absent_texts`, and `FormReport.to_json` by `text_to_image` and its like."""
        found = {
            f"{form}_to_{target}": report.to_json() for (form, target), report in self.forms.items()
        }
        return {"images": self.images, "absent_texts": self.absent, **found}

    def to_text(self) -> str:
        """A table for people."""
        rows = []
        for (form, target), report in self.forms.items():
            rows.append(
                [f"{form} → {target}", "AUROC", "calibration error", "present kept", "absent told",
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
    labels: LabelledSet,
    search: JudgedSearcher,
    spaces: Mapping[tuple[Form, Target], frozenset[str]],
    absent: Sequence[str] = (),
) -> RelevanceReport:
    """Measure relevance of `search`, and fit calibrations to the same labels.

    `spaces` are those that queries of each form meet for each target; what is not there is not asked. Where
    the labels give nothing to ask for, or nothing is found, there is no report.
    """
    reports = {}
    for (form, target), of_form in spaces.items():
        queries = labelled_queries(labels, form, target, absent)
        asked = _ask(search, target, [query for query in queries if query.right])
        if not asked:
            continue
        nothing = [query for query in queries if not query.right]
        found = search(nothing, target, DEPTH, [()] * len(nothing)) if nothing else ()
        of_absent = [answer for answer in found if answer is not None and answer.hits]
        reports[form, target] = _report(asked, of_absent, of_form)
    return RelevanceReport(len(labels.images), len(absent), reports)


def _ask(search: JudgedSearcher, target: Target, queries: Sequence[LabelledQuery]) -> list[Asked]:
    limit = DEPTH + _OWN
    present = search(queries, target, limit, [()] * len(queries))
    taken_out = search(queries, target, limit, [query.right.keys() for query in queries])
    asked = []
    for query, first, second in zip(queries, present, taken_out, strict=True):
        if first is None or second is None:
            continue
        there, not_there = _of_others(first, query), _of_others(second, query)
        if there.hits and not_there.hits:
            right = tuple(query.is_right(hit.answer) for hit in there.hits)
            asked.append(Asked(query, there, not_there, right))
    return asked


def _of_others(answer: JudgedAnswer, query: LabelledQuery) -> JudgedAnswer:
    """The first hits that are not on the query's own photographs."""
    hits = tuple(hit for hit in answer.hits if hit.answer.file_name not in query.own)
    return JudgedAnswer(hits[:DEPTH], answer.evidence, answer.matched)


def _report(
    asked: Sequence[Asked], absent: Sequence[JudgedAnswer], spaces: frozenset[str]
) -> FormReport:
    first = np.asarray([one.right[0] for one in asked], dtype=np.float64)
    unseen = cross_validate(asked, absent)
    cut = Cut(
        Share.of(unseen.kept),
        Share.of(unseen.taken_out_rejected),
        Share(round(unseen.absent_rejected), len(absent)),
    )
    return FormReport(
        queries=len(asked),
        first_right=Share.of(first.astype(bool).tolist()),
        own=_own(asked, absent, first),
        cross_validated=(Told.of(unseen.relevances, first), cut),
        baselines=baselines(asked),
        ceiling=ceiling(asked),
        fitted=fit(asked).calibration(spaces),
    )


def _own(
    asked: Sequence[Asked], absent: Sequence[JudgedAnswer], first: Float64Array
) -> tuple[Told, Cut] | None:
    """What the searcher itself says, where it says anything."""
    said = [one.present.hits[0].relevance for one in asked]
    known = [relevance for relevance in said if relevance is not None]
    if len(known) < len(said):
        return None
    return (
        Told.of(np.asarray(known), first),
        Cut(
            Share.of(one.present.matched for one in asked),
            Share.of(not one.taken_out.matched for one in asked),
            Share.of(not answer.matched for answer in absent),
        ),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
