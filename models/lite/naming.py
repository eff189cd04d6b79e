"""Names a thing of which only class probabilities are known.

The likeliest class is often not the best name: among five kinds of plane, "airplane" is right where
each of the five is probably wrong. Candidates are all synonyms of all classes, and kinds that cover
several classes (ImageNet orders its animals by kind, so most kinds are ranges of class numbers).
The name chosen has the greatest expected agreement with what is shown:

    Σ over classes p(class) · agreement(name, class),

where agreement is a logistic function of the cosine between the sentence embeddings of the two
names (minimum Bayes risk decoding; Kumar and Byrne, 2004, with meaning as the loss). The expected
agreement is also the sureness of the name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regard.core.records import Float32Array
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.vocabulary import class_texts, vocabulary

_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "fish": ((0, 1), (389, 397)),
    "shark": ((2, 4),),
    "bird": ((7, 24), (80, 100), (127, 146)),
    "salamander": ((25, 29),),
    "frog": ((30, 32),),
    "turtle": ((33, 37),),
    "lizard": ((38, 48),),
    "snake": ((52, 68),),
    "spider": ((72, 77),),
    "crab": ((118, 121),),
    "dog": ((151, 268),),
    "cat": ((281, 285),),
    "bear": ((294, 297),),
    "insect": ((300, 326),),
    "butterfly": ((321, 326),),
    "monkey": ((369, 382),),
    "sheep": ((348, 349),),
    "elephant": ((385, 386),),
    "car": ((407, 407), (436, 436), (468, 468), (511, 511), (609, 609), (627, 627), (656, 656),
            (661, 661), (751, 751), (817, 817)),
    "truck": ((555, 555), (569, 569), (717, 717), (864, 864), (867, 867)),
    "guitar": ((402, 402), (546, 546)),
    "hat": ((439, 439), (452, 452), (515, 515), (808, 808)),
    "vegetable": ((936, 947),),
    "fruit": ((948, 957),),
    "mushroom": ((992, 993), (996, 997)),
}  # fmt: skip
KINDS = tuple(sorted(_RANGES, key=lambda kind: sum(b - a + 1 for a, b in _RANGES[kind])))
"""Their names, the narrowest first."""


def kind_of(probabilities: Float32Array, class_number: int) -> tuple[str | None, float]:
    """The likeliest kind that a class belongs to, and the probability of all its classes together.

    (None, 0) for a class that belongs to none of `KINDS`.
    """
    best: tuple[str | None, float] = (None, 0.0)
    for kind, members in zip(KINDS, _members(), strict=True):
        probability = float(probabilities[members].sum())
        # Strictly more: of two equals the narrower stands, which comes first.
        if members[class_number] and probability > best[1]:
            best = (kind, probability)
    return best


@functools.cache
def _members() -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], ...]:
    """For each of `KINDS`, which of the 1000 classes belong."""
    result = []
    for kind in KINDS:
        members = np.zeros(1000, dtype=np.bool_)
        for first, last in _RANGES[kind]:
            members[first : last + 1] = True
        result.append(members)
    return tuple(result)


_AGREED = 0.55  # cosine from which two names more likely mean the same than not
_STEEPNESS = 15.0  # of the agreement, per unit of cosine

PARAMETERS: Mapping[str, float] = {"agreed": _AGREED, "steepness": _STEEPNESS}
"""All that shapes a name, for the pipeline's fingerprint."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A name, how sure it is (0 to 1), and the kind it belongs to with that kind's probability."""

    name: str
    sureness: float
    kind: str | None
    kind_probability: float


class Namer:
    """Chooses names; loads nothing before the first one. Safe to call from several threads."""

    def __init__(self, sentences: SentenceEncoder) -> None:
        self._sentences = sentences

    def name(self, probabilities: Float32Array) -> Naming:
        """The best name for class probabilities, shape (1000,)."""
        texts, agreement = class_texts(), self._agreement
        expected = agreement @ probabilities
        best = int(expected.argmax())
        if best < len(texts.synonyms):
            name = plain_name(texts.synonyms[best])
            class_number = int(np.searchsorted(texts.starts, best, side="right")) - 1
        else:
            name = KINDS[best - len(texts.synonyms)]
            class_number = int(probabilities.argmax())
        kind, probability = kind_of(probabilities, class_number)
        return Naming(name, float(expected[best]), kind, probability)

    @functools.cached_property
    def _agreement(self) -> Float32Array:
        """How far each name agrees with each class' clean name, shape (names, 1000)."""
        known = vocabulary()
        names = np.vstack([known.synonym_vectors, self._sentences.encode(KINDS)])
        cosines = names @ known.synonym_vectors[known.starts].T
        return np.asarray(1 / (1 + np.exp(-_STEEPNESS * (cosines - _AGREED))), dtype=np.float32)


def plain_name(name: str) -> str:
    """A class' name without what only tells it apart: "drake (male duck)" → "drake"."""
    return re.sub(r"^an? |\s*\(.*?\)|\s+/.*", "", name)
