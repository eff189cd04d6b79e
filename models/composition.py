"""The default analyzer: a segmenter, a captioner and encoders, one after another over a batch."""

from __future__ import annotations

from collections.abc import Sequence

from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Analysis, Caption, Embedding, Image, Kind


class ComposedAnalyzer:
    """Analyses a batch with independent models.

    Each encoder embeds whole images and regions; an encoder that takes texts embeds the captions too.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        captioner: Captioner,
        segmenter: Segmenter,
        *,
        captioner_name: str,
    ) -> None:
        self._encoders = encoders
        self._captioner = captioner
        self._segmenter = segmenter
        self._captioner_name = captioner_name

    def analyze(self, images: Sequence[Image]) -> list[Analysis]:
        """One analysis an image; an empty caption is left out."""
        if not images:
            return []
        regions = self._segmenter.segment(images)
        sentences = self._captioner.caption(images)
        embeddings: list[list[Embedding]] = [[] for _ in images]
        boxes = [[region.box for region in found] for found in regions]
        masks = [[region.mask for region in found] for found in regions]
        for encoder in self._encoders:
            space = encoder.space.name
            whole = encoder.encode_images(images)
            parts = encoder.encode_regions(images, boxes, masks)
            for item, rows, vector in zip(embeddings, parts, whole, strict=True):
                item.append(Embedding(space, Kind.IMAGE, vector))
                item.extend(
                    Embedding(space, Kind.REGION, row, region=index)
                    for index, row in enumerate(rows)
                )
            if encoder.takes_texts:
                written = [index for index, sentence in enumerate(sentences) if sentence]
                rows = encoder.encode_texts([sentences[index] for index in written])
                for index, row in zip(written, rows, strict=True):
                    embeddings[index].append(Embedding(space, Kind.CAPTION, row, caption=0))
        return [
            Analysis(
                regions=tuple(found),
                captions=(Caption(sentence, self._captioner_name),) if sentence else (),
                embeddings=tuple(vectors),
            )
            for found, sentence, vectors in zip(regions, sentences, embeddings, strict=True)
        ]
