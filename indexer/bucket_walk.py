"""The walk over the objects below a prefix of a bucket, or over one object, by listing them.

An unchanged object costs no request of its own: a listing names a thousand with size and ETag.
Folders are the parts of keys between slashes. The listing goes through them depth first, in byte
order, and the rules of each must be known as it is entered: whether it has an ignore file, a mark,
sidecars. They are found in the listing read ahead, up to `_AHEAD` keys; a folder that has more
below is listed once more, without what lies deeper. Memory is bounded by these keys and by the
sidecars of the folders that the listing is in.

A listing that was read to its end shows what is missing: no object needs to be asked for.
"""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

from regard.core.catalog import FileStamp, KnownAsset
from regard.core.errors import DecodeError, RootUnavailable
from regard.indexer.exclusions import IGNORE_FILE, NOTED_NAMES, Rules
from regard.indexer.walk import (
    Candidate,
    Likeness,
    Status,
    Walk,
    WalkEntry,
    is_photo_name,
    is_skipped_video,
)
from regard.photos.buckets import (
    AccessDenied,
    ObjectStatus,
    find_object,
    has_objects,
    list_folder,
    list_objects,
    object_status,
    objects_beginning,
)
from regard.photos.files import uri_of_path
from regard.photos.sidecars import SIDECAR_SUFFIX, sidecar_names

_AHEAD = 10_000
_AT_ONCE = 1000

