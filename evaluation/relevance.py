"""How good relevance is, measured on labelled photographs, and fitted to them.

For each form of query and each target: how well relevance separates right first hits from wrong
ones, how well it is calibrated as a probability, which answers the cut-off lets pass, and how
single numbers do in its place. `relevance_queries` defines the queries and what is right for them,
`relevance_fitting` how models are fitted and cross-validated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regard.core.records import Target
from regard.core.relevance import Calibration, Form, RelevanceSource
from regard.evaluation.labels import LabelledSet
from regard.evaluation.relevance_fitting import (
    AnsweredQuery,
    JudgedAnswer,
    baselines,
    ceiling,
    cross_validate,
    fit,
)
from regard.evaluation.relevance_queries import LabelledQuery, labelled_queries
from regard.evaluation.reliability import (
    Bin,
    area_under_curve,
    calibration_error,
    chance_error,
    reliability_bins,
)
from regard.evaluation.statistics import Float64Array, Share, as_table

# Hits of each query that models are fitted to; the first weighs as much as the next several
# together.
DEPTH = 20
# Hits of the query's own photograph, which are left out; no photograph has more regions.
_OWN_HITS = 20


class JudgedSearcher(Protocol):
    """Answers labelled queries over the labelled set's images."""

    def __call__(
        self,
        queries: Sequence[LabelledQuery],
        target: Target,
        limit: int,
        without: Sequence[Collection[str]],
    ) -> Sequence[JudgedAnswer | None]:
        """Up to `limit` hits of each query, among all images except those `without` names for it.

        None for a query that cannot be asked: for a box that no stored region matches.
        """


