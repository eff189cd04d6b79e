"""Finds the photographs below a root and compares them with the catalog.

The walk and the catalog both yield paths in byte order of whole paths and are merged as streams,
so memory grows with the largest folder, not with the library.

What `regard.indexer.exclusions` leaves out is not entered; its assets are LEFT_OUT.

An asset is MISSING only if its absence could be observed: never below an unreadable folder, behind
a dangling link, or behind a link that leads out of the confinement, which is not followed.
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
from regard.core.errors import DecodeError, OutsideRoots, RootUnavailable
from regard.indexer.exclusions import IGNORE_FILE, Exclusions, Rules, folders_above
from regard.photos.buckets import is_object, object_status
from regard.photos.files import LEADS_OUT, Confinement, absolute_path, uri_of_path
from regard.photos.formats import PHOTO_SUFFIXES
from regard.photos.photo_file import looks_like_photo

_SIDECAR_SUFFIX = b".xmp"
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


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


@dataclass(frozen=True, slots=True)
class WalkEntry:
    """A file that should be a photograph, or the `failure_reason` why it can't be examined.

    `is_unreachable` if the cause may be its disk or folder instead of the file.
    """

    stamp: FileStamp
    sidecar: bytes | None = None
    failure_reason: str | None = None
    is_unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, a known asset, or both, and how they compare."""

    status: Status
    entry: WalkEntry | None
    known: KnownAsset | None


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the walk's stack: the names left, next one last; folder names end in `/`."""

    path: bytes
    names: list[bytes]
    sidecars: dict[bytes, bytes]
    identities: frozenset[tuple[int, int]]
    rules: Rules


