"""The encoders of `lite`: a joint space of images and texts, and a visual space of images.

No weights here were trained on pairs of image and text; the classifier's class names connect the
two. A row of the joint space is made of three blocks, each normalised to unit length and then
weighted:

- meaning (384): for an image, the mean of its likeliest classes' sentence embeddings, weighted by
  probability (ConSE, Norouzi et al., 2014, arXiv 1312.5650); for a text, its sentence embedding;
- classes (1000): for an image, each class's log-probability above a floor; for a text, a softmax over
  its similarity to each class's names and description;
- colours (11): for an image, the square roots of its colours' shares; for a text, the colours it names.

The inner product of two rows is therefore a weighted sum of three cosines. Meaning and classes are
stored as their projection on 604 directions (`directions`), which nearly keeps that sum. One last
component, zero in texts, keeps images and regions L2-normalised: it takes the length that the
projection leaves out, and a region with low objectness has more of its length there, so that it
scores lower with every text.

A row of the visual space is a projection of the classifier's pooled features.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from regard.core.errors import UsageError
from regard.core.geometry import Box, Mask
from regard.core.records import Float32Array, Image, Space
from regard.models.lite.classifier import Classifier
from regard.models.lite.colours import NAMES
from regard.models.lite.directions import (
    JOINT_DIRECTIONS,
    VISUAL_DIRECTIONS,
    joint_directions,
    visual_directions,
)
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.views import Views, look, softmax
from regard.models.lite.vocabulary import vocabulary

JOINT = Space("lite-joint", JOINT_DIRECTIONS + len(NAMES) + 1)
VISUAL = Space("lite-visual", VISUAL_DIRECTIONS)

_LIKELIEST = 30  # classes in the mean of meanings; the long tail would pull it to the common mean
_FLOOR = 0.002  # less likely classes count as absent; twice the uniform probability
_SHARPNESS = 10.0  # of the softmax over a text's similarities to classes
_MEANING, _CLASSES, _COLOURS = 0.4, 0.6, 0.16  # weights of the three blocks' cosines
_THINGNESS = 0.6  # exponent of a region's objectness in the scale of its scores
_LEAST_OBJECTNESS = 0.05

PARAMETERS: Mapping[str, float] = {
    "likeliest": _LIKELIEST,
    "floor": _FLOOR,
    "sharpness": _SHARPNESS,
    "meaning": _MEANING,
    "classes": _CLASSES,
    "colours": _COLOURS,
    "thingness": _THINGNESS,
    "least_objectness": _LEAST_OBJECTNESS,
}
"""Every value that affects the joint space; part of the pipeline's fingerprint."""


class _ViewEncoder(ABC):
    """Encodes images and regions from their views. Thread-safe.

    Images pass one at a time, so batching does not change the rows.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    @property
    @abstractmethod
    def space(self) -> Space:
        """The space of the rows."""

    @property
    def cosine_scale(self) -> float | None:
        """None: nothing here was trained on pairs of image and text."""
        return None

    @abstractmethod
    def image_row(self, views: Views) -> Float32Array:
        """The whole image's vector, shape (d,)."""

    @abstractmethod
    def region_rows(self, views: Views) -> Float32Array:
        """The regions' vectors, shape (r, d)."""

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        """Embed whole images, shape (n, d)."""
        rows = [self.image_row(look(self._classifier, image, (), ())) for image in images]
        return np.stack(rows) if rows else np.zeros((0, self.space.dimension), dtype=np.float32)

    def encode_regions(
        self,
        images: Sequence[Image],
        boxes: Sequence[Sequence[Box]],
        masks: Sequence[Sequence[Mask | None]],
    ) -> list[Float32Array]:
        """Embed regions: (r, d) for each image, whose regions share its forward pass."""
        return [
            self.region_rows(look(self._classifier, image, its_boxes, its_masks))
            for image, its_boxes, its_masks in zip(images, boxes, masks, strict=True)
        ]


class JointEncoder(_ViewEncoder):
    """Encodes images, regions and texts by ImageNet classes and colours, 616 dimensions.

    Rows of texts agree within 1e-5 in any batch. Encoding texts does not load the classifier.
    """

    takes_texts = True

    def __init__(self, classifier: Classifier, sentences: SentenceEncoder) -> None:
        super().__init__(classifier)
        self._sentences = sentences

    @property
    def space(self) -> Space:
        """The joint space."""
        return JOINT

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed sentences, shape (n, 616); tokens after the 256th are ignored."""
        blocks = text_blocks(self._sentences.encode(texts))
        return unit(_projected(blocks, _named_colours(texts)))

    def knows(self, word: str) -> bool:
        """See `SentenceEncoder.knows`."""
        return self._sentences.knows(word)

    def image_row(self, views: Views) -> Float32Array:
        """The image's vector, shape (616,), from `anywhere` and the whole image's colours."""
        rows = _joint_rows(views.anywhere[None], views.colours[None])
        return np.asarray(rows[0])

    def region_rows(self, views: Views, objectness: Sequence[float] | None = None) -> Float32Array:
        """The regions' vectors, shape (r, 616).

        `objectness` (r,) in [0, 1] scales each region's scores; None leaves them unscaled.
        """
        rows = _joint_rows(views.region_probabilities, views.region_colours)
        if objectness is not None:
            scale = np.clip(np.asarray(objectness, dtype=np.float32), _LEAST_OBJECTNESS, 1.0)
            rows[:, :-1] *= (scale**_THINGNESS)[:, None]
            _fill(rows)
        return rows


class VisualEncoder(_ViewEncoder):
    """Encodes images and regions by the classifier's pooled features, 256 dimensions."""

    takes_texts = False

    @property
    def space(self) -> Space:
        """The visual space."""
        return VISUAL

    def knows(self, word: str) -> bool:
        """False: the visual space has no texts."""
        return False

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Raises UsageError: the visual space has no texts."""
        raise UsageError(f"the space {VISUAL.name} takes images and regions, not texts")

    def image_row(self, views: Views) -> Float32Array:
        """The whole image's vector, shape (256,)."""
        return np.asarray(_visual_rows(views.features[None])[0])

    def region_rows(self, views: Views) -> Float32Array:
        """The regions' vectors, shape (r, 256)."""
        return _visual_rows(views.region_features)


