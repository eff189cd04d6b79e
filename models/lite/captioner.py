"""Captions of the `lite` profile: one plain sentence from class probabilities and colours.

A caption says no more than is likely: "A penguin.", or "A bird, perhaps a crane.", or "An animal."
(hedging: Deng et al., 2012, "Hedging your bets"). The probability of a kind is the sum over its
classes. The name is the most specific one that is probable enough. A specific name, which is right
for fewer things, has to be more probable; so has a kind of many classes, which collects probability
even where nothing known is seen. Where a name inside that kind has most of the kind's probability,
it is added with "perhaps". Where no name is probable enough, but one is more likely than not, the
sentence is the guess alone: "Perhaps a mug." Where no kind is likely, it names the dominant colours,
which are measured.

One class is never evidence for a name: nematodes, the only class whose things need a microscope.
The classifier gives it a probability of 0.7 for the moon.

A region's caption is the name alone: "penguin". It has no guesses.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.protocols import Segmenter
from regard.core.records import BoolArray, Float32Array, Image
from regard.models.lite.classifier import Classifier
from regard.models.lite.colours import NAMES as COLOURS
from regard.models.lite.kinds import names
from regard.models.lite.views import Views, look

_LEAST_LOGIT = -2.7  # of the probability of a name that says nothing
_LOGIT_PER_SPECIFICITY = 10.0  # added to it for a name without narrower ones
_PRIOR = 0.5  # share of the log-odds of a name's share of the classes that is added, too
_PERHAPS = 0.5  # share of a kind's probability from which a guess is added
_LIKELY = 0.5  # probability from which a guess stands alone
_DOMINANT = 0.35  # share of pixels from which a colour is called dominant
_MICROSCOPIC = 111  # the class "nematode"

PARAMETERS: Mapping[str, float] = {
    "least_logit": _LEAST_LOGIT,
    "logit_per_specificity": _LOGIT_PER_SPECIFICITY,
    "prior": _PRIOR,
    "perhaps": _PERHAPS,
    "likely": _LIKELY,
    "dominant": _DOMINANT,
    "microscopic": _MICROSCOPIC,
}
"""Every value that affects a caption; part of the pipeline's fingerprint."""

_UNCOUNTABLE = frozenset(
    ["armor", "bread", "cattle", "clothing", "coffee", "equipment", "fabric", "food", "footwear",
     "furniture", "headgear", "jewelry", "soup", "sports equipment", "wine"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Naming:
    """A name that is probable enough, and a likely guess at something more specific; one of them
    may be None."""

    name: str | None
    guess: str | None


def name_things(probabilities: Float32Array) -> list[Naming | None]:
    """Name what is seen by class probabilities (n, 1000); None where nothing is likely."""
    known = names()
    visible = probabilities.copy()  # rows then sum to less than 1, so that no other class gains
    visible[:, _MICROSCOPIC] = 0
    scores = visible @ known.members.T  # (n, names)
    enough = _log_odds(scores) >= _least()
    return [_naming(row, is_enough) for row, is_enough in zip(scores, enough, strict=True)]


@functools.cache
def _least() -> Float32Array:
    """Log-odds from which each name is probable enough, (names,)."""
    known = names()
    prior = _PRIOR * _log_odds(known.members.mean(axis=1))
    return np.asarray(_LEAST_LOGIT + _LOGIT_PER_SPECIFICITY * known.specificity + prior)


@functools.cache
def _narrower(name: int) -> BoolArray:
    """Which names lie inside a name and are more specific, (names,)."""
    known = names()
    is_inside = known.members @ (1 - known.members[name]) == 0
    return np.asarray(is_inside & (known.specificity > known.specificity[name]))


def _log_odds(probabilities: Float32Array) -> Float32Array:
    bounded = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(bounded / (1 - bounded)), dtype=np.float32)


def _naming(scores: Float32Array, is_enough: BoolArray) -> Naming | None:
    """The naming for the scores of all names (names,), some of them probable enough."""
    known = names()
    if not is_enough.any():
        is_likely = scores >= _LIKELY
        return (
            Naming(None, known.texts[_most_specific(scores, is_likely)])
            if is_likely.any()
            else None
        )
    best = _most_specific(scores, is_enough)
    is_likely = _narrower(best) & (scores >= _PERHAPS * scores[best])
    name = known.texts[best]
    guess = known.texts[_most_specific(scores, is_likely)] if is_likely.any() else name
    return Naming(name, None if guess == name else guess)


def _most_specific(scores: Float32Array, among: BoolArray) -> int:
    """The most specific name `among` some; of equally specific ones the most probable."""
    rows = np.flatnonzero(among)
    return int(rows[np.lexsort((scores[rows], names().specificity[rows]))[-1]])


class ClassCaptioner:
    """Writes one plain sentence an image from class probabilities and colours."""

    def __init__(self, classifier: Classifier, segmenter: Segmenter) -> None:
        """The segmenter's regions give salient things more influence on the caption."""
        self._classifier = classifier
        self._segmenter = segmenter

    def caption(self, images: Sequence[Image]) -> list[str]:
        """Return one sentence for each image."""
        found = self._segmenter.segment(images)
        return [
            describe(
                look(
                    self._classifier,
                    image,
                    [r.box for r in regions],
                    [r.mask for r in regions],
                    [r.score for r in regions],
                )
            )
            for image, regions in zip(images, found, strict=True)
        ]


def describe(views: Views) -> str:
    """Return the sentence for an image's views."""
    (naming,) = name_things(views.salient[None])
    return _colours_alone(views.colours) if naming is None else sentence(naming)


def describe_regions(views: Views) -> list[str | None]:
    """Return the name of what each region shows, without an article; None where it is unknown."""
    namings = name_things(views.region_probabilities)
    return [None if naming is None else naming.name for naming in namings]


def without_hedge(caption: str) -> str:
    """Reduce a caption to its most specific name: "A bird, perhaps a crane." → "A crane."."""
    guess = re.split(r"\b[Pp]erhaps ", caption)[-1]
    return f"{guess[0].upper()}{guess[1:]}"


def names_thing(caption: str) -> bool:
    """Return whether a caption of this captioner names a thing rather than colours."""
    return " photograph" not in caption


def sentence(naming: Naming) -> str:
    """Turn a naming into a sentence: "A bird, perhaps a king penguin."."""
    parts = [] if naming.name is None else [_with_article(naming.name)]
    parts += [] if naming.guess is None else [f"perhaps {_with_article(naming.guess)}"]
    words = ", ".join(parts)
    return f"{words[0].upper()}{words[1:]}."


def _with_article(thing: str) -> str:
    is_plural = thing.endswith("s") and not thing.endswith(("ss", "us", "is"))
    if is_plural or thing in _UNCOUNTABLE:
        return thing
    return f"{'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}"


def _colours_alone(shares: Float32Array) -> str:
    first, second = (COLOURS[i] for i in np.argsort(-shares, kind="stable")[:2])
    if shares.max() >= _DOMINANT:
        return f"A mostly {first} photograph."
    return f"A photograph in {first} and {second}."
