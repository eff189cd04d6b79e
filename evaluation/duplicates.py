"""How well edited copies of photographs are found; the copies are made here.

Each photograph is re-encoded, resized, cropped and brightened; every other photograph is a
negative, a hard one when the background is the same. Pairs are judged: two files are a true pair
when both come from one photograph.
"""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from PIL import ImageEnhance

from regard.core.records import Image

ORIGINAL = "original"
_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class Edit:
    """A way to make a copy; `suffix` names its format."""

    name: str
    suffix: str
    make: Callable[[Pillow.Image], bytes]


def _encoded(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _jpeg(picture: Pillow.Image, quality: int = 85) -> bytes:
    return _encoded(picture, "JPEG", quality=quality)


def _half(picture: Pillow.Image) -> bytes:
    size = max(1, picture.width // 2), max(1, picture.height // 2)
    return _jpeg(picture.resize(size, Pillow.Resampling.LANCZOS))


def _cropped(picture: Pillow.Image, left: float, top: float, right: float, bottom: float) -> bytes:
    """Shares of the sides cut off."""
    width, height = picture.size
    box = (
        round(left * width),
        round(top * height),
        round((1 - right) * width),
        round((1 - bottom) * height),
    )
    return _jpeg(picture.crop(box))


def _brightened(picture: Pillow.Image, factor: float) -> bytes:
    return _jpeg(ImageEnhance.Brightness(picture).enhance(factor))


EDITS: tuple[Edit, ...] = (
    Edit("JPEG quality 90", "jpg", lambda picture: _jpeg(picture, 90)),
    Edit("JPEG quality 60", "jpg", lambda picture: _jpeg(picture, 60)),
    Edit("JPEG quality 30", "jpg", lambda picture: _jpeg(picture, 30)),
    Edit("WebP quality 75", "webp", lambda picture: _encoded(picture, "WEBP", quality=75)),
    Edit("PNG", "png", lambda picture: _encoded(picture, "PNG", compress_level=1)),
    Edit("resized to 50 %", "jpg", _half),
    Edit(
        "10 % cut off, around",
        "jpg",
        lambda picture: _cropped(picture, *(_FRACTION / 2 for _ in range(4))),
    ),
    Edit(
        "10 % cut off, top and left",
        "jpg",
        lambda picture: _cropped(picture, _FRACTION, _FRACTION, 0, 0),
    ),
    Edit("brightness + 20 %", "jpg", lambda picture: _brightened(picture, 1.2)),
    Edit("brightness - 20 %", "jpg", lambda picture: _brightened(picture, 0.8)),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A file: the photograph it comes from, and the edit that made it."""

    original: str
    edit: str


def write_copies(
    photographs: Iterable[Path],
    decode: Callable[[Path], Image],
    folder: Path,
    edits: Sequence[Edit] = EDITS,
) -> dict[Path, Sample]:
    """Copy each photograph as it is, and write its edited copies beside it; what each file is."""
    written: dict[Path, Sample] = {}
    for number, photograph in enumerate(photographs):
        picture = Pillow.fromarray(decode(photograph).pixels)
        place = folder / f"{number:06}-original{photograph.suffix}"
        shutil.copyfile(photograph, place)
        written[place] = Sample(str(photograph), ORIGINAL)
        for index, edit in enumerate(edits):
            place = folder / f"{number:06}-{index}.{edit.suffix}"
            place.write_bytes(edit.make(picture))
            written[place] = Sample(str(photograph), edit.name)
    return written


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Over pairs of files; `by_edit` is the share of copies found with their original.

    `wrong` are pairs of different photographs that were grouped.
    """

    photographs: int
    files: int
    found: int
    right: int
    expected: int
    by_edit: Mapping[str, float]
    wrong: Sequence[tuple[Sample, Sample]]
    seconds: float

    @property
    def precision(self) -> float:
        """The share of the found pairs that are right; 1 where none is found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """The share of all true pairs that is found; 1 where there is none."""
        return self.right / self.expected if self.expected else 1.0

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "photographs": self.photographs,
            "files": self.files,
            "pairs": {"expected": self.expected, "found": self.found, "right": self.right},
            "precision": self.precision,
            "recall": self.recall,
            "recall_by_edit": dict(self.by_edit),
            "wrong": [[[sample.original, sample.edit] for sample in pair] for pair in self.wrong],
            "comparing_seconds": round(self.seconds, 1),
        }

    def to_text(self) -> str:
        """The same for people."""
        lines = [
            f"{self.photographs} photographs, {self.files} files, {self.expected} pairs of copies",
            f"precision {self.precision:.4f}  ({self.right} of {self.found} pairs that were found)",
            f"recall    {self.recall:.4f}  ({self.right} of {self.expected} pairs there are)",
            f"comparing took {self.seconds:.1f} s, "
            f"{1000 * self.seconds / max(self.files, 1):.1f} s for 1,000 files",
            "found with their original:",
            *(f"  {share:.4f}  {name}" for name, share in self.by_edit.items()),
        ]
        lines += [
            f"wrong: {first.original} ({first.edit}) and {second.original} ({second.edit})"
            for first, second in self.wrong[:20]
        ]
        return "\n".join(lines)


def judge_groups(
    samples: Mapping[Path, Sample], groups: Iterable[Sequence[Path]], seconds: float = 0.0
) -> DuplicateReport:
    """Compare groups of files with what the files are; files that are not samples are left out."""
    found = {
        tuple(sorted(pair))
        for group in groups
        for pair in itertools.combinations([path for path in group if path in samples], 2)
    }
    of: dict[str, list[Path]] = {}
    for path, sample in samples.items():
        of.setdefault(sample.original, []).append(path)
    expected = sum(len(paths) * (len(paths) - 1) // 2 for paths in of.values())
    wrong = sorted(pair for pair in found if len({samples[path].original for path in pair}) > 1)
    originals = {
        sample.original: path for path, sample in samples.items() if sample.edit == ORIGINAL
    }
    counts: dict[str, list[bool]] = {}
    for path, sample in samples.items():
        if sample.edit != ORIGINAL:
            pair = tuple(sorted((path, originals[sample.original])))
            counts.setdefault(sample.edit, []).append(pair in found)
    return DuplicateReport(
        photographs=len(of),
        files=len(samples),
        found=len(found),
        right=len(found) - len(wrong),
        expected=expected,
        by_edit={name: sum(hits) / len(hits) for name, hits in counts.items()},
        wrong=[(samples[first], samples[second]) for first, second in wrong],
        seconds=seconds,
    )
