"""How well groups of regions tell the same object in different photographs.

The measure. Two labelled objects are one *identity* when their text is the same; a *labelled pair* is two
of one identity in different photographs. A stored region stands for the labelled object with which its
mask has the best IoU, if that is at least 0.5, and for nothing otherwise. A *found pair* is two
members of one group in different photographs.

- Precision: of the found pairs the share whose regions stand for objects of one identity. Wrong is all
  else: other identities; an object grouped with background; background with background, however alike;
  parts of objects, even of the same one. `on_object` is the same share where a region with 0.8 of its
  pixels on one object counts as it, so that parts are forgiven and nothing else.
- Recall: of all labelled pairs the share that is found. An object that no region covers is missed, and
  so are all its pairs; `recall_covered` leaves those pairs out, to tell segmentation from grouping.
- Pure groups: the share of groups whose members all stand for objects of one identity. Unlike pairs it
  weighs a group of two as much as one of seven.

Cross-validation is by identity: whatever is fitted is fitted on pairs of which both ends are of one half,
and measured on the other. An identity falls wholly into one half; a region that stands for nothing goes
with its photograph. Pairs of the same identity all fall into a half, of the others only one in two; so
these count double when a half is fitted on (`OTHERS_IN_A_HALF`), or every probability would be too
high. A found pair counts in the half of its first member, so that it counts once in all.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.errors import CannotWork
from regard.core.geometry import Mask
from regard.core.records import Float32Array
from regard.evaluation.labels import LabelledSet
from regard.evaluation.statistics import Share, as_table
from regard.photos.masks import mask_area, mask_iou

_COVERED = 0.5
_ON_OBJECT = 0.8
_RIDGE = 1.0
_ROUNDS = 50
OTHERS_IN_A_HALF = 2.0

# A labelled object: its photograph and its place among that photograph's objects.
_Object = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """What a stored region shows: `object` is what it stands for, `on` the identity that it lies on."""

    file_name: str
    object: _Object | None
    on: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Identities:
    """Identities of labelled objects, and what each stored region, by id, shows of them."""

    texts: Mapping[_Object, str]
    regions: Mapping[int, LabelledRegion]

    def text(self, region: int) -> str | None:
        """The identity that a region stands for."""
        standing = self.regions[region].object
        return None if standing is None else self.texts[standing]


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """Counts of one or several measurements; see the module's head for what they mean."""

    found: int = 0
    right: int = 0
    on_object: int = 0
    labelled: int = 0
    covered: int = 0
    recalled: int = 0
    groups: int = 0
    pure: int = 0

    @classmethod
    def mean(cls, reports: Sequence[ObjectReport], runs: int) -> ObjectReport:
        """The sums of reports' counts, divided by the number of runs that they make together.

        The same pairs count in every run, so their sum would make intervals look narrower than they are.
        """
        names = [field.name for field in fields(cls)]
        return cls(*(round(sum(getattr(one, name) for one in reports) / runs) for name in names))

    @property
    def shares(self) -> Mapping[str, Share]:
        """Each measure by its name in JSON."""
        return {
            "precision": Share(self.right, self.found),
            "precision_on_object": Share(self.on_object, self.found),
            "recall": Share(self.recalled, self.labelled),
            "recall_covered": Share(self.recalled, self.covered),
            "pure_groups": Share(self.pure, self.groups),
        }

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values."""
        return {name: share.to_json() for name, share in self.shares.items()}

    def to_text(self) -> str:
        """A table for people."""
        words = {
            "precision": "found pairs that are one object (precision)",
            "precision_on_object": "the same, parts of the object forgiven",
            "recall": "labelled pairs that are found (recall)",
            "recall_covered": "the same, of pairs that regions cover",
            "pure_groups": "groups of one object only",
        }
        rows = [
            [words[name], str(share), f"{share.hits} of {share.total}"]
            for name, share in self.shares.items()
        ]
        lines = as_table(rows)
        return "\n".join([*lines, "in parentheses: 95 % interval (Wilson), pairs as independent"])


def identify(labels: LabelledSet, regions: Mapping[str, Mapping[int, Mask]]) -> Identities:
    """Say what each stored region shows; `regions` are masks by id, by the photograph's file name.

    Raises CannotWork when an object has no mask, or masks are of other sizes than the photographs.
    """
    texts: dict[_Object, str] = {}
    shown: dict[int, LabelledRegion] = {}
    for image in labels.images:
        masks = [thing.mask for thing in image.objects]
        outlined = [mask for mask in masks if mask is not None]
        if len(outlined) < len(masks):
            raise CannotWork(
                f"an object in {image.file_name} has no mask", remedy="label objects with masks"
            )
        for place, thing in enumerate(image.objects):
            texts[image.file_name, place] = thing.text
        stored = regions.get(image.file_name, {})
        if any(
            (mask.width, mask.height) != (image.width, image.height) for mask in stored.values()
        ):
            raise CannotWork(
                f"regions of {image.file_name} are of another size than its labels",
                remedy="index the photographs that were labelled",
            )
        ious = mask_iou(list(stored.values()), outlined)
        shares = _shares(ious, list(stored.values()), outlined)
        for row, on_it, region in zip(ious, shares, stored, strict=True):
            best = int(row.argmax()) if len(row) else -1
            standing = best >= 0 and row[best] >= _COVERED
            on = image.objects[best].text if standing else None
            if not standing and len(on_it) and on_it.max() >= _ON_OBJECT:
                on = image.objects[int(on_it.argmax())].text
            shown[region] = LabelledRegion(
                image.file_name, (image.file_name, best) if standing else None, on
            )
    return Identities(texts, shown)


def measure_groups(
    identities: Identities, groups: Iterable[Sequence[int]], half: Half | None = None
) -> ObjectReport:
    """Measure groups of region ids, all of them or what falls into one half."""
    covered_objects = {shown.object for shown in identities.regions.values()}
    found = right = on_object = count = pure = 0
    recalled: set[tuple[_Object, _Object]] = set()
    for group in groups:
        members = sorted(group)
        if half is None or half.holds(members[0]):
            count += 1
            texts = {identities.text(region) for region in members}
            pure += len(texts) == 1 and None not in texts
        for one, other in itertools.combinations(members, 2):
            first, second = identities.regions[one], identities.regions[other]
            if first.file_name == second.file_name or not (half is None or half.holds(one)):
                continue
            found += 1
            on_object += first.on is not None and first.on == second.on
            if first.object is None or second.object is None:
                continue
            if identities.texts[first.object] == identities.texts[second.object]:
                right += 1
                ends = sorted((first.object, second.object))
                recalled.add((ends[0], ends[1]))
    labelled = [
        (one, other)
        for one, other in _labelled_pairs(identities.texts)
        if half is None or half.holds_text(identities.texts[one])
    ]
    return ObjectReport(
        found=found,
        right=right,
        on_object=on_object,
        labelled=len(labelled),
        covered=sum(one in covered_objects and other in covered_objects for one, other in labelled),
        recalled=len(recalled),
        groups=count,
        pure=pure,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """One half of the identities, and of the photographs for what has none."""

    identities: Identities
    texts: frozenset[str]
    photographs: frozenset[str]

    def holds(self, region: int) -> bool:
        """Whether a region is of this half."""
        shown = self.identities.regions[region]
        return shown.file_name in self.photographs if shown.on is None else shown.on in self.texts

    def holds_text(self, text: str) -> bool:
        """Whether an identity is of this half."""
        return text in self.texts


def split(identities: Identities, seed: int) -> tuple[Half, Half]:
    """Two halves, drawn at random; the same seed draws the same."""
    generator = np.random.default_rng(seed)
    texts = sorted(set(identities.texts.values()))
    names = sorted({shown.file_name for shown in identities.regions.values()})
    drawn = [set(generator.permutation(len(of))[: len(of) // 2].tolist()) for of in (texts, names)]
    ones = [
        frozenset(item for place, item in enumerate(of) if place in chosen)
        for of, chosen in zip((texts, names), drawn, strict=True)
    ]
    others = [frozenset(of) - chosen for of, chosen in zip((texts, names), ones, strict=True)]
    return Half(identities, *ones), Half(identities, *others)


def training_pairs(
    identities: Identities, pairs: Sequence[tuple[int, int]], half: Half | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pairs of region ids to fit on, and which are one object; two (m,).

    Left out are pairs that are parts of one object: neither right nor an example of what is wrong.
    """
    used = np.zeros(len(pairs), dtype=np.bool_)
    same = np.zeros(len(pairs), dtype=np.bool_)
    for place, (one, other) in enumerate(pairs):
        text = identities.text(one)
        same[place] = text is not None and text == identities.text(other)
        on = identities.regions[one].on
        is_part = not same[place] and on is not None and on == identities.regions[other].on
        within = half is None or (half.holds(one) and half.holds(other))
        used[place] = within and not is_part
    return used, same


