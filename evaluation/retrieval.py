"""Text → image and text → region retrieval, in the field's recall at k.

A caption that several images bear is answered by any of them, so the rank of a query is that of
its first right answer; later right answers do not count.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from regard.core.errors import CannotWork
from regard.core.geometry import Box, Mask
from regard.core.records import Target
from regard.evaluation.labels import LabelledSet
from regard.evaluation.statistics import Share, as_table
from regard.evaluation.wordnet import half_of

IOU_THRESHOLD = 0.5
IMAGE_CUTOFFS = (1, 5, 10)
REGION_CUTOFFS = (1, 10)
# Texts per call of a searcher: the whole rankings of a batch are held in memory.
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """One hit: the image's file name as the labels spell it and, where there is one, a region."""

    file_name: str
    box: Box | None = None
    mask: Mask | None = None


class Searcher(Protocol):
    """Answers texts over exactly the labelled set's images."""

    def __call__(
        self, texts: Sequence[str], target: Target, limit: int
    ) -> Sequence[Sequence[Answer]]:
        """Up to `limit` answers of each text, best first.

        For images: at most one answer an image. For regions: `box` is never None.
        """


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """One text, the rank of its first right answer (1 is best, None: not found), its first ten.

    `weight` is the number of its labels: captions for images, 1 for regions.
    """

    text: str
    rank: int | None
    weight: int
    answers: tuple[Answer, ...]

    @property
    def depth(self) -> float:
        """The rank, or infinity where nothing right was found."""
        return math.inf if self.rank is None else self.rank


@dataclass(frozen=True, slots=True)
class Ranking:
    """All queries of one searcher and one target."""

    cutoffs: tuple[int, ...]
    queries: tuple[RankedQuery, ...]

    def recall(self, k: int) -> Share:
        """Share of labels whose text has a right answer among the first `k`."""
        return Share(
            hits=sum(query.weight for query in self.queries if query.depth <= k),
            total=sum(query.weight for query in self.queries),
        )

    @property
    def median_rank(self) -> float | None:
        """Median rank over labels; None when that is not found, or when there are no labels."""
        depths = [query.depth for query in self.queries for _ in range(query.weight)]
        median = statistics.median(depths) if depths else math.inf
        return None if math.isinf(median) else float(median)

    @property
    def halves(self) -> tuple[Ranking, ...]:
        """The queries of either half of the head nouns (see `wordnet.half_of`)."""
        return tuple(
            Ranking(self.cutoffs, tuple(q for q in self.queries if half_of(q.text) == half))
            for half in (0, 1)
        )

    def failures(self) -> list[RankedQuery]:
        """Queries whose first answer is wrong, worst rank first, then by text."""
        missed = [query for query in self.queries if query.rank != 1]
        return sorted(missed, key=lambda query: (-query.depth, query.text))


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The rankings of one searcher."""

    images: Ranking
    regions: Ranking

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values.

        `text_to_image` holds `recall_at_1`, `recall_at_5`, `recall_at_10` and `median_rank` (null:
        not found), `text_to_region` holds `hit_at_1` and `hit_at_10`. `halves` of each holds the
        same of the texts of either half of the head nouns.
        """
        return {
            f"text_to_{target}": {
                **measures(ranking),
                "halves": [measures(half) for half in ranking.halves],
            }
            for target, ranking, measures in (
                ("image", self.images, _image_measures),
                ("region", self.regions, _region_measures),
            )
        }


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Retrieval of the whole search and of its ablations over one labelled set."""

    image_count: int
    caption_count: int
    object_count: int
    text_count: int
    fused: Retrieval
    ablations: Mapping[str, Ranking] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values.

        `images`, `captions`, `objects`, `object_texts` are counts; `text_to_image` and
        `text_to_region` are `Retrieval.to_json` of the fused search; `ablations` holds
        `text_to_image` for each name.
        """
        return {
            "images": self.image_count,
            "captions": self.caption_count,
            "objects": self.object_count,
            "object_texts": self.text_count,
            **self.fused.to_json(),
            "ablations": {
                name: {"text_to_image": _image_measures(found)}
                for name, found in self.ablations.items()
            },
        }

    def to_text(self) -> str:
        """A table for people."""
        one, other = self.fused.images.halves
        searches = {
            "all channels": self.fused.images,
            "one half of the head nouns": one,
            "the other half": other,
            **self.ablations,
        }
        rows = [["text → image", *(f"R@{k}" for k in IMAGE_CUTOFFS), "median rank"]]
        for name, found in searches.items():
            median = found.median_rank
            shares = [str(found.recall(k)) for k in found.cutoffs]
            rows.append([f"  {name}", *shares, "not found" if median is None else f"{median:g}"])
        rows.append(["text → region", *(f"hit@{k}" for k in REGION_CUTOFFS)])
        of_regions = (self.fused.regions, *self.fused.regions.halves)
        for name, found in zip(searches, of_regions, strict=False):
            rows.append([f"  {name}", *(str(found.recall(k)) for k in REGION_CUTOFFS)])
        return "\n".join(
            [
                f"{self.image_count} images, {self.caption_count} captions, "
                f"{self.object_count} objects with {self.text_count} texts",
                *as_table(rows),
                "in parentheses: 95 % interval (Wilson)",
            ]
        )


