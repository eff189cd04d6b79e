"""Calibrates relevance on a library itself, without labels.

Some hundred everyday and odd things (`everyday_texts.txt`) are searched for. Most of them are on no
photograph, so their best cosines are the null distribution: how near the best photograph comes by
chance. A search is judged by where it stands among them, in standard deviations: the channels'
standardised cosines, with the weights that fuse the channels. Captions are left out: a library's
own find their photographs too well to tell how a person's words would do. A hit is also judged by
its `lead` over the other hits, half as much as by all cosines, because what is right stands out.

Right hits are taken to lie `_SEPARATION` standard deviations above the null distribution, as
widely spread, and to be as frequent as wrong ones before the evidence is seen. Two normal
distributions of one variance give a logistic model of the cosines, which is what a profile's
calibration is, too. Models trained on pairs of image and text, such as SigLIP, have learned what a
cosine adds to the log-odds that both belong together; then this is the sum of the cosines' slopes,
and right hits lie as far above as it implies. SigLIP's bias is not used: it is for one right pair in
tens of thousands.

The answer is judged likewise by its best cosines. A space may know some texts better than others
(`concentration`, see `regard.search.relevance`), and then comes nearer to what is there and to what
is not. Half the sum of both slopes is subtracted: the slope over the everyday texts, which are
mostly absent, and over the library's captions, whose things are present.

Several texts, and pictures, have no calibration of this kind. Nothing in a library tells which of
its photographs show the same thing as another, except for copies, which resemble each other too
much to learn from. Of several texts, relevance sorted hits well, but was far off as a probability.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from regard.core.filters import AssetFilter
from regard.core.records import Float64Array, Kind, QueryKind, Routes, Target, WeightedChannel
from regard.core.relevance import Calibration, Calibrations, Form, LogisticModel
from regard.search.answers import Answer, Scope, TextQuery
from regard.search.engine import SearchEngine

LEAST_PHOTOGRAPHS = 50
"""In fewer, the best of them says more about the photographs than about the texts."""
MOST_CAPTIONS = 400
"""More give the same slope."""

# These were chosen on the labelled photographs, see docs/relevance.md.
_SEPARATION = 2.0
_REJECTED = 0.42
_LEAD_SHARE = 0.5
# Fewer give no slope worth using.
_LEAST_CAPTIONS = 20
_AT_ONCE = 64
# Cosines that vary less differ by rounding only.
_LEAST_DEVIATION = 1e-4


def everyday_texts() -> list[str]:
    """The texts that a library mostly has no photographs of."""
    file = importlib.resources.files("regard.search") / "everyday_texts.txt"
    return file.read_text(encoding="utf-8").splitlines()


def calibrate_library(
    engine: SearchEngine,
    routes: Routes,
    captions: Sequence[str],
    asset_filter: AssetFilter,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    cosine_scales: Mapping[str, float | None] = MappingProxyType({}),
) -> Calibrations | None:
    """Calibrate the relevance of single texts on the photographs that pass a filter.

    `captions` are different captions of them that name things; without any, only the everyday
    texts give the slope of the concentration. `cosine_scales` are those of the encoders
    (`Encoder.cosine_scale`) by space. Where all texts come equally near, there is no calibration.
    None if it was stopped.
    """
    found = {}
    for target in Target:
        routed = routes.get((QueryKind.TEXT, target), ())
        channels = [one for one in routed if one.channel.kind in {Kind.IMAGE, Kind.REGION}]
        if not channels:
            continue
        answers: list[list[Answer]] = []
        for texts in (everyday_texts(), captions[:MOST_CAPTIONS]):
            answers.append([])
            for start in range(0, len(texts), _AT_ONCE):
                if should_stop():
                    return None
                queries = [TextQuery(text) for text in texts[start : start + _AT_ONCE]]
                answers[-1] += engine.search_texts(queries, Scope(target, 1, asset_filter))
        spaces = {one.channel.space for one in channels}
        scale = cosine_scales.get(*spaces) if len(spaces) == 1 else None
        calibration = _fit(channels, *answers, scale=scale)
        if calibration is not None:
            found[Form.TEXT, target] = calibration
    return found


def _fit(
    channels: Sequence[WeightedChannel],
    absent: Sequence[Answer],
    described: Sequence[Answer],
    *,
    scale: float | None,
) -> Calibration | None:
    """Calibrate on the first hits of everyday texts, most of which are absent, and of captions.

    `scale` is what the cosines' slopes sum to; None takes it from `_SEPARATION`.
    """
    kinds = [one.channel.kind for one in channels]
    hit_names = [*(f"{kind}.cosine" for kind in kinds), "lead"]
    best_names = [f"{kind}.best" for kind in kinds]
    weights = np.asarray([one.weight for one in channels])
    hits = _table([answer.hits[0].evidence or {} for answer in absent if answer.hits], hit_names)
    cosines = len(kinds)
    slopes = _standardised(hits, np.append(weights, _LEAD_SHARE * weights.sum()), cosines, scale)
    if not slopes[:-1].any():
        return None
    hit = _logistic(hit_names, slopes, hits, hits @ slopes)

    names = [*best_names, "concentration"]
    answers, of_captions = (
        _table([one.judgement.evidence for one in group if one.judgement is not None], names)
        for group in (absent, described)
    )
    slopes = _standardised(answers[:, :-1], weights, cosines, scale)
    groups = [answers, of_captions] if len(of_captions) >= _LEAST_CAPTIONS else [answers]
    known = float(np.mean([_slope(group[:, -1], group[:, :-1] @ slopes) for group in groups]))
    presence = _logistic(names, np.append(slopes, -known), answers, answers[:, :-1] @ slopes)
    passed = [presence.probability(dict(zip(names, row, strict=True))) for row in answers.tolist()]
    cut_off = float(np.quantile([one for one in passed if one is not None], _REJECTED))
    return Calibration(frozenset(one.channel.space for one in channels), hit, presence, cut_off)


def _standardised(
    absent: Float64Array, weights: Float64Array, cosines: int, scale: float | None
) -> Float64Array:
    """Slopes (k,) that give evidence (n, k) the weights, where those of the `cosines`, which come
    first, sum to `scale`.

    Without a scale, their sum over the absent has a standard deviation of `_SEPARATION`: then two
    normal distributions of this distance and of one variance have a difference of 1 in their log
    likelihoods for each 1 of the sum.
    """
    deviations = absent.std(axis=0) if len(absent) else np.zeros(len(weights))
    slopes = np.where(deviations > _LEAST_DEVIATION, weights / np.maximum(deviations, 1e-9), 0.0)
    spread = float((absent @ slopes).std()) if slopes.any() else 0.0
    if not spread:
        return np.zeros(len(weights))
    if scale is None:
        return slopes * (_SEPARATION / spread)
    summed = float(slopes[:cosines].sum())
    return slopes * (scale / summed) if summed else np.zeros(len(weights))


def _logistic(
    names: Sequence[str], slopes: Float64Array, absent: Float64Array, compared: Float64Array
) -> LogisticModel:
    """The model with these slopes whose mean logit over the absent (n, k) is that of the null.

    Half the variance of what was `compared` (n,) lies between the mean and even odds.
    """
    constant = -float((absent @ slopes).mean()) - float(compared.var()) / 2
    weights = {name: float(slope) for name, slope in zip(names, slopes, strict=True) if slope}
    return LogisticModel(weights, constant)


def _slope(x: Float64Array, y: Float64Array) -> float:
    """The least-squares slope of y (n,) over x (n,); 0 if x does not vary."""
    deviation = x - x.mean()
    square = float(deviation @ deviation)
    return float(deviation @ y) / square if square > len(x) * _LEAST_DEVIATION**2 else 0.0


def _table(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Float64Array:
    """Evidence (n, k) by name; answers of the words alone have none."""
    return np.asarray(
        [[row[name] for name in names] for row in rows if row.keys() >= set(names)]
    ).reshape(-1, len(names))