@dataclass(slots=True)
class Walk:
    """One pass over a root; ends early, with `is_stopped` set, once `stopped` returns true.

    `unreadable` lists folders that could not be read, with the reason. `identity` is the root
    folder's device and inode; if given, it must match, so that two passes see the same disk.
    `outside` lists links that lead out of the confinement, except those with a photograph's
    suffix, which become entries. `left_out` counts photographs and folders that `exclusions` leave
    out; the root is never left out.
    """

    root: bytes
    stopped: Callable[[], bool] = lambda: False
    identity: tuple[int, int] | None = None
    confinement: Confinement | None = None
    exclusions: Exclusions = field(default_factory=Exclusions)
    left_out: int = 0
    outside: list[bytes] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    files: int = 0
    is_stopped: bool = False
    _dangling: dict[bytes, str] = field(default_factory=dict)
    _homes: list[bytes] = field(default_factory=list)
    _last_rules: tuple[bytes, Rules | None] = (b"", None)

    def __iter__(self) -> Iterator[WalkEntry]:
        """Every photograph below the root, in byte order of paths; raises RootUnavailable."""
        status = self.require_root()
        if is_object(self.root):
            self.files += 1
            yield WalkEntry(FileStamp(self.root, status.st_size, status.st_mtime_ns))
            return
        entries = self._below() if stat.S_ISDIR(status.st_mode) else self._named_file()
        for entry in entries:
            self.files += 1
            yield entry
        # If the disk has gone meanwhile, the rest of the walk was hidden.
        self.require_root()

    def require_root(self) -> os.stat_result:
        """The root's status; raises RootUnavailable if it is missing or no longer the same folder.

        Raises OutsideRoots if it leads out of the confinement.
        """
        status = require_root(self.root, self.confinement)
        identity = (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
        if self.identity is not None and identity != self.identity:
            raise RootUnavailable(
                f"{uri_of_path(self.root)} was replaced by another folder during the walk",
                remedy="mount or restore it, then run the command again",
            )
        self.identity = identity
        return status

    def hides(self, path: bytes) -> bool:
        """Whether the path lies where the walk could not look."""
        for link, reason in self._dangling.items():
            if path.startswith(link + b"/"):
                del self._dangling[link]
                self.unreadable.append((link, reason))
                return True
        if any((path + b"/").startswith(link + b"/") for link in self.outside):
            return True
        return any(path.startswith(folder.rstrip(b"/") + b"/") for folder, _ in self.unreadable)

    def leaves_out(self, path: bytes) -> bool:
        """Whether the file at a path below the root is left out; raises DecodeError."""
        if any(path.startswith(home + b"/") for home in self._homes):
            return True
        folder = os.path.dirname(path)
        if self._last_rules[0] != folder:
            self._last_rules = folder, self._rules_in(folder)
        rules = self._last_rules[1]
        return rules is None or self.exclusions.leaves_out(path, rules, is_folder=False)

    def _rules_in(self, folder: bytes) -> Rules | None:
        """The rules in a folder at or below the root; None if it is left out."""
        rules: Rules | None = self.exclusions.root_rules(self.root, self.confinement)
        for below in reversed([folder, *folders_above(folder)]):
            if rules is not None and below.startswith(self.root.rstrip(b"/") + b"/"):
                rules = self.exclusions.inside(below, rules, self.confinement)
        return rules

    def _named_file(self) -> Iterator[WalkEntry]:
        folder, name = os.path.split(self.root)
        try:
            sidecars = _sidecars_in(folder, os.stat(folder).st_mtime_ns)
        except OSError:
            # The file may be readable although its folder can't be listed.
            sidecars = {}
        entry = self._inspect(self.root, name, folder, sidecars, is_named=True)
        if entry is not None:
            yield entry

    def _below(self) -> Iterator[WalkEntry]:
        """Walk depth first, with an explicit stack: folders may nest deeper than Python calls."""
        stack = [self._open(self.root, None)]
        while stack:
            folder = stack[-1]
            if folder is None or not folder.names:
                stack.pop()
                continue
            if self.stopped():
                self.is_stopped = True
                return
            name = folder.names.pop()
            path = os.path.join(folder.path, name)
            if name.endswith(b"/"):
                stack.append(self._open(path.rstrip(b"/"), folder))
                continue
            entry = self._inspect(path, name, folder.path, folder.sidecars, is_named=False)
            if entry is not None:
                yield entry

    def _open(  # noqa: PLR0911 - one return per outcome
        self, path: bytes, parent: _Folder | None
    ) -> _Folder | None:
        """List a folder; None if it is left out, unreadable, or its own ancestor through a
        link."""
        ancestors = frozenset() if parent is None else parent.identities
        names: list[bytes] = []
        if parent and self.exclusions.leaves_out(path, parent.rules, is_folder=True):
            self.left_out += 1
            return None
        try:
            with self._listing(path) as (status, entries):
                identity = status.st_dev, status.st_ino
                if identity in ancestors:
                    return None
                if parent and identity == self.exclusions.home_identity:
                    self._homes.append(path)
                    return None
                listed = {os.fsencode(entry.name): entry for entry in entries}
                rules = (
                    self.exclusions.inside(path, parent.rules, self.confinement, listed)
                    if parent
                    else self.exclusions.root_rules(path, self.confinement)
                )
                if rules is None:
                    self.left_out += 1
                    return None
                for name, entry in listed.items():
                    below = os.path.join(path, name)
                    is_out = entry.is_symlink() and self._leads_out(below)
                    if not is_out and self._is_folder(entry, below):
                        # Folders sort as `name/`, as they do in whole paths.
                        names.append(name + b"/")
                    elif self.exclusions.leaves_out(below, rules, is_folder=False):
                        self.left_out += _is_photo_name(name)
                    elif is_out and not _is_photo_name(name):
                        self.outside.append(below)
                    else:
                        names.append(name)
        except OutsideRoots:
            # A link has replaced it since its name was listed.
            self.outside.append(path)
            return None
        except DecodeError as error:
            self.unreadable.append((path, f"its {IGNORE_FILE.decode()}: {error.message}"))
            return None
        except OSError as error:
            self.unreadable.append((path, _reason(error)))
            return None
        names.sort(reverse=True)
        return _Folder(path, names, _sidecars(names), ancestors | {identity}, rules)

    @contextmanager
    def _listing(
        self, path: bytes
    ) -> Iterator[tuple[os.stat_result, Iterator[os.DirEntry[bytes] | os.DirEntry[str]]]]:
        """A folder's status and entries, read through one descriptor if confined."""
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
            # The link may have led to a folder.
            self._dangling[path] = _reason(error)
        return False

    def _inspect(  # noqa: PLR0911 - one return per outcome
        self,
        path: bytes,
        name: bytes,
        folder: bytes,
        sidecars: dict[bytes, bytes],
        *,
        is_named: bool,
    ) -> WalkEntry | None:
        """The entry of a file, or None if it is not meant to be a photograph."""
        stem, suffix = os.path.splitext(name)
        is_meant = is_named or _is_photo_name(name)
        if os.path.islink(path) and self._leads_out(path):
            entry = WalkEntry(FileStamp(path, 0, 0), None, LEADS_OUT, is_unreachable=True)
            return entry if is_meant else None
        try:
            status = os.stat(path)
        except OSError as error:
            if not is_meant or is_gone(path):
                return None
            reason = f"it can't be read: {_reason(error)}"
            return WalkEntry(FileStamp(path, 0, 0), None, reason, is_unreachable=True)
        stamp = FileStamp(path, status.st_size, status.st_mtime_ns)
        if not stat.S_ISREG(status.st_mode):
            return WalkEntry(stamp, None, "it is not a regular file") if is_meant else None
        if not is_meant and (
            suffix.lower() == _SIDECAR_SUFFIX or not looks_like_photo(path, self.confinement)
        ):
            return None
        candidates = (name + _SIDECAR_SUFFIX, stem + _SIDECAR_SUFFIX)
        sidecar = next(filter(None, (sidecars.get(one.lower()) for one in candidates)), None)
        if sidecar is None:
            return WalkEntry(stamp)
        return self._with_sidecar(stamp, os.path.join(folder, sidecar))

    def _with_sidecar(self, stamp: FileStamp, sidecar: bytes) -> WalkEntry:
        if os.path.islink(sidecar) and self._leads_out(sidecar):
            return WalkEntry(stamp)
        try:
            status = os.stat(sidecar)
        except OSError:
            return WalkEntry(stamp)
        text = f"{uri_of_path(os.path.basename(sidecar))}:{status.st_size}:{status.st_mtime_ns}"
        return WalkEntry(FileStamp(stamp.path, stamp.size, stamp.mtime_ns, text), sidecar)


def distinct_roots(paths: Iterable[str | bytes | os.PathLike[str]]) -> list[bytes]:
    """Absolute roots in byte order, without those below another root."""
    roots: dict[bytes, None] = {}
    for root in sorted({absolute_path(path) for path in paths}):
        if not lies_below(root, roots):
            roots[root] = None
    return list(roots)


def lies_below(path: bytes, roots: Container[bytes]) -> bool:
    """Whether one of the path's parent folders is among the roots."""
    return any(folder in roots for folder in folders_above(path))


def require_root(root: bytes, confinement: Confinement | None = None) -> os.stat_result:
    """The root's status.

    Raises RootUnavailable if it is missing or unreadable, OutsideRoots if it leads out of the
    confinement, StoreUnavailable if its bucket does not answer.
    """
    if confinement is not None and not confinement.holds(root):
        raise OutsideRoots(
            "the folder leads out of the configured root",
            remedy="choose a folder inside it, or configure a root where it leads to",
        )
    try:
        if is_object(root):
            found = object_status(root)
            times = {"st_mtime_ns": found.mtime_ns}
            return os.stat_result((stat.S_IFREG, *(0,) * 5, found.size, *(0,) * 3), times)
        status = os.stat(root)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(root):
                pass
    except FileNotFoundError:
        raise RootUnavailable(
            f"there is no file or folder {uri_of_path(root)}",
            remedy="check the path; if it was deleted for good, run: "
            f"regard remove {shlex.quote(uri_of_path(root))}",
        ) from None
    except OSError as error:
        raise RootUnavailable(
            f"{uri_of_path(root)} can't be read: {_reason(error)}",
            remedy="fix its permissions or its mount",
        ) from error
    return status


def compare(
    walk: Walk, known_assets: Callable[[bytes], Iterator[KnownAsset]], *, retry_failed: bool
) -> Iterator[Candidate]:
    """Merge the walk with the catalog's assets below the same root.

    Known assets without a file are MISSING unless the walk could not look there. Candidates are
    meaningless once the walk has stopped.
    """
    known = known_assets(walk.root)
    asset = next(known, None)
    for entry in walk:
        path = entry.stamp.path
        while asset is not None and asset.stamp.path < path:
            yield from _without_file(walk, asset)
            asset = next(known, None)
        if asset is None or asset.stamp.path != path:
            yield Candidate(Status.NEW, entry, None)
            continue
        yield Candidate(_status(entry, asset, retry_failed=retry_failed), entry, asset)
        asset = next(known, None)
    while asset is not None:
        yield from _without_file(walk, asset)
        asset = next(known, None)


def _without_file(walk: Walk, asset: KnownAsset) -> Iterator[Candidate]:
    """The candidate for an asset without an entry; none if the walk could not look there."""
    if walk.hides(asset.stamp.path):
        return
    path = asset.stamp.path
    is_there = not is_gone(path)
    if is_there and walk.leaves_out(path):
        yield Candidate(Status.LEFT_OUT, None, asset)
        return
    if is_there and not os.access(path, os.R_OK):
        # Without a photograph's suffix, the walk must read a file to recognise it.
        reason = f"it can't be read: {os.strerror(errno.EACCES)}"
        entry = WalkEntry(asset.stamp, None, reason, is_unreachable=True)
        yield Candidate(Status.UNREACHABLE, entry, asset)
        return
    yield Candidate(Status.MISSING, None, asset)


def _status(entry: WalkEntry, known: KnownAsset, *, retry_failed: bool) -> Status:
    if entry.is_unreachable and known.failure_reason is None:
        return Status.UNREACHABLE
    if entry.stamp != known.stamp:
        return Status.CHANGED
    if known.failure_reason is None:
        return Status.UNCHANGED
    return Status.RETRY if retry_failed else Status.STILL_FAILED


def _is_photo_name(name: bytes) -> bool:
    return os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES


def _sidecars(names: Iterable[bytes]) -> dict[bytes, bytes]:
    """Sidecar names by their lower-case form."""
    return {name.lower(): name for name in names if name.lower().endswith(_SIDECAR_SUFFIX)}


@lru_cache(maxsize=1)
def _sidecars_in(folder: bytes, _mtime_ns: int) -> dict[bytes, bytes]:
    """A folder's sidecars, listed once for the many files that a shell wildcard names."""
    return _sidecars(os.listdir(folder))


def is_empty_folder(path: bytes) -> bool:
    """Whether the path is an empty folder, such as a mount point without its disk."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def is_gone(path: bytes) -> bool:
    """Whether the path is known not to exist; raises StoreUnavailable."""
    try:
        if is_object(path):
            object_status(path)
            return False
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        if is_object(path):
            return True
        # Behind a dangling link, such as to an unmounted disk, it may still exist.
        return os.path.isdir(next(filter(os.path.lexists, folders_above(path))))
    except OSError:
        return False
    return False


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
