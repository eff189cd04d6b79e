"""The default analyzer, which runs a segmenter, a captioner and encoders in turn over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from regard.core.geometry import Box
from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Analysis, Caption, Embedding, Float32Array, Image, Kind, Region
from regard.models.parts import RegionCaptioner

Regions = Sequence[Sequence[Region]]


class ComposedAnalyzer:
    """Analyses a batch with independent models.

    Each encoder embeds images and regions; an encoder that takes texts also embeds captions.
    Without a segmenter there are no regions, without a captioner no captions. Empty sentences are
    dropped.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        captioner: Captioner | None,
        segmenter: Segmenter | None,
        *,
        captioner_name: str,
        caption_regions: bool = False,
    ) -> None:
        """`caption_regions`: whether to caption a crop of each region as well."""
        self._encoders = encoders
        self._captioner = captioner
        self._segmenter = segmenter
        self._captioner_name = captioner_name
        self._caption_regions = caption_regions

    def analyze(self, images: Sequence[Image]) -> list[Analysis]:
        """Return one analysis for each image."""
        if not images:
            return []
        regions: Regions = [[] for _ in images]
        if self._segmenter is not None:
            regions = self._segmenter.segment(images)
        whole, sentences = self._look(images)
        captions = self._captions(images, regions, sentences)
        embeddings: list[list[Embedding]] = [[] for _ in images]
        for encoder in self._encoders:
            _embed(encoder, images, whole[encoder.space.name], regions, captions, embeddings)
        return [
            Analysis(regions=tuple(found), captions=tuple(written), embeddings=tuple(vectors))
            for found, written, vectors in zip(regions, captions, embeddings, strict=True)
        ]

    def _look(self, images: Sequence[Image]) -> tuple[Mapping[str, Float32Array], Sequence[str]]:
        """Rows of whole images by space, (n, d) each, and one sentence for each image."""
        sentences = (
            [""] * len(images) if self._captioner is None else self._captioner.caption(images)
        )
        rows = {encoder.space.name: encoder.encode_images(images) for encoder in self._encoders}
        return rows, sentences

    def _captions(
        self, images: Sequence[Image], regions: Regions, sentences: Sequence[str]
    ) -> list[list[Caption]]:
        captions = [
            [Caption(sentence, self._captioner_name)] if sentence else [] for sentence in sentences
        ]
        if self._captioner is None or not self._caption_regions:
            return captions
        boxes = [[part.box for part in found] for found in regions]
        for item, written in zip(
            captions, _region_captions(self._captioner, images, boxes), strict=True
        ):
            for index, sentence in enumerate(written):
                if sentence:
                    item.append(Caption(sentence, self._captioner_name, region=index))
        return captions


def _region_captions(
    captioner: Captioner, images: Sequence[Image], boxes: Sequence[Sequence[Box]]
) -> list[list[str]]:
    """One line for each box of each image."""
    if isinstance(captioner, RegionCaptioner):
        return captioner.caption_regions(images, boxes)
    crops = [
        Image(image.pixels[box.y : box.bottom, box.x : box.right])
        for image, its_boxes in zip(images, boxes, strict=True)
        for box in its_boxes
    ]
    written = iter(captioner.caption(crops))
    return [[next(written) for _ in its_boxes] for its_boxes in boxes]


def _embed(
    encoder: Encoder,
    images: Sequence[Image],
    whole: Float32Array,
    regions: Regions,
    captions: Sequence[Sequence[Caption]],
    embeddings: Sequence[list[Embedding]],
) -> None:
    """Append one encoder's vectors of images, regions and captions."""
    space = encoder.space.name
    boxes = [[region.box for region in found] for found in regions]
    masks = [[region.mask for region in found] for found in regions]
    parts = encoder.encode_regions(images, boxes, masks)
    for item, rows, vector in zip(embeddings, parts, whole, strict=True):
        item.append(Embedding(space, Kind.IMAGE, vector))
        item.extend(
            Embedding(space, Kind.REGION, row, region=index) for index, row in enumerate(rows)
        )
    if not encoder.takes_texts:
        return
    texts = encoder.encode_texts([caption.text for caption in chain.from_iterable(captions)])
    row = iter(texts)
    for item, written in zip(embeddings, captions, strict=True):
        for index, caption in enumerate(written):
            item.append(
                Embedding(space, Kind.CAPTION, next(row), region=caption.region, caption=index)
            )
