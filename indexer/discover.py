"""Finds the photographs below a root and tells new, changed and missing ones from the known.

The walk yields paths in the byte order of whole paths, the order in which the catalog yields what it
knows; both are merged as they stream, so memory grows with the largest folder, not with the library.

What can't be seen is not gone: assets below a folder that can't be read, or behind a link that leads
nowhere, are never MISSING. Nor are those behind a link that leads out of where a walk is confined to,
and of what lies there nothing is looked at.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache

from regard.core.catalog import FileStamp, KnownAsset
from regard.core.errors import OutsideRoots, RootUnavailable
from regard.core.uris import absolute_path, uri_of_path
from regard.photos.confinement import LEADS_OUT, Confinement
from regard.photos.decoding import looks_like_photo
from regard.photos.formats import PHOTO_SUFFIXES

_SIDECAR_SUFFIX = b".xmp"
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Status(Enum):
    """What a candidate is to the catalog."""

    NEW = auto()
    CHANGED = auto()
    RETRY = auto()
    UNCHANGED = auto()
    STILL_FAILED = auto()
    UNREACHABLE = auto()
    MISSING = auto()


@dataclass(frozen=True, slots=True)
class Found:
    """A file that should be a photograph; `trouble` says why it can't even be looked at.

    `is_unreachable` when the trouble may lie with its disk or its folder instead of the file.
    """

    stamp: FileStamp
    sidecar: bytes | None = None
    trouble: str | None = None
    is_unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, or a known asset without one, and what it is to the catalog."""

    status: Status
    found: Found | None
    known: KnownAsset | None


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the way down: the names still to come, the next one last; folders end in `/`."""

    path: bytes
    names: list[bytes]
    sidecars: dict[bytes, bytes]
    identities: frozenset[tuple[int, int]]


@dataclass(slots=True)
class Walk:
    """One pass over a root; ends early once `stopped` is true.

    `unreadable` lists folders that could not be read, with the reason. `identity` is a root folder's
    device and inode; one that is given must hold, so that two passes see the same disk. `outside` lists
    links that lead out of the confinement, but for those with a photograph's suffix, which are Found.
    """

    root: bytes
    stopped: Callable[[], bool] = lambda: False
    identity: tuple[int, int] | None = None
    confinement: Confinement | None = None
    outside: list[bytes] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    files: int = 0
    _dangling: dict[bytes, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Found]:
        """Every photograph below the root, in the byte order of paths; raises RootUnavailable."""
        status = self.require_root()
        found = self._below if stat.S_ISDIR(status.st_mode) else self._named_file
        for photo in found():
            self.files += 1
            yield photo
        # A disk that went away meanwhile has hidden what was still to come.
        self.require_root()

    def require_root(self) -> os.stat_result:
        """The root's status; raises RootUnavailable unless it is there and the one it was.

        Raises OutsideRoots when it leads out of the confinement.
        """
        require_inside(self.root, self.confinement)
        status = require_root(self.root)
        identity = (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
        if self.identity is not None and identity != self.identity:
            raise RootUnavailable(
                f"{uri_of_path(self.root)} became another folder while it was read",
                remedy="mount or restore it, and run the command again",
            )
        self.identity = identity
        return status

    def shelters(self, path: bytes) -> bool:
        """Whether the path lies where nothing could be seen, so that nothing is known of it."""
        for link, reason in self._dangling.items():
            if path.startswith(link + b"/"):
                del self._dangling[link]
                self.unreadable.append((link, reason))
                return True
        if any((path + b"/").startswith(link + b"/") for link in self.outside):
            return True
        return any(path.startswith(folder.rstrip(b"/") + b"/") for folder, _ in self.unreadable)

    def _named_file(self) -> Iterator[Found]:
        folder, name = os.path.split(self.root)
        try:
            sidecars = _sidecars_in(folder, os.stat(folder).st_mtime_ns)
        except OSError:
            # A file can be read in a folder that can't be listed.
            sidecars = {}
        found = self._inspect(self.root, name, folder, sidecars, is_named=True)
        if found is not None:
            yield found

    def _below(self) -> Iterator[Found]:
        """Depth first; a stack of its own, since folders may nest deeper than Python calls."""
        stack = [self._open(self.root, frozenset())]
        while stack:
            folder = stack[-1]
            if folder is None or not folder.names or self.stopped():
                stack.pop()
                continue
            name = folder.names.pop()
            path = os.path.join(folder.path, name)
            if name.endswith(b"/"):
                stack.append(self._open(path.rstrip(b"/"), folder.identities))
                continue
            found = self._inspect(path, name, folder.path, folder.sidecars, is_named=False)
            if found is not None:
                yield found

    def _open(self, path: bytes, ancestors: frozenset[tuple[int, int]]) -> _Folder | None:
        """A folder's names; None when it can't be read, or is one of those it lies in, as a link may be."""
        names: list[bytes] = []
        try:
            with self._listing(path) as (status, entries):
                identity = status.st_dev, status.st_ino
                if identity in ancestors:
                    return None
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name.startswith(b"."):
                        continue
                    below = os.path.join(path, name)
                    if entry.is_symlink() and self._leads_out(below):
                        if _is_photo_name(name):
                            names.append(name)
                        else:
                            self.outside.append(below)
                        continue
                    # Folders sort as `name/`, as whole paths do.
                    names.append(name + b"/" if self._is_folder(entry, below) else name)
        except OutsideRoots:
            # A link came in its place after its name was listed.
            self.outside.append(path)
            return None
        except OSError as error:
            self.unreadable.append((path, _reason(error)))
            return None
        names.sort(reverse=True)
        return _Folder(path, names, _sidecars(names), ancestors | {identity})

    @contextmanager
    def _listing(
        self, path: bytes
    ) -> Iterator[tuple[os.stat_result, Iterator[os.DirEntry[bytes] | os.DirEntry[str]]]]:
        """A folder's status and its entries, of the very folder whose path was found inside."""
        if self.confinement is None:
            with os.scandir(path) as entries:
                yield os.stat(path), entries
            return
        with self.confinement.entered(path) as (above, name):
            folder = os.open(name, _LIST, dir_fd=above)
        try:
            with os.scandir(folder) as entries_there:
                yield os.fstat(folder), entries_there
        finally:
            os.close(folder)

    def _leads_out(self, path: bytes) -> bool:
        return self.confinement is not None and not self.confinement.holds(path)

    def _is_folder(self, entry: os.DirEntry[bytes] | os.DirEntry[str], path: bytes) -> bool:
        try:
            if entry.is_dir():
                return True
            if entry.is_symlink():
                entry.stat()
        except OSError as error:
            # It may have led to a folder.
            self._dangling[path] = _reason(error)
        return False

    def _inspect(  # noqa: PLR0911 - one return an outcome
        self,
        path: bytes,
        name: bytes,
        folder: bytes,
        sidecars: dict[bytes, bytes],
        *,
        is_named: bool,
    ) -> Found | None:
        """The stamp of a file, or None when it is not meant to be a photograph."""
        stem, suffix = os.path.splitext(name)
        is_meant = is_named or _is_photo_name(name)
        if os.path.islink(path) and self._leads_out(path):
            nothing = FileStamp(path, 0, 0)
            return Found(nothing, trouble=LEADS_OUT, is_unreachable=True) if is_meant else None
        try:
            status = os.stat(path)
        except OSError as error:
            if not is_meant or is_gone(path):
                return None
            trouble = f"it can't be read: {_reason(error)}"
            return Found(FileStamp(path, 0, 0), trouble=trouble, is_unreachable=True)
        stamp = FileStamp(path, status.st_size, status.st_mtime_ns)
        if not stat.S_ISREG(status.st_mode):
            return Found(stamp, trouble="it is no regular file") if is_meant else None
        if not is_meant and (
            suffix.lower() == _SIDECAR_SUFFIX or not looks_like_photo(path, self.confinement)
        ):
            return None
        candidates = (name + _SIDECAR_SUFFIX, stem + _SIDECAR_SUFFIX)
        sidecar = next(filter(None, (sidecars.get(one.lower()) for one in candidates)), None)
        if sidecar is None:
            return Found(stamp)
        return self._with_sidecar(stamp, os.path.join(folder, sidecar))

    def _with_sidecar(self, stamp: FileStamp, sidecar: bytes) -> Found:
        if os.path.islink(sidecar) and self._leads_out(sidecar):
            return Found(stamp)
        try:
            status = os.stat(sidecar)
        except OSError:
            return Found(stamp)
        text = f"{uri_of_path(os.path.basename(sidecar))}:{status.st_size}:{status.st_mtime_ns}"
        return Found(FileStamp(stamp.path, stamp.size, stamp.mtime_ns, text), sidecar)


