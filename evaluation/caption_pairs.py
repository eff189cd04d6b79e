"""Retrieval between photographs and captions by one encoder, as the field publishes it.

Text → image: the share of captions whose own photograph is among the k nearest. Image → text: the
share of photographs with one of their own captions among the k nearest. Unlike
`regard.evaluation.retrieval`, no other channel takes part, and a caption has one photograph only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.core.records import Float32Array, Int64Array
from regard.evaluation.retrieval import IMAGE_CUTOFFS
from regard.evaluation.statistics import Share, as_table

CAPTIONS_EACH = 5
"""How many captions of a photograph count; COCO has more of some."""
_ROWS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class PairReport:
    """The rank of each caption's photograph, and of each photograph's first caption, from 1."""

    image_ranks: Int64Array
    caption_ranks: Int64Array

    def to_json(self) -> dict[str, Any]:
        """`images`, `captions`, and in both directions `recall_at_1`, `_5`, `_10` as shares."""
        return {
            "images": len(self.caption_ranks),
            "captions": len(self.image_ranks),
            "text_to_image": _shares(self.image_ranks),
            "image_to_text": _shares(self.caption_ranks),
        }

    def to_text(self) -> str:
        """A table for people."""
        rows = [["", *(f"R@{k}" for k in IMAGE_CUTOFFS)]]
        for name, ranks in (
            ("text → image", self.image_ranks),
            ("image → text", self.caption_ranks),
        ):
            rows.append([name, *(str(_recall(ranks, k)) for k in IMAGE_CUTOFFS)])
        return "\n".join(
            [
                f"{len(self.caption_ranks)} images, {len(self.image_ranks)} captions",
                *as_table(rows),
                "in parentheses: 95 % interval (Wilson)",
            ]
        )


def evaluate_pairs(
    images: Float32Array, captions: Float32Array, image_of: Sequence[int]
) -> PairReport:
    """Rank photographs by captions, and captions by photographs.

    `images` (n, d) and `captions` (m, d) are compared by inner products; `image_of` has the row of
    each caption's photograph. What scores as high as the right answer ranks before it.
    """
    owners = np.asarray(image_of, np.int64)
    best = np.full(len(images), -np.inf, np.float32)
    for start in range(0, len(captions), _ROWS):
        rows = owners[start : start + _ROWS]
        scores = captions[start : start + _ROWS] @ images.T  # (rows, n)
        np.maximum.at(best, rows, scores[np.arange(len(rows)), rows])
    image_ranks = np.empty(len(captions), np.int64)
    caption_ranks = np.ones(len(images), np.int64)
    for start in range(0, len(captions), _ROWS):
        rows = owners[start : start + _ROWS]
        scores = captions[start : start + _ROWS] @ images.T
        own = scores[np.arange(len(rows)), rows]
        image_ranks[start : start + len(rows)] = (scores >= own[:, np.newaxis]).sum(axis=1)
        others = scores >= best
        others[np.arange(len(rows)), rows] = False
        caption_ranks += others.sum(axis=0)
    return PairReport(image_ranks, caption_ranks)


def _recall(ranks: Int64Array, k: int) -> Share:
    return Share(int((ranks <= k).sum()), len(ranks))


def _shares(ranks: Int64Array) -> dict[str, Any]:
    return {f"recall_at_{k}": _recall(ranks, k).to_json() for k in IMAGE_CUTOFFS}
