"""Plain captions of what the classifier is sure of, and less when it is not.

Sure of a thing: "A great egret." Sure of its kind only: "A bird, perhaps a crane." Sure of neither: the
colours that fill the picture, which are measured and not guessed. A named thing's sentence is kept
plain, because every word beside the name moves its embedding away from what a person would write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from regard.core.protocols import Segmenter
from regard.core.records import Float32Array, Image
from regard.models.lite import naming
from regard.models.lite.classifier import Classifier
from regard.models.lite.colours import NAMES
from regard.models.lite.naming import Namer
from regard.models.lite.views import Views, look

_SURE = 0.566  # sureness from which a thing is named: about half of all photographs
_SURE_OF_CLASS = 0.5  # sureness from which it is named without its kind
_LIKELY_KIND = 0.5  # probability from which a kind is named, with the name beside it
_DOMINANT = 0.35  # share from which a colour is said to fill the picture

PARAMETERS: Mapping[str, float] = {
    "sure": _SURE,
    "sure_of_class": _SURE_OF_CLASS,
    "likely_kind": _LIKELY_KIND,
    "dominant": _DOMINANT,
    **naming.PARAMETERS,
}
"""All that shapes a caption, for the pipeline's fingerprint."""


class ClassCaptioner:
    """Writes one plain sentence an image from class probabilities and colours."""

    def __init__(self, classifier: Classifier, segmenter: Segmenter, namer: Namer) -> None:
        """Regions that the segmenter finds lean the caption towards what stands out."""
        self._classifier = classifier
        self._segmenter = segmenter
        self._namer = namer

    def caption(self, images: Sequence[Image]) -> list[str]:
        """One sentence for each image."""
        found = self._segmenter.segment(images)
        return [
            describe(
                look(self._classifier, image, [r.box for r in regions], [r.mask for r in regions]),
                self._namer,
            )
            for image, regions in zip(images, found, strict=True)
        ]


def describe(views: Views, namer: Namer) -> str:
    """The sentence for an image already seen."""
    found = namer.name(views.salient)
    if found.sureness >= _SURE_OF_CLASS or found.kind_probability < _LIKELY_KIND:
        text, sureness = sentence(found.name), found.sureness
    else:
        text = f"{sentence(str(found.kind))[:-1]}, perhaps {_with_article(found.name)}."
        sureness = max(found.sureness, found.kind_probability)
    return text if sureness >= _SURE else _colours_alone(views.colours)


def names_thing(caption: str) -> bool:
    """Whether a sentence of this captioner names a thing, and not colours alone."""
    return " photograph" not in caption


def sentence(thing: str) -> str:
    """A name as a sentence: "king penguin" → "A king penguin."."""
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
