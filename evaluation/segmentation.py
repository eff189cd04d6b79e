"""Zero-shot semantic segmentation: regions labelled by text, measured pixel by pixel.

Each pixel belongs to one region: where several cover it, to the one that the segmenter ranks first. It
gets the class whose name is nearest to the region's vector. A pixel that no region covers has no label
and counts as wrong; beside that stands what the whole photograph's label would make of it, and the ceiling
that these regions allow. Pixels of value 0 are measured nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.errors import CannotWork
from regard.core.geometry import Mask
from regard.core.records import Int64Array
from regard.evaluation.semantic_labels import Int32Array, SemanticClass
from regard.evaluation.statistics import Mean, as_table
from regard.photos.masks import decode_mask

_RESAMPLES = 1000
_AT_ONCE = 100
_SHOWN_CLASSES = 10

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedPhotograph:
    """What is compared: the class of every pixel and the regions, best first, with their classes.

    `truth` is int32 (height, width), 0 for what is not measured; `labels` (regions,) and `image_label`
    are classes from 1.
    """

    file_name: str
    truth: Int32Array
    masks: tuple[Mask, ...]
    labels: Int64Array
    image_label: int


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Measured pixels of each photograph by class, each int64 (photographs, classes).

    `right` are labelled as what they show, `shown` show a class, `given` are labelled as it.
    """

    right: Int64Array
    shown: Int64Array
    given: Int64Array

    def ious(self) -> Float64Array:
        """Intersection over union of each class over all photographs; NaN where it is nowhere."""
        return _ious(self.right.sum(0), self.shown.sum(0), self.given.sum(0))

    def class_accuracies(self) -> Float64Array:
        """Share of each class' pixels that are right; NaN of a class that is not shown."""
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
        """The measure with a 95 % percentile bootstrap interval over photographs, seeded."""
        counts = np.stack([self.right, self.shown, self.given], axis=1).astype(np.float64)
        photographs, _, classes = counts.shape
        flat = counts.reshape(photographs, 3 * classes)
        generator = np.random.default_rng(0)
        drawn = []
        for _ in range(_RESAMPLES // _AT_ONCE):
            times = generator.multinomial(photographs, [1 / photographs] * photographs, _AT_ONCE)
            sums = (times @ flat).reshape(_AT_ONCE, 3, classes)
            drawn.append(measure(sums[:, 0], sums[:, 1], sums[:, 2]))
        value = float(measure(*counts.sum(0)))
        low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975])
        return Mean(value, float(low), float(high), photographs)

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

    `labelled`: regions by their texts, uncovered pixels wrong; `filled`: those take the whole
    photograph's label; `ceiling`: each region takes the class that most of its pixels show.
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

        Those of `labelled` stand at the top, beside counts, `coverage`, `filled` and `ceiling`.
        `per_class` has one entry a class: `iou` (null where it is neither shown nor given),
        `accuracy` (null where it is not shown), `pixels` that show it.
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
                {"class": named.name, "iou": iou, "accuracy": accuracy, "pixels": int(pixels)}
                for named, iou, accuracy, pixels in zip(
                    self.classes,
                    _or_null(self.labelled.ious()),
                    _or_null(self.labelled.class_accuracies()),
                    shown,
                    strict=True,
                )
            ],
        }

    def to_text(self) -> str:
        """Tables for people: the three labellings, and the classes that most pixels show."""
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
                f"measured pixels that a region covers: {100 * self.coverage:.1f} %",
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
    """Measure labelled regions against the class of every pixel; photographs are taken one at a time.

    Raises CannotWork when masks are of another size than the truth, or nothing is measured at all.
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
            "no pixel of the selected masks bears a class", remedy="select other masks with --only"
        )
    labelled, filled, ceiling = (
        Tally(*np.stack(of_all).transpose(1, 0, 2)) for of_all in zip(*tallied, strict=True)
    )
    return SegmentationReport(tuple(classes), tuple(names), regions, labelled, filled, ceiling)


def shown_by_region(photograph: SegmentedPhotograph, classes: int) -> Int64Array:
    """Measured pixels by region and class, (regions + 1, classes); the last row is what none covers.

    A pixel counts for the first region that covers it.
    """
    truth = photograph.truth
    count = len(photograph.masks)
    owner = np.full(truth.shape, count, np.int64)
    for index, mask in reversed(list(enumerate(photograph.masks))):
        if (mask.height, mask.width) != truth.shape:
            raise CannotWork(
                f"regions of {photograph.file_name} are for {mask.width}×{mask.height} pixels, "
                f"its mask for {truth.shape[1]}×{truth.shape[0]}",
                remedy="index the photographs that the masks were made for",
            )
        owner[decode_mask(mask)] = index
    measured = truth > 0
    cells = owner[measured] * classes + truth[measured] - 1
    table = np.bincount(cells, minlength=(count + 1) * classes)
    return table.reshape(count + 1, classes).astype(np.int64)


def _tally(shown: Int64Array, labels: Int64Array) -> Int64Array:
    """`right`, `shown` and `given` (3, classes), when each row of (rows, classes) has one label.

    A label of 0 is none.
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
    """Means of the last axis without NaN; NaN where nothing else is."""
    known = ~np.isnan(values)
    return _shares(np.where(known, values, 0).sum(-1), known.sum(-1))


def _or_null(values: Float64Array) -> Iterator[float | None]:
    return (None if np.isnan(value) else float(value) for value in values)
