"""Captions of the `lite` profile: one plain sentence from class probabilities and colours.

A confident class is named: "A great egret." Where only its kind is likely: "A bird, perhaps a
crane." Otherwise the sentence names the dominant colours, which are measured. A sentence that
names a thing stays plain, because each further word moves its embedding away from what a person
would write.

The likeliest class is often not the best name: among five kinds of plane, "airplane" is right
where each of the five is probably wrong. Candidates are all synonyms of all classes, and kinds
that cover several classes (ImageNet orders its animals by kind, so most kinds are ranges of class
numbers). The chosen name maximises its expected agreement with the image's content:

    Σ over classes p(class) · agreement(name, class),

where agreement is a logistic function of the cosine between the sentence embeddings of the two
names (minimum Bayes risk decoding; Kumar and Byrne, 2004, with meaning as the loss). The expected
agreement is also the confidence in the name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.protocols import Segmenter
from regard.core.records import Float32Array, Image
from regard.models.lite.classifier import Classifier
from regard.models.lite.colours import NAMES
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.views import Views, look
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
"""Names of the kinds, from fewest classes to most."""


def kind_of(probabilities: Float32Array, class_number: int) -> tuple[str | None, float]:
    """Return the likeliest kind that contains a class, and the summed probability of its classes.

    Returns (None, 0) for a class in none of `KINDS`.
    """
    best: tuple[str | None, float] = (None, 0.0)
    for kind, members in zip(KINDS, _members(), strict=True):
        probability = float(probabilities[members].sum())
        # Strictly greater: of two equal kinds the narrower one, which comes first, wins.
        if members[class_number] and probability > best[1]:
            best = (kind, probability)
    return best


@functools.cache
def _members() -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], ...]:
    """Boolean masks (1000,) over the classes, one for each of `KINDS`."""
    result = []
    for kind in KINDS:
        members = np.zeros(1000, dtype=np.bool_)
        for first, last in _RANGES[kind]:
            members[first : last + 1] = True
        result.append(members)
    return tuple(result)


_AGREED = 0.55  # cosine above which two names probably mean the same
_STEEPNESS = 15.0  # of the agreement, per unit of cosine


@dataclass(frozen=True, slots=True)
class Naming:
    """A name, its confidence in [0, 1], and its kind with that kind's probability."""

    name: str
    sureness: float
    kind: str | None
    kind_probability: float


class Namer:
    """Chooses names. Embeddings load on first use. Thread-safe."""

    def __init__(self, sentences: SentenceEncoder) -> None:
        self._sentences = sentences

    def name(self, probabilities: Float32Array) -> Naming:
        """Return the best name for class probabilities of shape (1000,)."""
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
        """Agreement of each name with each class's clean name, shape (names, 1000)."""
        known = vocabulary()
        names = np.vstack([known.synonym_vectors, self._sentences.encode(KINDS)])
        cosines = names @ known.synonym_vectors[known.starts].T
        return np.asarray(1 / (1 + np.exp(-_STEEPNESS * (cosines - _AGREED))), dtype=np.float32)


def plain_name(name: str) -> str:
    """Strip articles and disambiguation from a class name: "drake (male duck)" → "drake"."""
    return re.sub(r"^an? |\s*\(.*?\)|\s+/.*", "", name)


_SURE = 0.566  # confidence required to name a thing; about half of all photographs reach it
_SURE_OF_CLASS = 0.5  # confidence required to name it without its kind
_LIKELY_KIND = 0.5  # probability required to name the kind as well
_DOMINANT = 0.35  # share of pixels from which a colour is called dominant

PARAMETERS: Mapping[str, float] = {
    "sure": _SURE,
    "sure_of_class": _SURE_OF_CLASS,
    "likely_kind": _LIKELY_KIND,
    "dominant": _DOMINANT,
    "agreed": _AGREED,
    "steepness": _STEEPNESS,
}
"""Every value that affects a caption; part of the pipeline's fingerprint."""


class ClassCaptioner:
    """Writes one plain sentence an image from class probabilities and colours."""

    def __init__(self, classifier: Classifier, segmenter: Segmenter, namer: Namer) -> None:
        """The segmenter's regions give salient things more influence on the caption."""
        self._classifier = classifier
        self._segmenter = segmenter
        self._namer = namer

    def caption(self, images: Sequence[Image]) -> list[str]:
        """Return one sentence for each image."""
        found = self._segmenter.segment(images)
        return [
            describe(
                look(self._classifier, image, [r.box for r in regions], [r.mask for r in regions]),
                self._namer,
            )
            for image, regions in zip(images, found, strict=True)
        ]


def describe(views: Views, namer: Namer) -> str:
    """Return the sentence for an image's views."""
    found = namer.name(views.salient)
    if found.sureness >= _SURE_OF_CLASS or found.kind_probability < _LIKELY_KIND:
        text, sureness = sentence(found.name), found.sureness
    else:
        text = f"{sentence(str(found.kind))[:-1]}, perhaps {_with_article(found.name)}."
        sureness = max(found.sureness, found.kind_probability)
    return text if sureness >= _SURE else _colours_alone(views.colours)


def names_thing(caption: str) -> bool:
    """Return whether a caption of this captioner names a thing rather than colours."""
    return " photograph" not in caption


def sentence(thing: str) -> str:
    """Turn a name into a sentence: "king penguin" → "A king penguin."."""
    words = _with_article(thing)
    return f"{words[0].upper()}{words[1:]}."


def _with_article(thing: str) -> str:
    plural = thing.endswith("s") and not thing.endswith(("ss", "us", "is"))
    if plural:
        return thing
    return f"{'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}"


def _colours_alone(shares: Float32Array) -> str:
    first, second = (NAMES[i] for i in np.argsort(-shares, kind="stable")[:2])
    if shares.max() >= _DOMINANT:
        return f"A mostly {first} photograph."
    return f"A photograph in {first} and {second}."
