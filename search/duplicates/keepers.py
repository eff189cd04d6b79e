"""Which of several photographs of one picture to keep, and why, in words.

The order of the rules is the order of what can't be had again: pixels, what the camera wrote, a coding
without loss, what a person wrote. Names, sizes and dates decide between equals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from regard.core.assets import Asset
from regard.photos.formats import PhotoFormat

_LOSSLESS = frozenset({PhotoFormat.PNG, PhotoFormat.TIFF, PhotoFormat.BMP})
# Names that copies get: by file managers, by messengers, by editors and by whoever makes thumbnails;
# with spaces for underscores.
_NAME_OF_A_COPY = re.compile(
    r"\(\d+\)|\bcopy\b|\bkopie\b|\bcopie\b|\bcopia\b|\bedit(ed)?\b|\bsmall\b|\bthumb(nail)?\b"
    r"|\bresized?\b|\bcrop(ped)?\b|\bpreview\b|\bscaled\b|\bexport(ed)?\b|whatsapp|\b-wa\d{4}\b"
    r"|^fb img\b|^received \d+$|\w~\d+$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """The more, the better; `says` tells of the best why."""

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
    return len(asset.tags) + 2 * int(bool(asset.title)) + len(asset.custom)


def _is_plainly_named(asset: Asset) -> int:
    stem = asset.file_name.rpartition(".")[0] or asset.file_name
    return int(_NAME_OF_A_COPY.search(stem.replace("_", " ")) is None)


_RULES: tuple[_Rule, ...] = (
    _Rule(_pixels, lambda asset: f"most pixels: {asset.width} × {asset.height}"),
    _Rule(_has_camera_data, lambda _: "has what the camera wrote"),
    _Rule(_coding, lambda asset: f"coded without loss: {asset.format}"),
    _Rule(_care, lambda _: "has tags, a title or other fields"),
    _Rule(_is_plainly_named, lambda _: "its name is not that of a copy"),
    _Rule(lambda asset: asset.size, lambda asset: f"largest file: {_in_words(asset.size)}"),
    _Rule(lambda asset: -asset.mtime_ns, lambda _: "the oldest file, by when it was last changed"),
    _Rule(lambda asset: -asset.id, lambda _: "the first that was indexed"),
)


def choose_keeper(assets: Sequence[Asset]) -> tuple[int, tuple[str, ...]]:
    """The position of the one to keep, and why: where it is better than another; at least one reason.

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