_Sidecars = dict[bytes, tuple[bytes, ObjectStatus]]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that the listing is in; without rules it is left out, with all below it.

    `sidecars` are the names and statuses of those in it by their lower-case names.
    `is_hidden` if its ignore file can't be read.
    """

    path: bytes
    rules: Rules | None
    sidecars: _Sidecars
    is_hidden: bool = False


@dataclass(slots=True)
class BucketWalk(Walk):
    """See `Walk`; objects whose key ends with a slash stand for folders and are passed over."""

    def __iter__(self) -> Iterator[WalkEntry]:
        """As in `Walk`."""
        self.require_confined()
        named = find_object(self.root)
        if named is not None:
            yield self._named_object(named)
            if self.exclusions.is_own(self.root):
                # It is an upload, and nothing lies below it.
                return
        listing = _Listing(list_objects(self.root))
        if listing.first() is not None:
            yield from self._below(listing)
        elif named is None:
            raise self._missing()

    def require_root(self) -> None:
        """As in `Walk`."""
        self.require_confined()
        if find_object(self.root) is None and not has_objects(self.root):
            raise self._missing()

    def is_empty(self) -> bool:
        """As in `Walk`: nothing but objects that stand for folders."""
        if self.exclusions.is_own(self.root):
            return False
        return find_object(self.root) is None and all(
            path.endswith(b"/") for path, _ in list_objects(self.root)
        )

    def again(self) -> BucketWalk:
        """As in `Walk`: a bucket is known by its name."""
        return BucketWalk(self.root, self.stopped, self.confinement, self.exclusions)

    def without_entry(self, asset: KnownAsset) -> Candidate | None:
        """As in `Walk`."""
        path = asset.stamp.path
        if any(path.startswith(folder + b"/") for folder, _ in self.unreadable):
            return None
        return Candidate(Status.MISSING, None, asset)

    @staticmethod
    def is_gone(path: bytes) -> bool:
        """As in `Walk`."""
        try:
            object_status(path)
        except FileNotFoundError:
            return True
        except AccessDenied:
            # A caller that may list only some keys is not told which others are missing.
            return False
        return False

    def _missing(self) -> RootUnavailable:
        uri = uri_of_path(self.root)
        return RootUnavailable(
            f"there is no object at or below {uri}",
            remedy="check the name and the permissions; if they were deleted for good, run: "
            f"regard remove {shlex.quote(uri)}",
        )

    def _named_object(self, status: ObjectStatus) -> WalkEntry:
        if self.exclusions.is_own(self.root):
            # Uploads have no sidecars, and never change.
            return WalkEntry(FileStamp(self.root, status.size, status.mtime_ns))
        folder, _, name = self.root.rpartition(b"/")
        beside = folder + b"/"
        stem = os.path.splitext(name)[0]
        names = (
            (path[len(beside) :], found) for path, found in objects_beginning(beside + stem + b".")
        )
        return self._entry(self.root, status, name, folder, _sidecars(names))

    def _below(self, listing: _Listing) -> Iterator[WalkEntry]:
        folders = [self._open_root(listing)]
        while (found := listing.first()) is not None:
            if self.stopped():
                self.is_stopped = True
                return
            path, status = found
            folder = self._enter(path, folders, listing)
            listing.pass_first()
            name = path[len(folder.path) + 1 :]
            if folder.is_hidden or not name:
                continue
            stamp = _stamp(path, status)
            if folder.rules is None:
                yield WalkEntry(stamp, likeness=Likeness.LEFT_OUT)
            elif self.exclusions.leaves_out(path, folder.rules, is_folder=False):
                self.left_out += is_photo_name(name)
                yield WalkEntry(stamp, likeness=Likeness.LEFT_OUT)
            else:
                likeness = _likeness(name, status)
                self.skipped_videos += is_skipped_video(name)
                yield self._entry(path, status, name, folder.path, folder.sidecars, likeness)

    def _enter(self, path: bytes, folders: list[_Folder], listing: _Listing) -> _Folder:
        """The folder of an object; the last of `folders` are those of the object before it."""
        while not path.startswith(folders[-1].path + b"/"):
            folders.pop()
        while folders[-1].rules is not None:
            end = path.find(b"/", len(folders[-1].path) + 1)
            if end < 0:
                break
            folders.append(self._open(path[:end], folders[-1].rules, listing))
        return folders[-1]

    def _open_root(self, listing: _Listing) -> _Folder:
        try:
            rules = self.exclusions.root_rules(self.root, self.confinement)
        except DecodeError as error:
            return self._hidden(self.root, error)
        return _Folder(self.root, rules, _sidecars(listing.names(self.root)))

    def _open(self, path: bytes, rules: Rules, listing: _Listing) -> _Folder:
        """A folder that is entered, by the rules of the one that it lies in."""
        if path in self.exclusions.own:
            return _Folder(path, None, {})
        if self.exclusions.closes(path, rules):
            self.left_out += 1
            return _Folder(path, None, {})
        names = dict(listing.names(path))
        try:
            inside = self.exclusions.inside(path, rules, self.confinement, names)
        except DecodeError as error:
            return self._hidden(path, error)
        self.left_out += inside is None
        return _Folder(path, inside, _sidecars(names.items()))

    def _hidden(self, path: bytes, error: DecodeError) -> _Folder:
        self.unreadable.append((path, f"its {IGNORE_FILE.decode()}: {error.message}"))
        return _Folder(path, None, {}, is_hidden=True)

    def _entry(
        self,
        path: bytes,
        status: ObjectStatus,
        name: bytes,
        folder: bytes,
        sidecars: _Sidecars,
        likeness: Likeness = Likeness.PHOTO,
    ) -> WalkEntry:
        found = next(filter(None, map(sidecars.get, sidecar_names(name))), None)
        if found is None:
            return WalkEntry(_stamp(path, status), likeness=likeness)
        sidecar, of_sidecar = found
        text = f"{uri_of_path(sidecar)}:{of_sidecar.size}:{of_sidecar.etag}"
        stamp = _stamp(path, status, text)
        return WalkEntry(stamp, folder + b"/" + sidecar, likeness=likeness)


class _Listing:
    """A listing that is read ahead of the walk."""

    def __init__(self, listed: Iterator[tuple[bytes, ObjectStatus]]) -> None:
        self._listed = listed
        self._ahead: deque[tuple[bytes, ObjectStatus]] = deque()

    def first(self) -> tuple[bytes, ObjectStatus] | None:
        """The object that the walk has come to; None at the end."""
        if not self._ahead:
            self._read_on()
        return self._ahead[0] if self._ahead else None

    def pass_first(self) -> None:
        """Go on to the next object."""
        self._ahead.popleft()

    def names(self, folder: bytes) -> Iterator[tuple[bytes, ObjectStatus | None]]:
        """The names in a folder that the walk has come to that matter: noted ones and sidecars."""
        start = folder + b"/"
        is_more = True
        while is_more and self._ahead[-1][0].startswith(start) and len(self._ahead) < _AHEAD:
            is_more = self._read_on()
        if is_more and self._ahead[-1][0].startswith(start):
            names: Iterable[tuple[bytes, ObjectStatus | None]] = list_folder(folder)
        else:
            below = takewhile(lambda found: found[0].startswith(start), self._ahead)
            names = (_name_in(path[len(start) :], status) for path, status in below)
        return (
            (name, status)
            for name, status in names
            if name in NOTED_NAMES or name.lower().endswith(SIDECAR_SUFFIX)
        )

    def _read_on(self) -> bool:
        """Read a page more; whether there was one."""
        before = len(self._ahead)
        self._ahead.extend(islice(self._listed, _AT_ONCE))
        return len(self._ahead) > before


def _name_in(path: bytes, status: ObjectStatus) -> tuple[bytes, ObjectStatus | None]:
    """The name of a file or folder by the relative path of an object at or below it."""
    name, slash, _ = path.partition(b"/")
    return name, None if slash else status


def _sidecars(names: Iterable[tuple[bytes, ObjectStatus | None]]) -> _Sidecars:
    return {
        name.lower(): (name, status)
        for name, status in names
        if status is not None and b"/" not in name and name.lower().endswith(SIDECAR_SUFFIX)
    }


def _stamp(path: bytes, status: ObjectStatus, sidecar: str | None = None) -> FileStamp:
    return FileStamp(path, status.size, status.mtime_ns, sidecar, status.etag)


def _likeness(name: bytes, status: ObjectStatus) -> Likeness:
    """What an object's name says; reading the start of each costs a request."""
    if is_photo_name(name):
        return Likeness.PHOTO
    return Likeness.OTHER if os.path.splitext(name)[1] or not status.size else Likeness.UNKNOWN