def distinct_roots(paths: Iterable[str | bytes | os.PathLike[str]]) -> list[bytes]:
    """Absolute roots in byte order, without those that lie below another."""
    roots: dict[bytes, None] = {}
    for root in sorted({absolute_path(path) for path in paths}):
        if not lies_below(root, roots):
            roots[root] = None
    return list(roots)


def lies_below(path: bytes, roots: Container[bytes]) -> bool:
    """Whether one of the folders that the path lies in is among the roots."""
    return any(folder in roots for folder in _folders_above(path))


def _folders_above(path: bytes) -> Iterator[bytes]:
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


def require_root(root: bytes) -> os.stat_result:
    """The root's status; raises RootUnavailable unless it is there and can be read."""
    uri = uri_of_path(root)
    try:
        status = os.stat(root)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(root):
                pass
    except FileNotFoundError:
        raise RootUnavailable(
            f"there is no file or folder {uri}",
            remedy="check the path; what is gone for good is forgotten by: "
            f"regard remove {shlex.quote(uri)}",
        ) from None
    except OSError as error:
        raise RootUnavailable(
            f"{uri} can't be read: {_reason(error)}",
            remedy="mend its permissions or its mount",
        ) from error
    return status


def require_inside(root: bytes, confinement: Confinement | None) -> None:
    """Raise OutsideRoots when a root leads out of the confinement."""
    if confinement is not None and not confinement.holds(root):
        raise OutsideRoots(
            "the folder leads out of the configured root",
            remedy="name one that lies in it, or configure the root where it leads to",
        )


