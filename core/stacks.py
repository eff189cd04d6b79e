"""Which files of a folder belong together as a stack: RAW and JPEG, Live Photos, bursts and edits.

Names link two files, unless their metadata says otherwise, and so does metadata that names another
file; files that are linked, also over others, are a stack. What people chose overrides that for the
files that they chose. So the order of files never matters, and a file changes only the stacks that
it is linked to.

Conventions of names, all in any case:
- iOS: `IMG_E1234` is the edited `IMG_1234`; a Live Photo is two files of one stem;
- Google Photos and Takeout: `~2`, `-edited`; Lightroom Classic: `-Edit`, `-Edit-2`, `-Enhanced-NR`;
- Pixel: `PXL_20231220_170358366` and anything behind a dot, such as `.RAW-01.COVER`;
- Google Camera and Sony: `…_BURST20190101120000000_COVER`; Huawei, ChromeOS: `…_BURST001_COVER`;
- Samsung: `20231207_101605_001`.
Metadata that names other files: Apple's content identifier in a Live Photo, `xmpMM:DerivedFrom` and
`crs:RawFileName`, as Adobe's programs write them into what they export.
immich-go's `internal/cameras/names` and PhotoPrism's page on stacks list most of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from itertools import combinations, pairwise, product

_VIDEO_SECONDS = 5.0
# Clocks of videos are often in UTC; time zones differ by quarters of an hour, at most by this many.
_ZONE, _MOST_ZONES = 900.0, 4 * 26
_BURST_SECONDS = 1.0
_BURST_FRAMES = 3
# A longer run of frames is a burst only at this pace; else it is a time-lapse, or a walk.
_LONG_SECONDS = 10.0
_FRAMES_A_SECOND = 2.0
# A program that gives more files one id does not tell them apart.
_MOST_OF_A_DOCUMENT = 50

_EDITED = re.compile(r"(.+?)(?:[-_ ]edit(?:ed)?|-enhanced-[a-z-]+|~[0-9]{1,2})")
_EDITED_BY_IOS = re.compile(r"(img_)e([0-9]{4,})")
_COPY = re.compile(r"(.+?)(?:[-_ ](?:[0-9]{1,2}|copy)| ?\([0-9]{1,2}\))")
_SHOTS = (
    re.compile(r"(pxl_[0-9]{8}_[0-9]{9})(?:[.~].*)?"),
    re.compile(r".+(_burst[0-9]{10,})(?:_cover)?"),
    re.compile(r"(.+_burst)[0-9]{1,4}(?:_cover)?"),
    re.compile(r"([0-9]{8}_[0-9]{6}_)[0-9]{3}"),
)
_COVERS = ("_cover", ".cover")
_NUMBER = re.compile(r"(|.*[^0-9])([0-9]+)", re.DOTALL)


class FileKind(IntEnum):
    """What a file is; the lower one stands for a stack."""

    PICTURE = 0
    RAW = 1
    VIDEO = 2


@dataclass(frozen=True, slots=True)
class StackFile:
    """A file of a folder.

    `camera` and `taken_at`, a local time known to the second, are None where unknown. `chosen` is
    None where people said nothing; else the file is in the stack of all with the same number, and
    in none with the number 0. The others are those of `Capture`.
    """

    id: int
    name: str
    kind: FileKind
    camera: str | None = None
    taken_at: datetime | None = None
    chosen: int | None = None
    live_photo_id: str | None = None
    document_id: str | None = None
    derived_from_id: str | None = None
    raw_name: str | None = None

    @property
    def stem(self) -> str:
        """The name without its suffix, in lower case."""
        return self.name.rpartition(".")[0].casefold()


@dataclass(frozen=True, slots=True)
class Stack:
    """Two or more files that belong together, by id, and the one that stands for them."""

    cover: int
    members: frozenset[int]


def find_stacks(files: Iterable[StackFile]) -> list[Stack]:
    """The stacks among the files of one folder, in no particular order."""
    by_stem: dict[str, list[StackFile]] = defaultdict(list)
    chosen: dict[int, list[StackFile]] = defaultdict(list)
    for file in files:
        by_stem[file.stem].append(file)
        if file.chosen:
            chosen[file.chosen].append(file)
    links = _Links()
    shots: dict[str, list[StackFile]] = defaultdict(list)
    for stem, same in by_stem.items():
        if shot := _shot_of(stem):
            shots[shot] += same
        for one, other in combinations(same, 2):
            if _is_one_capture(one, other):
                links.join(one, other)
    for same in shots.values():
        for one, other in pairwise(same):
            links.join(one, other)
    for one, other in _bursts(by_stem):
        links.join(one, other)
    everything = [file for same in by_stem.values() for file in same]
    _link_live_photos(everything, links)
    edited = {file.id for file in _link_edited(by_stem, links)}
    edited.update(file.id for file in _link_derived(everything, links))
    # What people put elsewhere leaves its group.
    left = [[file for file in group if file.chosen is None] for group in links.groups()]
    return [
        Stack(_cover_of(group, edited).id, frozenset(file.id for file in group))
        for group in (*left, *chosen.values())
        if len(group) > 1
    ]


@dataclass(slots=True)
class _Links:
    """The files that were joined, by id, and their groups (union-find)."""

    files: dict[int, StackFile] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)

    def root(self, number: int) -> int:
        while (parent := self.parents[number]) != number:
            self.parents[number] = number = self.parents[parent]
        return number

    def join(self, one: StackFile, other: StackFile) -> None:
        for file in (one, other):
            self.files[file.id] = file
            self.parents.setdefault(file.id, file.id)
        self.parents[self.root(one.id)] = self.root(other.id)

    def groups(self) -> list[list[StackFile]]:
        groups: dict[int, list[StackFile]] = defaultdict(list)
        for number, file in self.files.items():
            groups[self.root(number)].append(file)
        return list(groups.values())


def _seconds_between(one: StackFile, other: StackFile) -> float | None:
    if one.taken_at is None or other.taken_at is None:
        return None
    return abs((one.taken_at - other.taken_at).total_seconds())


def _is_one_capture(one: StackFile, other: StackFile) -> bool:
    """Whether two files of one stem are of one press of the shutter."""
    if one.kind is other.kind:
        return _is_same_exposure(one, other)
    apart = _seconds_between(one, other)
    if FileKind.VIDEO in {one.kind, other.kind}:
        if apart is not None and apart <= _ZONE * _MOST_ZONES:
            apart = min(apart % _ZONE, _ZONE - apart % _ZONE)
        return apart is None or apart <= _VIDEO_SECONDS
    return not _contradict(one, other)


def _is_same_exposure(one: StackFile, other: StackFile) -> bool:
    """Whether one camera took both in the same second; both times must be known."""
    apart = _seconds_between(one, other)
    return apart is not None and apart < 1 and one.camera == other.camera


def _shot_of(stem: str) -> str | None:
    """What the names of one burst, or of the files of one press of the shutter, have in common."""
    found = (pattern.fullmatch(stem) for pattern in _SHOTS)
    return next((match[1] for match in found if match), None)


def _link_edited(by_stem: Mapping[str, Sequence[StackFile]], links: _Links) -> Iterator[StackFile]:
    """Join edited and other copies with their originals; yields the edited ones."""
    for stem, copies in by_stem.items():
        for original, is_edited in _originals(stem):
            for copy, file in product(copies, by_stem.get(original, ())):
                if _is_same_exposure(copy, file):
                    links.join(copy, file)
                    if is_edited:
                        yield copy


def _link_live_photos(files: Iterable[StackFile], links: _Links) -> None:
    """Join what has one content identifier."""
    first: dict[str, StackFile] = {}
    for file in files:
        if file.live_photo_id is not None:
            links.join(first.setdefault(file.live_photo_id, file), file)


def _link_derived(files: Sequence[StackFile], links: _Links) -> Iterator[StackFile]:
    """Join files with those that their metadata says they were made from; yields the former."""
    by_document, by_name = defaultdict(list), defaultdict(list)
    for file in files:
        by_name[file.name.casefold()].append(file)
        if file.document_id is not None:
            by_document[file.document_id].append(file)
    for file in files:
        same_document = by_document.get(file.derived_from_id or "", [])
        if len(same_document) > _MOST_OF_A_DOCUMENT:
            same_document = []
        for original in (*same_document, *by_name.get((file.raw_name or "").casefold(), ())):
            if original.id != file.id and not _contradict(file, original):
                links.join(file, original)
                yield file


def _contradict(one: StackFile, other: StackFile) -> bool:
    """Whether two cameras took these, or one in different seconds, as far as that is known."""
    apart = _seconds_between(one, other)
    is_other_camera = None not in {one.camera, other.camera} and one.camera != other.camera
    return is_other_camera or (apart is not None and apart >= 1)


def _originals(stem: str) -> Iterator[tuple[str, bool]]:
    """The stems that a copy may come from, and whether the copy would be an edited one."""
    is_edited = False
    while True:
        if match := _EDITED.fullmatch(stem):
            stem, is_edited = match[1], True
        elif match := _EDITED_BY_IOS.fullmatch(stem):
            stem, is_edited = match[1] + match[2], True
        elif match := _COPY.fullmatch(stem):
            stem = match[1]
        else:
            return
        yield stem, is_edited


def _bursts(
    by_stem: Mapping[str, Sequence[StackFile]],
) -> Iterator[tuple[StackFile, StackFile]]:
    """Neighbours in bursts that only numbers and times tell."""
    runs: dict[object, dict[int, list[StackFile]]] = defaultdict(lambda: defaultdict(list))
    for stem, files in by_stem.items():
        match = _NUMBER.fullmatch(stem)
        if match is None:
            continue
        for file in files:
            if file.camera is not None and file.kind is not FileKind.VIDEO:
                series = match[1], len(match[2]), file.camera
                runs[series][int(match[2])].append(file)
    for by_number in runs.values():
        links = _Links()
        pairs = [
            (one, other)
            for number in by_number
            for one, other in product(by_number[number], by_number.get(number + 1, ()))
            if (apart := _seconds_between(one, other)) is not None and apart <= _BURST_SECONDS
        ]
        for one, other in pairs:
            links.join(one, other)
        bursts = {links.root(run[0].id) for run in links.groups() if _is_burst(run)}
        for one, other in pairs:
            if links.root(one.id) in bursts:
                yield one, other


def _is_burst(run: Sequence[StackFile]) -> bool:
    """Whether frames whose numbers and times follow one another were taken in one go."""
    times = [file.taken_at for file in run if file.taken_at is not None]
    seconds = (max(times) - min(times)).total_seconds()
    frames = len({file.stem for file in run})
    is_quick = frames - 1 >= _FRAMES_A_SECOND * seconds
    return frames >= _BURST_FRAMES and (seconds <= _LONG_SECONDS or is_quick)


def _cover_of(group: Sequence[StackFile], edited: set[int]) -> StackFile:
    """The last edited picture, else the cover by name, a picture, a RAW, a video; the first."""
    pictures = [file for file in group if file.id in edited and file.kind is FileKind.PICTURE]
    if pictures:
        return max(pictures, key=lambda file: (len(file.stem), file.stem, file.name, file.id))
    stems = {file.stem for file in group}

    def place(file: StackFile) -> tuple[object, ...]:
        is_copy = any(original in stems for original, _ in _originals(file.stem))
        moment = file.taken_at or datetime.max
        return (
            *(not file.stem.endswith(_COVERS), file.kind, is_copy),
            *(moment, len(file.stem), file.stem, file.name, file.id),
        )

    return min(group, key=place)
