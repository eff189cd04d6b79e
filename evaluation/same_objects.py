"""How well groups of regions tell the same object in different photographs.

Two labelled objects are one *identity* when their text is the same; a *labelled pair* is two
objects of one identity in different photographs. A stored region stands for the labelled object
with which its mask has the best IoU, if that is at least 0.5, and otherwise for nothing. A *found
pair* is two members of one group in different photographs.

- Precision: the share of found pairs whose regions stand for objects of one identity. Everything else is
  wrong: different identities; an object and background; two alike backgrounds; parts of objects, even of
  the same one. `on_object` is the same share when a region with 0.8 of its pixels on one object counts as
  that object, so that parts are forgiven.
- Recall: the share of all labelled pairs that is found. All pairs of an object that no region covers are
  missed; `recall_covered` leaves those pairs out, to tell segmentation from grouping.
- Pure groups: the share of groups whose members all stand for objects of one identity. Unlike pairs, this
  gives a group of two the same weight as a group of seven.

Cross-validation is by identity: weights are fitted to pairs whose ends are both in one half, and
measured on the other. An identity is wholly in one half; a region that stands for nothing goes
with its photograph. A half holds all of its pairs of one identity, but only every other pair of
different identities; these therefore count double when fitting to a half
(`NEGATIVES_WEIGHT_IN_HALF`), or every probability would be too high. A found pair counts in the
half of its first member, so that it counts once.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.errors import CannotWork, MissingDependency
from regard.core.geometry import Mask
from regard.core.records import Float32Array
from regard.evaluation.labels import LabelledSet
from regard.evaluation.statistics import Share, as_table
from regard.photos.masks import mask_area, mask_iou

_COVERED = 0.5
_ON_OBJECT = 0.8
NEGATIVES_WEIGHT_IN_HALF = 2.0

# A labelled object: its photograph and its position among the objects of that photograph.
_Object = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """What a stored region shows: the `object` it stands for, and the identity it lies `on`."""

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
    """Counts of one or several measurements, as defined at the top of this module."""

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
        """The sums of the reports' counts, divided by the number of runs.

        The same pairs count in every run, so plain sums would make intervals look too narrow.
        """
        sums = np.sum([astuple(one) for one in reports], axis=0)
        return cls(*(round(count / runs) for count in sums.tolist()))

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
            "precision_on_object": "the same, forgiving parts of the object",
            "recall": "labelled pairs that are found (recall)",
            "recall_covered": "the same, of pairs that regions cover",
            "pure_groups": "groups of one object only",
        }
        rows = [
            [words[name], str(share), f"{share.hits} of {share.total}"]
            for name, share in self.shares.items()
        ]
        lines = as_table(rows)
        return "\n".join(
            [*lines, "in parentheses: 95 % interval (Wilson), as if pairs were independent"]
        )


def identify(labels: LabelledSet, regions: Mapping[str, Mapping[int, Mask]]) -> Identities:
    """Determine what each stored region shows.

    `regions` has the masks by region id, by the photograph's file name. Raises CannotWork when an
    object has no mask, or when masks differ in size from the photographs.
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
                f"the regions of {image.file_name} differ in size from its labels",
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
    """Measure groups of region ids, all of them or those of one half."""
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
    """One half of the identities, and of the photographs for regions without one."""

    identities: Identities
    texts: frozenset[str]
    photographs: frozenset[str]

    def holds(self, region: int) -> bool:
        """Whether a region is in this half."""
        shown = self.identities.regions[region]
        return shown.file_name in self.photographs if shown.on is None else shown.on in self.texts

    def holds_text(self, text: str) -> bool:
        """Whether an identity is in this half."""
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
    """Which pairs of region ids to fit to, and which are one object; two arrays (m,).

    Two parts of one object are left out: they are neither right nor an example of a wrong pair.
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
    signs: Float32Array, same: npt.NDArray[np.bool_], negatives_weight: float = 1.0
) -> tuple[float, tuple[float, ...]]:
    """Intercept and weights of a logistic regression of `same` (m,) on `signs` (m, k).

    Pairs that are not the same count `negatives_weight` times; a ridge of 1 applies to
    standardised signs. Raises CannotWork when there are no pairs of either kind, MissingDependency
    when scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingDependency(
            "fitting weights needs scikit-learn, which is not installed",
            remedy="install it with `pip install 'regard[evaluate]'`",
        ) from None
    if not same.any() or same.all():
        raise CannotWork(
            "weights need pairs of the same object and pairs of different ones",
            remedy="label photographs in which objects recur",
        )
    scaler = StandardScaler()
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)
    counts = np.where(same, 1.0, negatives_weight)
    model.fit(scaler.fit_transform(signs.astype(np.float64)), same, sample_weight=counts)
    weights = model.coef_[0] / scaler.scale_
    return float(model.intercept_[0] - weights @ scaler.mean_), tuple(map(float, weights))


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
    """Share of each region's pixels on each object, (regions, objects), from their IoU."""
    own = np.asarray([max(mask_area(mask), 1) for mask in regions], dtype=np.float64)[:, None]
    other = np.asarray([mask_area(mask) for mask in objects], dtype=np.float64)[None, :]
    shares: npt.NDArray[np.float64] = ious * (own + other) / (1 + ious) / own
    return shares
