"""What a walk over a root yields, whether its photographs are files or objects.

`regard.indexer.discover` chooses the walk of a root and compares it with the catalog.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Self

from regard.core.catalog import FileStamp, KnownAsset
from regard.core.errors import OutsideRoots
from regard.indexer.exclusions import Exclusions
from regard.photos.buckets import ObjectStatus
from regard.photos.files import Confinement
from regard.photos.formats import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from regard.photos.video import has_decoder


class Status(Enum):
    """How a file compares with the catalog."""

    NEW = auto()
    CHANGED = auto()
    RETRY = auto()
    UNCHANGED = auto()
    STILL_FAILED = auto()
    UNREACHABLE = auto()
    MISSING = auto()
    LEFT_OUT = auto()
    UNSETTLED = auto()


class Likeness(Enum):
    """Whether a file is meant to be a photograph, as far as the walk knows."""

    PHOTO = auto()  # by its name or its first bytes, or because a person named it
    UNKNOWN = auto()  # its name does not say
    OTHER = auto()  # by its name, unless the catalog has it
    LEFT_OUT = auto()


@dataclass(frozen=True, slots=True)
class WalkEntry:
    """A file, or the `failure_reason` why it can't be examined.

    `is_unreachable` if the cause may be its disk or folder instead of the file. `is_unsettled` if
    it, or its sidecar, may still be written. `upload_name` is the name that an upload was sent with.
    """

    stamp: FileStamp
    sidecar: bytes | None = None
    failure_reason: str | None = None
    is_unreachable: bool = False
    likeness: Likeness = Likeness.PHOTO
    is_unsettled: bool = False
    upload_name: str | None = None

    @property
    def file_name(self) -> str:
        """The name that a camera or a person gave."""
        return self.upload_name or os.fsdecode(os.path.basename(self.stamp.path))

    def named(self, known: KnownAsset | None) -> WalkEntry:
        """The entry with the name of the upload that it is, if it is one."""
        if known is None or known.upload_name is None:
            return self
        return replace(self, upload_name=known.upload_name)

    def as_read(self, status: ObjectStatus | None) -> WalkEntry:
        """The entry of the object that was read, which may have changed since it was listed."""
        if status is None or self.stamp.etag in {None, status.etag}:
            return self
        path, sidecar = self.stamp.path, self.stamp.sidecar
        stamp = FileStamp(path, status.size, status.mtime_ns, sidecar, status.etag)
        return replace(self, stamp=stamp)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, a known asset, or both, and how they compare."""

    status: Status
    entry: WalkEntry | None
    known: KnownAsset | None


@dataclass(slots=True)
class Walk(ABC):
    """One pass over a root; ends early, with `is_stopped` set, once `stopped` returns true.

    Iterating yields the files in byte order of paths. It raises RootUnavailable, OutsideRoots, and
    StoreUnavailable for a bucket.

    `unreadable` lists folders that could not be read, with the reason. `outside` lists links that
    lead out of the confinement, except those with a photograph's suffix, which become entries.
    `left_out` counts photographs and folders that `exclusions` leave out; the root is never left
    out. `skipped_videos` counts videos that can't be decoded for want of the package.

    Given `parts`, paths below the root, none of them below another, only what lies at or below
    them is walked; they need not exist. Files that changed in the last `quiet_seconds` are
    unsettled. A bucket has neither: it is walked whole, and its objects are always whole.
    """

    root: bytes
    stopped: Callable[[], bool] = lambda: False
    confinement: Confinement | None = None
    exclusions: Exclusions = field(default_factory=Exclusions)
    parts: Sequence[bytes] = ()
    quiet_seconds: float = 0.0
    left_out: int = 0
    skipped_videos: int = 0
    outside: list[bytes] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    is_stopped: bool = False

    @abstractmethod
    def __iter__(self) -> Iterator[WalkEntry]: ...

    @abstractmethod
    def require_root(self) -> None:
        """Raise RootUnavailable if the root is missing, unreadable, or another one than before.

        Raises OutsideRoots if it leads out of the confinement, StoreUnavailable if its bucket does
        not answer.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether the root holds nothing, such as a mount point without its disk."""

    @abstractmethod
    def again(self) -> Self:
        """Another pass, which requires the same root."""

    @abstractmethod
    def without_entry(self, asset: KnownAsset) -> Candidate | None:
        """What became of a known asset that the walk has passed without an entry for it.

        None if it is not known. Raises DecodeError.
        """

    def require_confined(self) -> None:
        """Raise OutsideRoots if the root leads out of the confinement."""
        if self.confinement is not None and not self.confinement.holds(self.root):
            raise OutsideRoots(
                "the folder leads out of the configured root",
                remedy="choose a folder inside it, or configure a root where it leads to",
            )

    @staticmethod
    @abstractmethod
    def is_gone(path: bytes) -> bool:
        """Whether the file is known not to exist; raises StoreUnavailable."""


def is_photo_name(name: bytes) -> bool:
    """Whether a file's name ends as those of photographs do, or of videos that can be decoded."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in PHOTO_SUFFIXES or (suffix in VIDEO_SUFFIXES and has_decoder())


def is_skipped_video(name: bytes) -> bool:
    """Whether a file's name ends as those of videos, which can't be decoded."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not has_decoder()