def fit_logistic(
    signs: Float32Array, same: npt.NDArray[np.bool_], weight_of_others: float = 1.0
) -> tuple[float, tuple[float, ...]]:
    """Intercept and weights of a logistic regression of `same` (m,) on `signs` (m, k).

    Pairs that are not the same count `weight_of_others` times. By Newton's method on standardised signs
    with a ridge of 1 on the weights (Hastie, Tibshirani and Friedman 2009, section 4.4). Raises CannotWork
    when all pairs are alike, or there are none.
    """
    if not same.any() or same.all():
        raise CannotWork(
            "there are no pairs to fit on, of the same object and of others",
            remedy="label photographs in which objects recur",
        )
    values = signs.astype(np.float64)
    mean, spread = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    design = np.column_stack([np.ones(len(values)), (values - mean) / spread])
    counts = np.where(same, 1.0, weight_of_others)
    ridge = np.diag([0.0, *([_RIDGE] * values.shape[1])])
    solution = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(-(design @ solution).clip(-30, 30)))
        slope = design.T @ (counts * (same - chance)) - ridge @ solution
        curvature = (design * (counts * chance * (1 - chance))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(solution)), slope)
        solution += step
        if np.abs(step).max() < 1e-8:
            break
    weights = solution[1:] / spread
    return float(solution[0] - weights @ mean), tuple(float(weight) for weight in weights)


def _labelled_pairs(texts: Mapping[_Object, str]) -> list[tuple[_Object, _Object]]:
    alike: dict[str, list[_Object]] = defaultdict(list)
    for thing, text in texts.items():
        alike[text].append(thing)
    return [
        (one, other)
        for things in alike.values()
        for one, other in itertools.combinations(sorted(things), 2)
        if one[0] != other[0]
    ]


def _shares(
    ious: npt.NDArray[np.float64], regions: Sequence[Mask], objects: Sequence[Mask]
) -> npt.NDArray[np.float64]:
    """Share of each region's pixels on each object, (regions, objects), out of their IoU."""
    own = np.asarray([max(mask_area(mask), 1) for mask in regions], dtype=np.float64)[:, None]
    other = np.asarray([mask_area(mask) for mask in objects], dtype=np.float64)[None, :]
    shares: npt.NDArray[np.float64] = ious * (own + other) / (1 + ious) / own
    return shares
