"""Kinds of things that cover several ImageNet classes: what can be said when no one class is sure.

ImageNet orders its animals by kind, so most kinds are ranges of class numbers.
"""

from __future__ import annotations

import functools

import numpy as np

from regard.core.records import Float32Array

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
