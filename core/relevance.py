"""What a profile says of relevance: how evidence becomes the probability that a hit is right.

Plain numbers, fitted on labelled photographs by `regard evaluate relevance --fit`. What the pieces of
evidence are called is `regard.search.evidence`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from regard.core.records import Target


class Form(StrEnum):
    """What a query is made of, as far as relevance depends on it.

    One text; one picture or stored photograph; one box of a picture or stored region; several terms that
    are all texts; several terms with pictures among them.
    """

    TEXT = "text"
    IMAGE = "image"
    REGION = "region"
    TEXTS = "texts"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """A probability: 1 / (1 + exp(−(constant + Σ weight · evidence))), weights by evidence's names."""

    weights: Mapping[str, float]
    constant: float

    def probability(self, evidence: Mapping[str, float]) -> float | None:
        """In [0, 1]; None where a piece of evidence that it weighs is missing."""
        if not self.weights.keys() <= evidence.keys():
            return None
        logit = self.constant + math.fsum(
            weight * evidence[name] for name, weight in self.weights.items()
        )
        # Beyond this the probability is 0 or 1 to the last digit, and exp would overflow.
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, logit))))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What relevance means for queries of one form that meet these spaces, and for one target.

    `hit`: that a hit is right. `presence`: that anything right is there at all; below `cut_off` an answer
    counts as one that found nothing.
    """

    spaces: frozenset[str]
    hit: LogisticModel
    presence: LogisticModel
    cut_off: float


# What a profile knows of relevance; nothing for what was not calibrated.
Calibrations = Mapping[tuple[Form, Target], Calibration]
