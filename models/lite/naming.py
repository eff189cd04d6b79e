"""What to call a thing of which only class probabilities are known.

The likeliest class is often not the best name: between five kinds of plane, "airplane" is right where each
of the five is probably wrong. The name chosen is the one that is expected to mean the same as what is
shown: among all synonyms of all classes and the kinds above them, the greatest expected agreement

    Σ over classes p(class) · agreement(name, class),

where agreement is a logistic function of the cosine between the two names' sentence embeddings. (Minimum
Bayes risk decoding; Kumar and Byrne, 2004, with meaning as the loss.) The expectation is also how sure the
name is, which the greatest class probability alone tells less well.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regard.core.records import Float32Array
from regard.models.lite.kinds import KINDS, kind_of
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.vocabulary import class_texts, vocabulary

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
