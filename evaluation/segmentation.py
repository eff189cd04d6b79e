"""Zero-shot semantic segmentation: regions labelled by text, measured pixel by pixel.

Each region gets the class whose name is nearest to the region's vector. Each pixel belongs to one
region: where several cover it, to the one that the segmenter ranks first. A pixel that no region
covers has no label and counts as wrong. Two further labellings put that into proportion: one gives
such pixels the label of the whole photograph, the other is the ceiling that these regions allow.
Pixels of value 0 are not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.core.errors import CannotWork
from regard.core.geometry import Mask
from regard.core.records import Float32Array, Int64Array
from regard.evaluation.semantic_labels import Int32Array, SemanticClass
from regard.evaluation.statistics import Float64Array, Mean, as_table, bootstrap_interval
from regard.photos.masks import decode_mask

_SHOWN_CLASSES = 10

# Sentences → rows (n, d) in one space.
EncodeTexts = Callable[[Sequence[str]], Float32Array]

PLAIN = "{}"
"""The prompt that consists of the class's name."""


class ClassTexts:
    """Classes as texts, in each space in which regions are compared."""

    def __init__(
        self,
        classes: Sequence[SemanticClass],
        spaces: Mapping[str, tuple[EncodeTexts, float]],
        prompt: str = PLAIN,
    ) -> None:
        """Encode every name of every class once.

        `spaces` has the encoder and the weight of each space; `{}` in `prompt` stands for the
        name.
        """
        texts = [prompt.replace(PLAIN, name) for labelled in classes for name in labelled.names]
        self._starts = np.cumsum([0, *(len(labelled.names) for labelled in classes)])[:-1]
        self._texts = {name: weight * encode(texts) for name, (encode, weight) in spaces.items()}

    def nearest(self, vectors: Mapping[str, Float32Array]) -> Int64Array:
        """The class, from 1, whose name is nearest to each row of `vectors`, (n, d) by space.

        The scores of several spaces add up; of equally near classes the first one wins.
        """
        # (n, names): inner products, summed over spaces.
        scores = np.sum([rows @ self._texts[space].T for space, rows in vectors.items()], axis=0)
        best = np.maximum.reduceat(scores, self._starts, axis=1)  # (n, classes)
        nearest: Int64Array = best.argmax(axis=1).astype(np.int64) + 1
        return nearest


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedPhotograph:
    """The true class of every pixel, and the regions, best first, with the classes given to them.

    `truth` is int32 (height, width), 0 where nothing is measured; `labels` (regions,) and
    `image_label` are classes from 1.
    """

    file_name: str
    truth: Int32Array
    masks: tuple[Mask, ...]
    labels: Int64Array
    image_label: int


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Measured pixels of each photograph by class, each int64 (photographs, classes).

    `shown` counts pixels that show a class, `given` pixels labelled as it, `right` those that are
    both.
    """

    right: Int64Array
    shown: Int64Array
    given: Int64Array

    def ious(self) -> Float64Array:
        """IoU of each class over all photographs; NaN for a class that never occurs."""
        return _ious(self.right.sum(0), self.shown.sum(0), self.given.sum(0))

    def class_accuracies(self) -> Float64Array:
        """Share of each class's pixels that are right; NaN for a class that is not shown."""
        return _shares(self.right.sum(0), self.shown.sum(0))

    @property
    def miou(self) -> Mean:
        """Mean IoU over the classes that are shown or given anywhere."""
        return self._mean(lambda right, shown, given: _mean_over(_ious(right, shown, given)))

    @property
    def pixel_accuracy(self) -> Mean:
        """Share of all measured pixels that are right."""
        return self._mean(lambda right, shown, _: _shares(right.sum(-1), shown.sum(-1)))

    @property
    def mean_class_accuracy(self) -> Mean:
        """Mean over the classes that are shown of the share of their pixels that are right."""
        return self._mean(lambda right, shown, _: _mean_over(_shares(right, shown)))

    def _mean(self, measure: Any) -> Mean:
        """A measure with its bootstrap interval over photographs."""
        counts = np.stack([self.right, self.shown, self.given], axis=1).astype(np.float64)
        value = float(measure(*counts.sum(0)))
        # A resample of photographs without measured pixels would have no value.
        measured = counts[counts[:, 1].any(axis=1)]
        photographs, _, classes = measured.shape

        def measure_drawn(times: Int64Array) -> Float64Array:
            sums = (times @ measured.reshape(photographs, -1)).reshape(-1, 3, classes)
            drawn: Float64Array = measure(sums[:, 0], sums[:, 1], sums[:, 2])
            return drawn

        return Mean(value, *bootstrap_interval(measure_drawn, photographs), len(counts))

    def to_json(self) -> dict[str, Any]:
        """`miou`, `pixel_accuracy` and `mean_class_accuracy`."""
        return {
            "miou": self.miou.to_json(),
            "pixel_accuracy": self.pixel_accuracy.to_json(),
            "mean_class_accuracy": self.mean_class_accuracy.to_json(),
        }

    def to_row(self) -> list[str]:
        """The same for a table."""
        return [str(self.miou), str(self.pixel_accuracy), str(self.mean_class_accuracy)]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationReport:
    """One labelled set under three labellings of the same pixels.

    `labelled`: regions by text, uncovered pixels wrong; `filled`: uncovered pixels take the label
    of the whole photograph; `ceiling`: each region takes the class that most of its pixels show.
    """

    classes: tuple[SemanticClass, ...]
    file_names: tuple[str, ...]
    region_count: int
    labelled: Tally
    filled: Tally
    ceiling: Tally

    @property
    def coverage(self) -> float:
        """Share of the measured pixels that a region covers."""
        return float(self.labelled.given.sum() / self.labelled.shown.sum())

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values.

        The measures of `labelled` are at the top level, beside counts, `coverage`, `filled` and
        `ceiling`. `per_class` has one entry per class: `iou` (null where it is neither shown nor
        given), `accuracy` (null where it is not shown), and the `pixels` that show it.
        """
        shown = self.labelled.shown.sum(0)
        return {
            "images": len(self.file_names),
            "regions": self.region_count,
            "classes": len(self.classes),
            "classes_shown": int((shown > 0).sum()),
            "pixels": int(shown.sum()),
            "coverage": self.coverage,
            **self.labelled.to_json(),
            "filled": self.filled.to_json(),
            "ceiling": self.ceiling.to_json(),
            "per_class": [
                {"class": labelled.name, "iou": iou, "accuracy": accuracy, "pixels": int(pixels)}
                for labelled, iou, accuracy, pixels in zip(
                    self.classes,
                    _or_null(self.labelled.ious()),
                    _or_null(self.labelled.class_accuracies()),
                    shown,
                    strict=True,
                )
            ],
        }

    def to_text(self) -> str:
        """Tables for people: the three labellings, and the classes with most pixels."""
        rows = [
            ["", "mIoU", "pixel accuracy", "mean class accuracy"],
            ["regions labelled by text", *self.labelled.to_row()],
            ["uncovered pixels by the whole photograph", *self.filled.to_row()],
            ["ceiling: each region's best label", *self.ceiling.to_row()],
        ]
        shown, ious = self.labelled.shown.sum(0), self.labelled.ious()
        largest = [i for i in np.argsort(-shown, kind="stable")[:_SHOWN_CLASSES] if shown[i]]
        return "\n".join(
            [
                f"{len(self.file_names)} images, {self.region_count} regions, "
                f"{int((shown > 0).sum())} of {len(self.classes)} classes shown",
                *as_table(rows),
                f"measured pixels covered by a region: {100 * self.coverage:.1f} %",
                "in parentheses: 95 % interval (bootstrap over images)",
                "",
                *as_table(
                    [
                        ["largest classes", "share of pixels", "IoU"],
                        *(
                            [
                                self.classes[i].name,
                                f"{100 * shown[i] / shown.sum():.1f} %",
                                f"{ious[i]:.3f}",
                            ]
                            for i in largest
                        ),
                    ]
                ),
            ]
        )


def evaluate_segmentation(
    classes: Sequence[SemanticClass], photographs: Iterable[SegmentedPhotograph]
) -> SegmentationReport:
    """Measure labelled regions against the class of every pixel, one photograph at a time.

    Raises CannotWork when masks differ in size from the truth, or when nothing is measured at all.
    """
    names: list[str] = []
    regions = 0
    tallied: list[tuple[Int64Array, Int64Array, Int64Array]] = []
    for photograph in photographs:
        names.append(photograph.file_name)
        regions += len(photograph.masks)
        shown = shown_by_region(photograph, len(classes))
        tallied.append(
            (
                _tally(shown, np.append(photograph.labels, 0)),
                _tally(shown, np.append(photograph.labels, photograph.image_label)),
                _tally(shown, np.append(1 + shown[:-1].argmax(1), 0)),
            )
        )
    if not any(labelled[1].any() for labelled, _, _ in tallied):
        raise CannotWork(
            "no pixel of the selected masks has a class", remedy="select other masks with --only"
        )
    labelled, filled, ceiling = (
        Tally(*np.stack(of_all).transpose(1, 0, 2)) for of_all in zip(*tallied, strict=True)
    )
    return SegmentationReport(tuple(classes), tuple(names), regions, labelled, filled, ceiling)


def shown_by_region(photograph: SegmentedPhotograph, classes: int) -> Int64Array:
    """Measured pixels by region and class, (regions + 1, classes).

    A pixel counts for the first region that covers it, and in the last row when none does.
    """
    truth = photograph.truth
    count = len(photograph.masks)
    owner = np.full(truth.shape, count, np.int64)
    for index, mask in reversed(list(enumerate(photograph.masks))):
        if (mask.height, mask.width) != truth.shape:
            raise CannotWork(
                f"the regions of {photograph.file_name} have {mask.width}×{mask.height} pixels, "
                f"its mask {truth.shape[1]}×{truth.shape[0]}",
                remedy="index the photographs that the masks were made for",
            )
        owner[decode_mask(mask)] = index
    measured = truth > 0
    cells = owner[measured] * classes + truth[measured] - 1
    table = np.bincount(cells, minlength=(count + 1) * classes)
    return table.reshape(count + 1, classes).astype(np.int64)


def _tally(shown: Int64Array, labels: Int64Array) -> Int64Array:
    """`right`, `shown` and `given` (3, classes), with one label for each row of (rows, classes).

    A label of 0 means none.
    """
    rows, classes = shown.shape
    right, given = np.zeros((2, classes + 1), np.int64)
    own = np.hstack([np.zeros((rows, 1), np.int64), shown])[np.arange(rows), labels]
    np.add.at(right, labels, own)
    np.add.at(given, labels, shown.sum(1))
    return np.stack([right[1:], shown.sum(0), given[1:]])


def _ious(right: Any, shown: Any, given: Any) -> Float64Array:
    return _shares(right, shown + given - right)


def _shares(parts: Any, wholes: Any) -> Float64Array:
    parts, wholes = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    shares: Float64Array = np.full(wholes.shape, np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _mean_over(values: Float64Array) -> Float64Array:
    """Means over the last axis that ignore NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    return _shares(np.where(known, values, 0).sum(-1), known.sum(-1))


def _or_null(values: Float64Array) -> Iterator[float | None]:
    return (None if np.isnan(value) else float(value) for value in values)