def compare(
    walk: Walk, known_assets: Callable[[bytes], Iterator[KnownAsset]], *, retry_failed: bool
) -> Iterator[Candidate]:
    """Merge what the walk finds with what the catalog knows below the same root.

    Known assets without a file come out as MISSING, except where nothing could be seen. Once the walk is
    stopped its candidates mean nothing any more.
    """
    known = known_assets(walk.root)
    asset = next(known, None)
    for found in walk:
        path = found.stamp.path
        while asset is not None and asset.stamp.path < path:
            yield from _not_found(walk, asset)
            asset = next(known, None)
        if asset is None or asset.stamp.path != path:
            yield Candidate(Status.NEW, found, None)
            continue
        yield Candidate(_status(found, asset, retry_failed=retry_failed), found, asset)
        asset = next(known, None)
    while asset is not None:
        yield from _not_found(walk, asset)
        asset = next(known, None)


def _not_found(walk: Walk, asset: KnownAsset) -> Iterator[Candidate]:
    """What becomes of an asset that the walk did not find; nothing when its folder could not be read."""
    if walk.shelters(asset.stamp.path):
        return
    path = asset.stamp.path
    if not is_gone(path) and not os.access(path, os.R_OK):
        # Without a photograph's suffix, only a look inside tells one.
        trouble = f"it can't be read: {os.strerror(errno.EACCES)}"
        found = Found(asset.stamp, trouble=trouble, is_unreachable=True)
        yield Candidate(Status.UNREACHABLE, found, asset)
        return
    yield Candidate(Status.MISSING, None, asset)


def _status(found: Found, known: KnownAsset, *, retry_failed: bool) -> Status:
    if found.is_unreachable and known.failure_reason is None:
        return Status.UNREACHABLE
    if found.stamp != known.stamp:
        return Status.CHANGED
    if known.failure_reason is None:
        return Status.UNCHANGED
    return Status.RETRY if retry_failed else Status.STILL_FAILED


def _is_photo_name(name: bytes) -> bool:
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES


def _sidecars(names: Iterable[bytes]) -> dict[bytes, bytes]:
    """Metadata files by their names in lower case."""
    return {name.lower(): name for name in names if name.lower().endswith(_SIDECAR_SUFFIX)}


@lru_cache(maxsize=1)
def _sidecars_in(folder: bytes, _mtime_ns: int) -> dict[bytes, bytes]:
    """A folder's metadata files, listed once for the many files that a shell's wildcard names."""
    return _sidecars(os.listdir(folder))


def is_empty_folder(path: bytes) -> bool:
    """Whether the path is a folder with nothing in it, as a mount point without its disk is."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def is_gone(path: bytes) -> bool:
    """Whether there is no such name, as far as anybody can tell."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        # Behind a link that leads nowhere, as to a disk that is not mounted, nothing can be told.
        return os.path.isdir(next(filter(os.path.lexists, _folders_above(path))))
    except OSError:
        return False
    return False


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
