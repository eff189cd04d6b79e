"""How right the written captions are: n-gram metrics, and a judge that compares meanings.

A captioner may be honest and name nothing where it is unsure. N-gram metrics can't tell silence
from error, so two shares stand beside them: how often a caption names a thing, and how often it is
then right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.core.errors import CannotWork
from regard.core.records import Float32Array
from regard.evaluation.caption_scores import CaptionScores, score_captions
from regard.evaluation.labels import LabelledSet
from regard.evaluation.statistics import Share, as_table

SIMILARITY_THRESHOLD = 0.6

# Sentences → rows (n, d), L2-normalised, order kept.
EmbedTexts = Callable[[Sequence[str]], Float32Array]


@dataclass(frozen=True, slots=True)
class WrittenCaption:
    """The stored caption of an image; `names_thing` tells whether it says what a thing is.

    Only the captioner knows that: "A photo taken outdoors" names nothing, "A photo of a frog" does.
    An empty text names nothing.
    """

    text: str
    names_thing: bool


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """A caption and the reference it comes nearest to, by cosine `similarity` in [-1, 1]."""

    file_name: str
    text: str
    names_thing: bool
    reference: str
    similarity: float

    @property
    def right(self) -> bool:
        """Whether it names a thing and means what a reference means: cosine ≥ 0.6."""
        return self.names_thing and self.similarity >= SIMILARITY_THRESHOLD


@dataclass(frozen=True, slots=True)
class CaptionReport:
    """Captions of one labelled set; `scores` is None when their tools are absent, see `notes`."""

    judged: tuple[JudgedCaption, ...]
    unanalyzed: tuple[str, ...]
    scores: CaptionScores | None
    notes: tuple[str, ...]

    @property
    def named(self) -> Share:
        """Share of images whose caption names a thing."""
        return Share.of(caption.names_thing for caption in self.judged)

    @property
    def right(self) -> Share:
        """Share of the captions that name a thing whose nearest reference has cosine ≥ 0.6."""
        return Share.of(caption.right for caption in self.judged if caption.names_thing)

    def failures(self) -> list[JudgedCaption]:
        """Captions that name a wrong thing, the most remote first; then those that name none."""
        missed = [caption for caption in self.judged if not caption.right]
        return sorted(missed, key=lambda c: (not c.names_thing, c.similarity, c.file_name))

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values.

        `images`, `images_not_indexed` are counts; `named`, `right_of_named` shares; `cider` and
        `spice` means and `bleu4` a number, each null where it could not be had; `notes` says why.
        """
        scores = self.scores
        return {
            "images": len(self.judged),
            "images_not_indexed": len(self.unanalyzed),
            "named": self.named.to_json(),
            "right_of_named": self.right.to_json(),
            "cider": scores.cider.to_json() if scores else None,
            "bleu4": scores.bleu4 if scores else None,
            "spice": scores.spice.to_json() if scores and scores.spice else None,
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """A table for people."""
        rows = [
            ["images whose caption names a thing", str(self.named)],
            ["of those, right (cosine ≥ 0.6)", str(self.right)],
        ]
        if self.scores:
            rows += [["CIDEr", str(self.scores.cider)], ["BLEU-4", f"{self.scores.bleu4:.3f}"]]
            if self.scores.spice:
                rows.append(["SPICE", str(self.scores.spice)])
        return "\n".join(
            [
                f"{len(self.judged)} images with reference captions",
                *as_table(rows),
                "in parentheses: 95 % interval (Wilson, bootstrap)",
                *self.notes,
            ]
        )


def evaluate_captions(
    labels: LabelledSet, captions: Mapping[str, WrittenCaption], embed_texts: EmbedTexts
) -> CaptionReport:
    """Measure stored captions against the reference captions of their images.

    `captions` maps file names to captions; an image that it lacks counts as not indexed, with an
    empty caption. Images without a reference are left out. A caption is right when its sentence
    embedding has a cosine ≥ 0.6 with that of its image's nearest reference.

    Raises CannotWork when no image has a reference. Where Java or pycocoevalcap is absent, the
    report lacks `scores` and says so in `notes`.
    """
    images = [image for image in labels.images if image.captions]
    if not images:
        raise CannotWork(
            "no selected photograph has a reference caption", remedy="name a COCO captions file"
        )
    nothing = WrittenCaption(text="", names_thing=False)
    written = [captions.get(image.file_name, nothing) for image in images]
    references = [image.captions for image in images]
    notes: list[str] = []
    scores = None
    try:
        scores = score_captions([caption.text for caption in written], references)
        notes.extend(scores.notes)
    except CannotWork as error:
        notes.append(str(error))
    unanalyzed = tuple(image.file_name for image in images if image.file_name not in captions)
    if unanalyzed:
        notes.append(f"not indexed: {len(unanalyzed)} of the images; their captions count as empty")
    nearest = _nearest_references([c.text for c in written], references, embed_texts)
    judged = tuple(
        JudgedCaption(
            file_name=image.file_name,
            text=caption.text,
            names_thing=caption.names_thing and bool(caption.text.strip()),
            reference=reference,
            similarity=similarity,
        )
        for image, caption, (reference, similarity) in zip(images, written, nearest, strict=True)
    )
    return CaptionReport(judged, unanalyzed, scores, tuple(notes))


def _nearest_references(
    written: Sequence[str], references: Sequence[Sequence[str]], embed_texts: EmbedTexts
) -> list[tuple[str, float]]:
    """The reference nearest to each written caption and its cosine; each text is embedded once."""
    texts = sorted({*written, *(text for image in references for text in image)})
    rows = embed_texts(texts)  # (texts, d)
    if rows.shape[0] != len(texts):
        raise ValueError(f"expected {len(texts)} embeddings, got {rows.shape[0]}")
    row = {text: rows[i] for i, text in enumerate(texts)}
    nearest = []
    for text, image in zip(written, references, strict=True):
        cosines = np.stack([row[reference] for reference in image]) @ row[text]  # (references,)
        best = int(cosines.argmax())
        nearest.append((image[best], float(cosines[best])))
    return nearest
