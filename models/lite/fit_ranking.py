"""Fit the objectness of `ranking` to labelled photographs and print it.

    python -m regard.models.lite.fit_ranking FOLDER

FOLDER holds `instances.json` in COCO format with uncompressed RLE masks, and the images it names.
The fit is a closed-form ridge regression of each proposed region's best mask IoU with a labelled
thing on the cues of `ranking`. All images have equal weight, whatever their number of proposals;
good regions weigh more than the many bad ones, because only the best are returned.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from regard.core.geometry import Mask
from regard.core.records import Float64Array, Image
from regard.models.lite.parameters import Objectness, SegmenterParameters, Term, standardised
from regard.models.lite.proposals import propose
from regard.models.lite.ranking import CUES, cues, overlaps
from regard.models.lite.segmenter import reduced
from regard.models.lite.superpixels import Partition, partition
from regard.photos.masks import decode_mask, mask_from_runs

_GOOD_WEIGHT = 20.0
"""Extra weight of a perfect region relative to one that overlaps nothing."""

_RIDGE = 0.01
"""Penalty on coefficients per unit of total weight."""


def labelled(folder: Path) -> Iterator[tuple[Image, list[Mask]]]:
    """Yield each image of `folder/instances.json` with the masks of its things."""
    instances = json.loads((folder / "instances.json").read_text())
    masks = defaultdict(list)
    for thing in instances["annotations"]:
        height, width = thing["segmentation"]["size"]
        runs = thing["segmentation"]["counts"]
        masks[thing["image_id"]].append(mask_from_runs(height, width, runs))
    for entry in instances["images"]:
        with PIL.Image.open(folder / entry["file_name"]) as opened:
            yield Image(np.asarray(opened.convert("RGB"))), masks[entry["id"]]


def best_overlap(pieces: Partition, members: Float64Array, things: Sequence[Mask]) -> Float64Array:
    """Best mask IoU of each region (c, n) with any thing, at the reduced size: (c,)."""
    height, width = pieces.labels.shape
    best = np.zeros(len(members))
    area = members @ pieces.area
    for thing in things:
        whole = PIL.Image.fromarray(decode_mask(thing))
        small = np.asarray(whole.resize((width, height), PIL.Image.Resampling.NEAREST))
        inside = np.bincount(pieces.labels.ravel(), small.ravel(), pieces.count)
        intersection = members @ inside
        best = np.maximum(best, intersection / (area + inside.sum() - intersection))
    return best


def fit(values: Float64Array, target: Float64Array, weight: Float64Array) -> Objectness:
    """Fit `target` (c,) by standardised `values` (c, k) and their squares, weighted by (c,)."""
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    z = standardised(values, mean, deviation)
    terms = np.concatenate([z, z**2, np.ones((len(z), 1))], axis=1)
    penalty = np.full(terms.shape[1], _RIDGE * weight.sum())
    penalty[-1] = 0
    weighted = terms * (weight * (1 + _GOOD_WEIGHT * target))[:, None]
    solution = np.linalg.solve(weighted.T @ terms + np.diag(penalty), weighted.T @ target)
    count = values.shape[1]
    columns = np.stack([mean, deviation, solution[:count], solution[count:-1]], axis=1).round(4)
    return Objectness(
        terms=tuple(
            Term(cue, *numbers) for cue, numbers in zip(CUES, columns.tolist(), strict=True)
        ),
        constant=round(float(solution[-1]), 4),
    )


def main(folder: Path) -> None:
    """Fit and print the objectness for the photographs of `folder`."""
    known = SegmenterParameters()
    values, targets, weights = [], [], []
    for image, things in labelled(folder):
        pieces = partition(reduced(image, known.side), known.superpixels, known.sigma)
        members = propose(pieces, known.cuts, known.smallest, known.largest)
        if not len(members):
            continue
        values.append(cues(pieces, members, overlaps(pieces, members)))
        targets.append(best_overlap(pieces, members.astype(np.float64), things))
        weights.append(np.full(len(members), 1 / len(members)))
    print(fit(np.concatenate(values), np.concatenate(targets), np.concatenate(weights)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