def evaluate_retrieval(
    labels: LabelledSet, fused: Searcher, ablations: Mapping[str, Searcher] | None = None
) -> RetrievalReport:
    """Measure how well texts find their images and their regions.

    Text → image counts captions: each caption of each image is a query, and any image with the
    same caption is right. Text → region counts distinct object texts: a region is right when its
    box has IoU ≥ 0.5 with an object of this text in the same image. `ablations` are further
    searchers by name ("without …"), for text → image alone.

    Raises CannotWork when a searcher answers with an image outside the labelled set.
    """
    counted = [image.captions for image in labels.images]
    objects = [thing for image in labels.images for thing in image.objects]
    return RetrievalReport(
        image_count=len(labels.images),
        caption_count=sum(map(len, counted)),
        object_count=len(objects),
        text_count=len({thing.text for thing in objects}),
        fused=Retrieval(_rank_images(labels, fused), _rank_regions(labels, fused)),
        ablations={name: _rank_images(labels, one) for name, one in (ablations or {}).items()},
    )


def images_by_caption(labels: LabelledSet) -> dict[str, set[str]]:
    """Caption → file names of the images that bear it."""
    bearers: dict[str, set[str]] = defaultdict(set)
    for image in labels.images:
        for caption in image.captions:
            bearers[caption].add(image.file_name)
    return bearers


def boxes_by_text(labels: LabelledSet) -> dict[str, dict[str, list[Box]]]:
    """Object text → file name → boxes of the objects that the text describes."""
    boxes: dict[str, dict[str, list[Box]]] = defaultdict(lambda: defaultdict(list))
    for image in labels.images:
        for thing in image.objects:
            boxes[thing.text][image.file_name].append(thing.box)
    return boxes


def is_right_region(answer: Answer, boxes: Mapping[str, Sequence[Box]]) -> bool:
    """Whether the answer's box meets one of its image's `boxes` at IoU ≥ 0.5."""
    box = answer.box
    return box is not None and any(
        box.iou(labelled) >= IOU_THRESHOLD for labelled in boxes.get(answer.file_name, ())
    )


def _image_measures(ranking: Ranking) -> dict[str, Any]:
    recalls = {f"recall_at_{k}": ranking.recall(k).to_json() for k in ranking.cutoffs}
    return {**recalls, "median_rank": ranking.median_rank}


def _region_measures(ranking: Ranking) -> dict[str, Any]:
    return {f"hit_at_{k}": ranking.recall(k).to_json() for k in ranking.cutoffs}


def _rank_images(labels: LabelledSet, searcher: Searcher) -> Ranking:
    bearers = images_by_caption(labels)
    weights: dict[str, int] = defaultdict(int)
    for image in labels.images:
        for caption in image.captions:
            weights[caption] += 1
    # The median needs every rank, hence the whole ranking.
    limit = max(len(labels.images), *IMAGE_CUTOFFS)
    queries = []
    for text, answers in _answers(searcher, sorted(bearers), Target.IMAGE, limit, _names(labels)):
        right = [answer.file_name in bearers[text] for answer in answers]
        queries.append(_ranked(text, right, weights[text], answers))
    return Ranking(IMAGE_CUTOFFS, tuple(queries))


def _rank_regions(labels: LabelledSet, searcher: Searcher) -> Ranking:
    boxes, limit = boxes_by_text(labels), max(REGION_CUTOFFS)
    queries = []
    for text, answers in _answers(searcher, sorted(boxes), Target.REGION, limit, _names(labels)):
        right = [is_right_region(answer, boxes[text]) for answer in answers]
        queries.append(_ranked(text, right, 1, answers))
    return Ranking(REGION_CUTOFFS, tuple(queries))


def _names(labels: LabelledSet) -> set[str]:
    return {image.file_name for image in labels.images}


def _ranked(
    text: str, right: Sequence[bool], weight: int, answers: Sequence[Answer]
) -> RankedQuery:
    rank = right.index(True) + 1 if True in right else None
    return RankedQuery(text, rank, weight, tuple(answers[: max(IMAGE_CUTOFFS)]))


def _answers(
    searcher: Searcher, texts: Sequence[str], target: Target, limit: int, known: set[str]
) -> Iterator[tuple[str, Sequence[Answer]]]:
    """Each text with its first `limit` answers, searched in batches."""
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        for text, answers in zip(batch, searcher(batch, target, limit), strict=True):
            for answer in answers:
                if answer.file_name not in known:
                    raise CannotWork(
                        f"the search answered with {answer.file_name}, "
                        "which is not among the labelled photographs",
                        remedy="search a collection that holds exactly those",
                    )
            yield text, answers[:limit]
