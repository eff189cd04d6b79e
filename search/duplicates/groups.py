"""Groups of duplicates: copies, bursts, and the photograph of a group to keep.

If b is a copy of a and c of b, c need not be a copy of a: two crops may hardly overlap. So a group
of copies forms around one photograph, the one to keep, and holds what was verified against it; the
rest forms further groups in the same way.

A burst is what one camera took within seconds and that looks alike. Exposures come from the
catalog in order of time, so that only neighbours in time are compared. A run is cut where the
picture changes.

The photograph to keep is chosen by rules, in the order of what cannot be recovered: pixels, the
camera's data, a lossless coding, what people wrote. Names, sizes and dates decide between equals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from regard.core.assets import Asset
from regard.core.duplicates import CopyPair, Exposure
from regard.photos.formats import PhotoFormat


def components(pairs: Iterable[CopyPair]) -> list[list[int]]:
    """Lists of contents connected by pairs, each ascending, ordered by their first content."""
    parent: dict[int, int] = {}

    def root(content: int) -> int:
        parent.setdefault(content, content)
        while parent[content] != content:
            parent[content] = parent[parent[content]]
            content = parent[content]
        return content

    for pair in pairs:
        first, second = sorted((root(pair.first), root(pair.second)))
        parent[second] = first
    members: dict[int, list[int]] = {}
    for content in sorted(parent):
        members.setdefault(root(content), []).append(content)
    return [found for _, found in sorted(members.items())]


def never(_first: int, _second: int) -> bool:
    """That no two contents are known to be distinct."""
    return False


def stars(
    contents: Sequence[int],
    similarity: Callable[[int, int], float | None],
    are_distinct: Callable[[int, int], bool] = never,
) -> list[dict[int, float]]:
    """Group contents, given in order of preference; a group maps members to their similarity.

    All members were verified against the first, whose similarity is 1, and no two of them are
    known to be distinct. Contents without copies are in no group.
    """
    left = list(contents)
    groups = []
    while len(left) > 1:
        centre, *others = left
        group = {centre: 1.0}
        rest = []
        for other in others:
            apart = any(are_distinct(member, other) for member in group)
            found = None if apart else similarity(centre, other)
            if found is None:
                rest.append(other)
            else:
                group[other] = found
        if len(group) > 1:
            groups.append(group)
        left = rest
    return groups


# The longest time between two consecutive exposures, and between the first and the last.
_GAP = timedelta(seconds=2)
_SPAN = timedelta(seconds=30)


def runs(exposures: Iterable[Exposure]) -> Iterator[list[Exposure]]:
    """Runs of exposures of one camera, each within seconds of the previous one; most have one.

    `exposures` are ordered by camera and time. Only the first exposure of a content counts.
    """
    run: list[Exposure] = []
    for exposure in exposures:
        follows = (
            bool(run)
            and run[-1].camera == exposure.camera
            and exposure.taken_at - run[-1].taken_at <= _GAP
            and exposure.taken_at - run[0].taken_at <= _SPAN
        )
        if run and not follows:
            yield run
            run = []
        if all(known.content != exposure.content for known in run):
            run.append(exposure)
    if run:
        yield run


def cut(
    run: list[Exposure],
    likeness: Callable[[int, int], float | None],
    is_copy: Callable[[Exposure, Exposure], bool],
    are_distinct: Callable[[int, int], bool] = never,
) -> Iterator[dict[int, float]]:
    """Cut a run into bursts, which map contents to their likeness to the first, 1 for the first.

    Copies of exposures already in the burst are left out. No two of a burst are known to be
    distinct.
    """
    burst: list[Exposure] = []
    found: dict[int, float] = {}
    for exposure in run:
        if any(is_copy(known, exposure) for known in burst):
            continue
        apart = any(are_distinct(content, exposure.content) for content in found)
        alike = likeness(burst[0].content, exposure.content) if burst and not apart else None
        if alike is None:
            if len(found) > 1:
                yield found
            burst, found = [], {}
        burst.append(exposure)
        found[exposure.content] = 1.0 if alike is None else alike
    if len(found) > 1:
        yield found


def are_separate_exposures(first: Exposure, second: Exposure) -> bool:
    """Whether one camera took two photographs at different times.

    Differences in whole quarters of an hour do not count: they come from corrected time zones.
    """
    apart = abs(first.taken_at - second.taken_at)
    return first.camera == second.camera and bool(apart % timedelta(minutes=15))


_LOSSLESS = frozenset({PhotoFormat.PNG, PhotoFormat.TIFF, PhotoFormat.BMP})
# Names that file managers, messengers, editors and thumbnailers give to copies; underscores count
# as spaces.
_NAME_OF_A_COPY = re.compile(
    r"\(\d+\)|\bcopy\b|\bkopie\b|\bcopie\b|\bcopia\b|\bedit(ed)?\b|\bsmall\b|\bthumb(nail)?\b"
    r"|\bresized?\b|\bcrop(ped)?\b|\bpreview\b|\bscaled\b|\bexport(ed)?\b|whatsapp|\b-wa\d{4}\b"
    r"|^fb img\b|^received \d+$|\w~\d+$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A property whose largest value is best, and the reason to show for it."""

    value: Callable[[Asset], Any]
    says: Callable[[Asset], str]


