"""How evidence becomes the probability that a hit is relevant, as stored in a profile or a catalog.

The numbers of a profile are fitted on labelled photographs by `regard evaluate relevance --fit`,
those of a library on its own photographs. The names of the evidence are defined in
`regard.search.relevance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from regard.core.records import Target


class Form(StrEnum):
    """The kinds of query that relevance distinguishes.

    One text; one image or stored photograph; one box of an image or stored region; several terms
    that are all texts; several terms that include images.
    """

    TEXT = "text"
    IMAGE = "image"
    REGION = "region"
    TEXTS = "texts"
    MIXED = "mixed"


class RelevanceSource(StrEnum):
    """What a calibration was made on: a profile's labelled photographs, or the library itself."""

    PROFILE = "profile"
    LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """1 / (1 + exp(−(constant + Σ weight · evidence))), with weights by evidence name."""

    weights: Mapping[str, float]
    constant: float

    def probability(self, evidence: Mapping[str, float]) -> float | None:
        """The probability in [0, 1]; None if evidence with a weight is missing."""
        if not self.weights.keys() <= evidence.keys():
            return None
        logit = self.constant + math.fsum(
            weight * evidence[name] for name, weight in self.weights.items()
        )
        # exp would overflow; beyond this the probability is 0 or 1 to the last digit.
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, logit))))


# An answer with a first hit of this relevance matches, whatever its presence.
SURE = 0.8


@dataclass(frozen=True, slots=True)
class Calibration:
    """Relevance of queries of one form in these spaces, for one target.

    `hit` gives the probability that a hit is relevant, `presence` that anything relevant exists;
    below `cut_off` an answer counts as having found nothing, unless one of its first hits is
    relevant with `SURE`.
    """

    spaces: frozenset[str]
    hit: LogisticModel
    presence: LogisticModel
    cut_off: float


# Forms and targets without a calibration were not calibrated.
Calibrations = Mapping[tuple[Form, Target], Calibration]


@dataclass(frozen=True, slots=True)
class CurrentCalibrations:
    """Calibrations of one source, which may change: a call gives the current ones."""

    source: RelevanceSource
    current: Callable[[], Calibrations]