@dataclass(frozen=True, slots=True)
class RelevanceMeasures:
    """How well relevance separates right first hits from wrong ones, and how the cut-off does.

    `chance_error`: the calibration error that exact probabilities would have on average;
    `present_kept`: queries for which something right is there and that pass the cut-off;
    `taken_out_rejected`: queries whose right photographs were taken out and that do not pass;
    `absent_rejected`: queries for things that no photograph shows and that do not pass.
    """

    auroc: float | None
    calibration_error: float | None
    chance_error: float | None
    bins: tuple[Bin, ...]
    present_kept: Share
    taken_out_rejected: Share
    absent_rejected: Share

    @classmethod
    def of(
        cls, relevances: Float64Array, right: Float64Array, *cut_off: Share
    ) -> RelevanceMeasures:
        """From first hits' relevance (n,), whether they are right (n,), and the three shares."""
        bins = reliability_bins(relevances, right)
        auroc = area_under_curve(relevances, right)
        return cls(auroc, calibration_error(bins), chance_error(relevances), bins, *cut_off)

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values; `reliability` is the list of bins."""
        return {
            "auroc": self.auroc,
            "calibration_error": self.calibration_error,
            "calibration_error_by_chance": self.chance_error,
            "reliability": [
                {"relevance": one.relevance, "right": one.right, "hits": one.count}
                for one in self.bins
            ],
            "present_kept": self.present_kept.to_json(),
            "taken_out_rejected": self.taken_out_rejected.to_json(),
            "absent_rejected": self.absent_rejected.to_json(),
        }

    def to_row(self) -> list[str]:
        """The measures for a table."""
        shares = self.present_kept, self.absent_rejected, self.taken_out_rejected
        error = f"{_number(self.calibration_error)} ({_number(self.chance_error)})"
        return [_number(self.auroc), error, *map(str, shares)]


@dataclass(frozen=True, slots=True)
class FormReport:
    """Relevance of one form of query for one target.

    `own`: the searcher's own relevance, None where it has no calibration. `baselines`: AUROC of
    single numbers. `ceiling`: see `relevance_fitting.ceiling`. `fitted`: a calibration fitted to
    all queries.
    """

    queries: int
    first_right: Share
    own: RelevanceMeasures | None
    cross_validated: RelevanceMeasures
    baselines: Mapping[str, float | None]
    ceiling: float
    fitted: Calibration

    def to_json(self, source: RelevanceSource) -> dict[str, Any]:
        """The measures as plain JSON values; under `source` null where it has no calibration."""
        return {
            "queries": self.queries,
            "first_right": self.first_right.to_json(),
            source.value: None if self.own is None else self.own.to_json(),
            "cross_validated": self.cross_validated.to_json(),
            "baselines": dict(self.baselines),
            "taken_out_ceiling": self.ceiling,
        }


@dataclass(frozen=True, slots=True)
class RelevanceReport:
    """Relevance by form of query and target, over one labelled set.

    `source` is what the searcher's own relevance is calibrated on.
    """

    images: int
    absent: int
    forms: Mapping[tuple[Form, Target], FormReport]
    source: RelevanceSource

    def to_json(self) -> dict[str, Any]:
        """`images`, `absent_texts`, and `FormReport.to_json` under `text_to_image` and so on."""
        by_form = {
            f"{form}_to_{target}": report.to_json(self.source)
            for (form, target), report in self.forms.items()
        }
        return {"images": self.images, "absent_texts": self.absent, **by_form}

    def to_text(self) -> str:
        """A table for people."""
        columns = ["AUROC", "calibration error", "present kept", "absent told", "own out told"]
        rows = []
        for (form, target), report in self.forms.items():
            rows.append([f"{form} → {target}", *columns])
            if report.own is not None:
                rows.append([f"  the {self.source}'s", *report.own.to_row()])
            rows.append(["  cross-validated", *report.cross_validated.to_row()])
            rows += [
                [f"  {name} alone", _number(auroc), "", "", "", ""]
                for name, auroc in report.baselines.items()
            ]
            rows.append(["  ceiling", "", "", "", "", f"{100 * report.ceiling:.1f} %"])
        return "\n".join(
            [
                f"{self.images} images, {self.absent} texts that no image shows",
                *as_table(rows),
                "in parentheses: 95 % interval (Wilson); after a calibration error, that of exact "
                "probabilities, on average",
            ]
        )


def evaluate_relevance(
    labels: LabelledSet,
    search: JudgedSearcher,
    spaces: Mapping[tuple[Form, Target], frozenset[str]],
    absent: Sequence[str] = (),
    source: RelevanceSource = RelevanceSource.PROFILE,
) -> RelevanceReport:
    """Measure the relevance that `search` gives, and fit calibrations to the same labels.

    `source` is what that relevance is calibrated on.

    `spaces` are those in which queries of each form and target are matched; other forms are not
    asked. A form for which the labels give no queries, or none with hits, has no report.
    """
    reports = {}
    for (form, target), of_form in spaces.items():
        queries = labelled_queries(labels, form, target, absent)
        answered = _answer(search, target, [query for query in queries if query.right])
        if not answered:
            continue
        without_right = [query for query in queries if not query.right]
        answers: Sequence[JudgedAnswer | None] = ()
        if without_right:
            limit = DEPTH + _OWN_HITS
            found = search(without_right, target, limit, [()] * len(without_right))
            answers = [
                None if answer is None else _without_own(answer, query)
                for answer, query in zip(found, without_right, strict=True)
            ]
        of_absent = [answer for answer in answers if answer is not None and answer.hits]
        reports[form, target] = _report(answered, of_absent, of_form)
    return RelevanceReport(len(labels.images), len(absent), reports, source)


def _answer(
    search: JudgedSearcher, target: Target, queries: Sequence[LabelledQuery]
) -> list[AnsweredQuery]:
    limit = DEPTH + _OWN_HITS
    present = search(queries, target, limit, [()] * len(queries))
    taken_out = search(queries, target, limit, [query.right.keys() for query in queries])
    answered = []
    for query, first, second in zip(queries, present, taken_out, strict=True):
        if first is None or second is None:
            continue
        with_right, without_right = _without_own(first, query), _without_own(second, query)
        if with_right.hits and without_right.hits:
            right = tuple(query.is_right(hit.answer) for hit in with_right.hits)
            answered.append(AnsweredQuery(query, with_right, without_right, right))
    return answered


def _without_own(answer: JudgedAnswer, query: LabelledQuery) -> JudgedAnswer:
    """The first hits that are not on the query's own photographs."""
    hits = tuple(hit for hit in answer.hits if hit.answer.file_name not in query.own)
    return JudgedAnswer(hits[:DEPTH], answer.evidence, answer.matched)


def _report(
    answered: Sequence[AnsweredQuery], absent: Sequence[JudgedAnswer], spaces: frozenset[str]
) -> FormReport:
    first = np.asarray([one.right[0] for one in answered], dtype=np.float64)
    unseen = cross_validate(answered, absent)
    return FormReport(
        queries=len(answered),
        first_right=Share.of(first.astype(bool).tolist()),
        own=_own_measures(answered, absent, first),
        cross_validated=RelevanceMeasures.of(
            unseen.relevances,
            first,
            Share.of(unseen.kept),
            Share.of(unseen.taken_out_rejected),
            Share(round(unseen.absent_rejected), len(absent)),
        ),
        baselines=baselines(answered),
        ceiling=ceiling(answered),
        fitted=fit(answered).calibration(spaces),
    )


def _own_measures(
    answered: Sequence[AnsweredQuery], absent: Sequence[JudgedAnswer], first: Float64Array
) -> RelevanceMeasures | None:
    """The measures of the searcher's own relevance, where it gives one for each first hit."""
    relevances = [one.present.hits[0].relevance for one in answered]
    known = [relevance for relevance in relevances if relevance is not None]
    if len(known) < len(relevances):
        return None
    return RelevanceMeasures.of(
        np.asarray(known),
        first,
        Share.of(one.present.matched for one in answered),
        Share.of(not one.taken_out.matched for one in answered),
        Share.of(not answer.matched for answer in absent),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