def text_blocks(meanings: Float32Array) -> Float32Array:
    """Meaning and classes of texts, (n, 1384), from their sentence embeddings (n, 384)."""
    return weighted_blocks(meanings, softmax(vocabulary().similarity(meanings) * _SHARPNESS))


def weighted_blocks(meaning: Float32Array, classes: Float32Array) -> Float32Array:
    """Normalise blocks (n, 384) and (n, 1000), and join them with their weights: (n, 1384)."""
    # Both sides of the inner product carry the square root of the weight.
    weights = np.sqrt(np.asarray([_MEANING, _CLASSES], dtype=np.float32))
    return np.hstack([unit(meaning) * weights[0], unit(classes) * weights[1]])


def _joint_rows(probabilities: Float32Array, colours: Float32Array) -> Float32Array:
    """Joint rows (n, 616) from class scores (n, 1000) of any sum and colour shares (n, 11)."""
    threshold = np.partition(probabilities, -_LIKELIEST, axis=1)[:, -_LIKELIEST, None]
    likely = np.where(probabilities >= threshold, probabilities, np.float32(0))
    meaning = likely @ vocabulary().description_vectors
    evidence = np.log(np.maximum(probabilities, _FLOOR) / np.float32(_FLOOR))
    rows = _projected(weighted_blocks(meaning, evidence), np.sqrt(colours))
    _fill(rows)
    return rows


def _projected(blocks: Float32Array, colours: Float32Array) -> Float32Array:
    """Project blocks (n, 1384), and join them with colours (n, 11) and a zero: (n, 616).

    Rows have the length 1 before the projection, and less after it.
    """
    coloured = unit(colours) * np.float32(_COLOURS**0.5)
    whole = _normalised(np.hstack([blocks, coloured]))
    known = whole[:, : -len(NAMES)] @ joint_directions().T
    return np.hstack([known, whole[:, -len(NAMES) :], np.zeros((len(whole), 1), dtype=np.float32)])


def joint_components(rows: Float32Array) -> Float32Array:
    """The meaning, classes and colours that joint rows (n, 616) are projected from: (n, 1395)."""
    blocks = rows[:, :JOINT_DIRECTIONS] @ joint_directions()
    return np.hstack([blocks, rows[:, JOINT_DIRECTIONS:-1]])


def visual_components(rows: Float32Array) -> Float32Array:
    """The features, none of them negative, that visual rows (n, 256) are projected from:
    (n, 1280)."""
    return np.asarray((rows @ visual_directions()).clip(0), dtype=np.float32)


def _visual_rows(features: Float32Array) -> Float32Array:
    """Visual rows (n, 256) of pooled features (n, 1280)."""
    return _normalised(features @ visual_directions().T)


def _fill(rows: Float32Array) -> None:
    """Set the last component of each row (n, d) so that the row has the length 1."""
    rows[:, -1] = np.sqrt(1 - np.square(rows[:, :-1]).sum(axis=1).clip(max=1.0))


def _named_colours(texts: Sequence[str]) -> Float32Array:
    """1 where a text names a colour of `NAMES`, shape (n, 11)."""
    named = np.zeros((len(texts), len(NAMES)), dtype=np.float32)
    for row, text in enumerate(texts):
        words = {"grey" if word == "gray" else word for word in re.findall(r"\w+", text.lower())}
        named[row] = [name in words for name in NAMES]
    return named


def colours_of_regions(rows: Float32Array) -> Float32Array:
    """Square roots of colour shares, unit rows (n, 11), from joint rows (n, 616) of images."""
    return unit(rows[:, JOINT_DIRECTIONS : JOINT_DIRECTIONS + len(NAMES)].clip(0))


def _normalised(vectors: Float32Array) -> Float32Array:
    """Normalise rows; a row of zeros becomes the uniform direction."""
    blank = ~vectors.any(axis=1, keepdims=True)
    return unit(np.where(blank, np.float32(1), vectors))


def unit(rows: Float32Array) -> Float32Array:
    """Normalise rows to unit length; rows of zeros stay zero."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