def _pixels(asset: Asset) -> int:
    return (asset.width or 0) * (asset.height or 0)


def _has_camera_data(asset: Asset) -> int:
    return int(asset.camera is not None) + int(asset.taken_at is not None)


def _coding(asset: Asset) -> int:
    if asset.format == PhotoFormat.RAW:
        return 2
    return int(asset.format in _LOSSLESS)


def _care(asset: Asset) -> int:
    return 2 * int(bool(asset.title)) + len(asset.custom)


def _is_plainly_named(asset: Asset) -> int:
    stem = asset.file_name.rpartition(".")[0] or asset.file_name
    return int(_NAME_OF_A_COPY.search(stem.replace("_", " ")) is None)


_RULES: tuple[_Rule, ...] = (
    _Rule(_pixels, lambda asset: f"most pixels: {asset.width} × {asset.height}"),
    _Rule(_has_camera_data, lambda _: "has what the camera wrote"),
    _Rule(_coding, lambda asset: f"coded without loss: {asset.format}"),
    _Rule(_care, lambda _: "has a title or other fields"),
    _Rule(_is_plainly_named, lambda _: "its name is not that of a copy"),
    _Rule(lambda asset: asset.size, lambda asset: f"largest file: {_in_words(asset.size)}"),
    _Rule(lambda asset: -asset.mtime_ns, lambda _: "the oldest file, by when it was last changed"),
    # Merging gives them to the one that is kept.
    _Rule(lambda asset: len(asset.tags), lambda _: "has tags"),
    _Rule(lambda asset: -asset.id, lambda _: "the first that was indexed"),
)


def choose_keeper(assets: Sequence[Asset]) -> tuple[int, tuple[str, ...]]:
    """The position of the one to keep, and why: where it is better than another; at least one
    reason.

    Raises ValueError for none at all.
    """
    if not assets:
        raise ValueError("there is nothing to choose from")
    best = by_preference(assets)[0]
    equal = list(assets)
    reasons = []
    for rule in _RULES:
        value = rule.value(assets[best])
        remaining = [asset for asset in equal if rule.value(asset) == value]
        if len(remaining) < len(equal):
            reasons.append(rule.says(assets[best]))
        equal = remaining
    return best, tuple(reasons)


def by_preference(assets: Sequence[Asset]) -> list[int]:
    """Positions, the one to keep first, then the one to keep of the rest, and so on."""
    return sorted(
        range(len(assets)),
        key=lambda place: tuple(rule.value(assets[place]) for rule in _RULES),
        reverse=True,
    )


def _in_words(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} MB"
