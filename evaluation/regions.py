"""How well the stored regions cover the objects that people outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regard.core.errors import CannotWork
from regard.core.records import Region
from regard.evaluation.labels import LabelledImage, LabelledObject, LabelledSet
from regard.evaluation.retrieval import IOU_THRESHOLD
from regard.evaluation.statistics import Mean, Share, as_table
from regard.photos.masks import mask_iou

# How many of the first regions of an image count; None: all of them.
COVERAGE_DEPTHS = (5, 12, None)
MASK_DEPTHS = (12, None)


@dataclass(frozen=True, slots=True)
class ObjectCoverage:
    """How well the regions of its image cover one object.

    `box_ious` and `mask_ious` have one entry per stored region, best region first; `mask_ious` is
    None when the object has no mask.
    """

    file_name: str
    object: LabelledObject
    regions: tuple[Region, ...]
    box_ious: tuple[float, ...]
    mask_ious: tuple[float, ...] | None

    def covered(self, depth: int | None) -> bool:
        """Whether one of the first `depth` regions has box IoU ≥ 0.5; None: one of all."""
        return max(self.box_ious[:depth], default=0.0) >= IOU_THRESHOLD

    def best_mask_iou(self, depth: int | None) -> float:
        """The best mask IoU of the first `depth` regions; None: of all."""
        return max((self.mask_ious or ())[:depth], default=0.0)

    @property
    def best_region(self) -> Region | None:
        """The region whose box meets the object's best, or None when none touches it."""
        best = max(self.box_ious, default=0.0)
        return self.regions[self.box_ious.index(best)] if best > 0 else None


@dataclass(frozen=True, slots=True)
class RegionReport:
    """Coverage of the objects of one labelled set."""

    image_count: int
    unanalyzed: tuple[str, ...]
    region_count: int
    objects: tuple[ObjectCoverage, ...]

    def coverage(self, depth: int | None) -> Share:
        """Share of objects that the first `depth` regions of their image cover; None: all."""
        return Share.of(thing.covered(depth) for thing in self.objects)

    def mask_iou(self, depth: int | None) -> Mean:
        """Mean, over objects with a mask, of the best mask IoU by the first `depth` regions."""
        return Mean.of(
            thing.best_mask_iou(depth) for thing in self.objects if thing.mask_ious is not None
        )

    def failures(self) -> list[ObjectCoverage]:
        """Objects that no stored region covers, by their best IoU, then by file name."""
        missed = [thing for thing in self.objects if not thing.covered(None)]
        return sorted(missed, key=lambda thing: (max(thing.box_ious, default=0.0), thing.file_name))

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values.

        `images`, `images_not_indexed`, `objects`, `regions` are counts; `coverage_at_5`,
        `coverage_at_12`, `coverage_all` are shares, `mask_iou_at_12`, `mask_iou_all` means.
        """
        return {
            "images": self.image_count,
            "images_not_indexed": len(self.unanalyzed),
            "objects": len(self.objects),
            "regions": self.region_count,
            **{f"coverage_{_name(d)}": self.coverage(d).to_json() for d in COVERAGE_DEPTHS},
            **{f"mask_iou_{_name(d)}": self.mask_iou(d).to_json() for d in MASK_DEPTHS},
        }

    def to_text(self) -> str:
        """A table for people."""
        rows = [
            ["regions looked at", *("all" if d is None else f"first {d}" for d in COVERAGE_DEPTHS)]
        ]
        rows.append(
            ["objects covered (box IoU ≥ 0.5)", *(str(self.coverage(d)) for d in COVERAGE_DEPTHS)]
        )
        rows.append(
            [
                "mean best mask IoU",
                *(str(self.mask_iou(d)) if d in MASK_DEPTHS else "" for d in COVERAGE_DEPTHS),
            ]
        )
        lines = [
            f"{self.image_count} images, {len(self.objects)} objects, {self.region_count} regions",
            *as_table(rows),
            "in parentheses: 95 % interval (Wilson, bootstrap)",
        ]
        if self.unanalyzed:
            lines.append(
                f"not indexed: {len(self.unanalyzed)} of the images; their objects count as missed"
            )
        return "\n".join(lines)


def evaluate_regions(labels: LabelledSet, regions: Mapping[str, Sequence[Region]]) -> RegionReport:
    """Measure how well stored regions cover the labelled objects.

    `regions` maps file names to the stored regions, best first; an image that it lacks counts as
    not indexed and its objects as missed.

    Raises CannotWork when regions and labels differ in image size.
    """
    covered: list[ObjectCoverage] = []
    for image in labels.images:
        covered.extend(_cover(image, tuple(regions.get(image.file_name, ()))))
    names = [image.file_name for image in labels.images]
    return RegionReport(
        image_count=len(names),
        unanalyzed=tuple(name for name in names if name not in regions),
        region_count=sum(len(regions.get(name, ())) for name in names),
        objects=tuple(covered),
    )


def _cover(image: LabelledImage, regions: tuple[Region, ...]) -> list[ObjectCoverage]:
    for region in regions:
        if (region.mask.width, region.mask.height) != (image.width, image.height):
            raise CannotWork(
                f"the regions of {image.file_name} have {region.mask.width}×{region.mask.height} "
                f"pixels, its labels {image.width}×{image.height}",
                remedy="index the photographs that were labelled",
            )
    masked = [thing.mask for thing in image.objects if thing.mask is not None]
    rows = iter(mask_iou(masked, [region.mask for region in regions]))  # (masked, regions)
    return [
        ObjectCoverage(
            file_name=image.file_name,
            object=thing,
            regions=regions,
            box_ious=tuple(region.box.iou(thing.box) for region in regions),
            mask_ious=None if thing.mask is None else tuple(float(v) for v in next(rows)),
        )
        for thing in image.objects
    ]


def _name(depth: int | None) -> str:
    return "all" if depth is None else f"at_{depth}"
