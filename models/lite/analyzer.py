"""The `lite` analyzer: regions, captions and vectors of an image from one set of forward passes.

The segmenter finds regions. The same views of the image then serve both encoders and the
captioner.

Captions of regions have no vectors: they name the same class probabilities as the region's own
vector, and twelve more vectors would double what a photograph takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from regard.core.protocols import Segmenter
from regard.core.records import (
    Analysis,
    Caption,
    Embedding,
    Float32Array,
    Image,
    Kind,
    Region,
)
from regard.models.lite.captioner import describe, describe_regions, without_hedge
from regard.models.lite.classifier import Classifier
from regard.models.lite.encoder import JOINT, VISUAL, JointEncoder, VisualEncoder
from regard.models.lite.views import Views, look

CAPTION_MODEL = "lite-classes"


class LiteAnalyzer:
    """Produces regions, captions of images and regions, and vectors in both spaces."""

    def __init__(
        self,
        segmenter: Segmenter,
        classifier: Classifier,
        joint: JointEncoder,
        visual: VisualEncoder,
    ) -> None:
        """Both encoders must use `classifier`."""
        self._segmenter = segmenter
        self._classifier = classifier
        self._joint = joint
        self._visual = visual
        # The captioner has some 1,300 different captions.
        self._rows_of_captions: dict[str, Float32Array] = {}

    def analyze(self, images: Sequence[Image]) -> list[Analysis]:
        """Return one analysis for each image; batching does not change the result."""
        regions_by_image = self._segmenter.segment(images)
        views_by_image = [
            look(
                self._classifier,
                image,
                [r.box for r in regions],
                [r.mask for r in regions],
                [r.score for r in regions],
            )
            for image, regions in zip(images, regions_by_image, strict=True)
        ]
        sentences = [describe(views) for views in views_by_image]
        # Each further word moves the vector away from what a person would write.
        caption_rows = self._encoded([without_hedge(text) for text in sentences])
        return [
            self._analysis(*parts)
            for parts in zip(regions_by_image, views_by_image, sentences, caption_rows, strict=True)
        ]

    def _encoded(self, captions: Sequence[str]) -> list[Float32Array]:
        """The row of each caption, encoded when it first occurs."""
        new = sorted(set(captions) - self._rows_of_captions.keys())
        if new:
            rows = self._joint.encode_texts(new)
            self._rows_of_captions.update(zip(new, rows, strict=True))
        return [self._rows_of_captions[caption] for caption in captions]

    def _analysis(
        self, regions: Sequence[Region], views: Views, sentence: str, caption_row: Float32Array
    ) -> Analysis:
        embeddings = [
            Embedding(JOINT.name, Kind.IMAGE, self._joint.image_row(views)),
            Embedding(VISUAL.name, Kind.IMAGE, self._visual.image_row(views)),
            Embedding(JOINT.name, Kind.CAPTION, caption_row, caption=0),
        ]
        objectness = [region.score for region in regions]
        for space, rows in (
            (JOINT, self._joint.region_rows(views, objectness)),
            (VISUAL, self._visual.region_rows(views)),
        ):
            embeddings += [
                Embedding(space.name, Kind.REGION, row, region=position)
                for position, row in enumerate(rows)
            ]
        names = describe_regions(views)
        of_regions = [
            Caption(name, CAPTION_MODEL, region=position)
            for position, name in enumerate(names)
            if name is not None
        ]
        return Analysis(
            regions=tuple(regions),
            captions=(Caption(sentence, CAPTION_MODEL), *of_regions),
            embeddings=tuple(embeddings),
        )
