"""The walk over a folder of this machine, or over one file.

Memory grows with the largest folder. What exclusions leave out is not entered.

An asset is MISSING only if its absence could be observed: never below an unreadable folder, behind
a dangling link, or behind a link that leads out of the confinement, which is not followed.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from regard.core.catalog import FileStamp, KnownAsset
from regard.core.errors import DecodeError, OutsideRoots, RootUnavailable
from regard.indexer.exclusions import IGNORE_FILE, Rules
from regard.indexer.walk import (
    Candidate,
    Likeness,
    Status,
    Walk,
    WalkEntry,
    is_photo_name,
    is_skipped_video,
)
from regard.photos.files import LEADS_OUT, folders_above, uri_of_path
from regard.photos.photo_file import looks_like_photo
from regard.photos.sidecars import (
    SIDECAR_SUFFIX,
    sidecar_names,
    sidecar_stamp,
    sidecars_by_lower_name,
)

# The names to look at in a folder, and those in folders below it; None means all.
_Names = dict[bytes, "_Names | None"]

_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the walk's stack: the names left, next one last; folder names end in `/`."""

    path: bytes
    names: list[bytes]
    sidecars: dict[bytes, bytes]
    identities: frozenset[tuple[int, int]]
    rules: Rules
    wanted: _Names | None


@dataclass(slots=True)
class FolderWalk(Walk):
    """See `Walk`. `identity` is the device and inode of the root folder once it was seen."""

    identity: tuple[int, int] | None = None
    _dangling: dict[bytes, str] = field(default_factory=dict)
    _own: list[bytes] = field(default_factory=list)
    _last_rules: tuple[bytes, Rules | None] = (b"", None)

    def __iter__(self) -> Iterator[WalkEntry]:
        """As in `Walk`."""
        status = self._examine_root()
        yield from self._below() if stat.S_ISDIR(status.st_mode) else self._named_file()
        # If the disk has gone meanwhile, the rest of the walk was hidden.
        self.require_root()

    def require_root(self) -> None:
        """As in `Walk`."""
        self._examine_root()

    def is_empty(self) -> bool:
        """As in `Walk`."""
        try:
            with os.scandir(self.root) as entries:
                return next(entries, None) is None
        except OSError:
            return False

    def again(self) -> FolderWalk:
        """As in `Walk`: both passes see the same disk."""
        return FolderWalk(
            *(self.root, self.stopped, self.confinement, self.exclusions),
            *(self.parts, self.quiet_seconds),
            identity=self.identity,
        )

    def without_entry(self, asset: KnownAsset) -> Candidate | None:
        """As in `Walk`."""
        path = asset.stamp.path
        if self._hides(path):
            return None
        is_there = not self.is_gone(path)
        if is_there and self._leaves_out(path):
            return Candidate(Status.LEFT_OUT, None, asset)
        if is_there and not os.access(path, os.R_OK):
            # Without a photograph's suffix, the walk must read a file to recognise it.
            reason = f"it can't be read: {os.strerror(errno.EACCES)}"
            entry = WalkEntry(asset.stamp, None, reason, is_unreachable=True)
            return Candidate(Status.UNREACHABLE, entry, asset)
        return Candidate(Status.MISSING, None, asset)

    @staticmethod
    def is_gone(path: bytes) -> bool:
        """As in `Walk`."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            # Behind a dangling link, such as to an unmounted disk, it may still exist.
            return os.path.isdir(next(filter(os.path.lexists, folders_above(path))))
        except OSError:
            return False
        return False

    def _examine_root(self) -> os.stat_result:
        self.require_confined()
        try:
            status = os.stat(self.root)
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(self.root):
                    pass
        except FileNotFoundError:
            uri = uri_of_path(self.root)
            raise RootUnavailable(
                f"there is no file or folder {uri}",
                remedy="check the path; if it was indexed and is deleted for good, run: "
                f"regard remove {shlex.quote(uri)}",
            ) from None
        except OSError as error:
            raise RootUnavailable(
                f"{uri_of_path(self.root)} can't be read: {_reason(error)}",
                remedy="fix its permissions or its mount",
            ) from error
        identity = (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
        if self.identity is not None and identity != self.identity:
            raise RootUnavailable(
                f"{uri_of_path(self.root)} was replaced by another folder during the walk",
                remedy="mount or restore it, then run the command again",
            )
        self.identity = identity
        return status

    def _hides(self, path: bytes) -> bool:
        """Whether the path lies where the walk could not look."""
        for link, reason in self._dangling.items():
            if path.startswith(link + b"/"):
                del self._dangling[link]
                self.unreadable.append((link, reason))
                return True
        if any((path + b"/").startswith(link + b"/") for link in self.outside):
            return True
        return any(path.startswith(folder.rstrip(b"/") + b"/") for folder, _ in self.unreadable)

    def _leaves_out(self, path: bytes) -> bool:
        """Whether the file at a path below the root is left out; raises DecodeError."""
        if any(path.startswith(home + b"/") for home in self._own):
            return True
        folder = os.path.dirname(path)
        if self._last_rules[0] != folder:
            self._last_rules = folder, self._rules_in(folder)
        rules = self._last_rules[1]
        return rules is None or bool(self.exclusions.leaves_out(path, rules, is_folder=False))

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
        if parent is None:
            wanted = _names_of(self.root, self.parts)
        else:
            wanted = parent.wanted and parent.wanted[os.path.basename(path)]
        if parent and self.exclusions.closes(path, parent.rules):
            self.left_out += 1
            return None
        try:
            with self._listing(path) as (status, entries):
                identity = status.st_dev, status.st_ino
                if identity in ancestors:
                    return None
                if parent and identity in self.exclusions.own_identities:
                    self._own.append(path)
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
                names, sidecars = self._names(path, listed, rules, wanted)
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
        return _Folder(
            path, names, sidecars_by_lower_name(sidecars), ancestors | {identity}, rules, wanted
        )

    def _names(
        self,
        path: bytes,
        listed: dict[bytes, os.DirEntry[bytes] | os.DirEntry[str]],
        rules: Rules,
        wanted: _Names | None,
    ) -> tuple[list[bytes], list[bytes]]:
        """The names to walk in a folder, the last one first, and those of its sidecars."""
        names: list[bytes] = []
        sidecars: list[bytes] = []
        for name, entry in listed.items():
            is_wanted = wanted is None or name in wanted
            is_sidecar = name.lower().endswith(SIDECAR_SUFFIX)
            if not is_wanted and not is_sidecar:
                continue
            below = os.path.join(path, name)
            is_link = entry.is_symlink()
            is_out = is_link and self._leads_out(below)
            is_folder = False
            try:
                is_folder = not is_out and entry.is_dir()
                if is_link and not (is_out or is_folder):
                    entry.stat()
            except OSError as error:
                # The link may have led to a folder.
                self._dangling[below] = _reason(error)
            if is_folder:
                # Folders sort as `name/`, as they do in whole paths.
                names += [name + b"/"] if is_wanted else []
            elif self.exclusions.leaves_out(below, rules, is_folder=False):
                self.left_out += is_photo_name(name)
            elif is_out and not is_photo_name(name):
                self.outside.append(below)
            elif is_sidecar:
                sidecars.append(name)
            elif wanted is None or wanted[name] is None:
                names.append(name)
        names.sort(reverse=True)
        return names, sidecars

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
        suffix = os.path.splitext(name)[1]
        is_meant = is_named or is_photo_name(name)
        if os.path.islink(path) and self._leads_out(path):
            entry = WalkEntry(FileStamp(path, 0, 0), None, LEADS_OUT, is_unreachable=True)
            return entry if is_meant else None
        try:
            status = os.stat(path)
        except OSError as error:
            if not is_meant or self.is_gone(path):
                return None
            reason = f"it can't be read: {_reason(error)}"
            return WalkEntry(FileStamp(path, 0, 0), None, reason, is_unreachable=True)
        stamp = FileStamp(path, status.st_size, status.st_mtime_ns)
        if not stat.S_ISREG(status.st_mode):
            return WalkEntry(stamp, None, "it is not a regular file") if is_meant else None
        if not is_meant and suffix.lower() == SIDECAR_SUFFIX:
            return None
        if self.quiet_seconds and self._is_unsettled(status):
            return WalkEntry(stamp, is_unsettled=True)
        if not is_meant and not looks_like_photo(path, self.confinement):
            if not is_skipped_video(name):
                return None
            self.skipped_videos += 1
            # One that was indexed where it could be decoded stays.
            return WalkEntry(stamp, likeness=Likeness.OTHER)
        for sidecar in map(sidecars.get, sidecar_names(name)) if sidecars else ():
            if sidecar is not None:
                return self._with_sidecar(stamp, os.path.join(folder, sidecar))
        return WalkEntry(stamp)

    def _with_sidecar(self, stamp: FileStamp, sidecar: bytes) -> WalkEntry:
        if os.path.islink(sidecar) and self._leads_out(sidecar):
            return WalkEntry(stamp)
        try:
            status = os.stat(sidecar)
        except OSError:
            return WalkEntry(stamp)
        text = sidecar_stamp(os.path.basename(sidecar), status)
        return WalkEntry(
            FileStamp(stamp.path, stamp.size, stamp.mtime_ns, text),
            sidecar,
            is_unsettled=self._is_unsettled(status),
        )

    def _is_unsettled(self, status: os.stat_result) -> bool:
        # Unlike the time of the last write, this one can't be set, as copying programs do. One in
        # the future is that of another machine's clock, and says nothing.
        return 0 <= time.time() - status.st_ctime < self.quiet_seconds


def _names_of(root: bytes, parts: Sequence[bytes]) -> _Names | None:
    """The names on the way from a root to its parts; None if it has none."""
    if not parts:
        return None
    names: _Names = {}
    for part in parts:
        *above, last = part[len(root.rstrip(b"/")) + 1 :].split(b"/")
        folder = names
        for name in above:
            inner = folder.setdefault(name, {})
            assert inner is not None, "a part lies below another one"
            folder = inner
        folder[last] = None
    return names


@lru_cache(maxsize=1)
def _sidecars_in(folder: bytes, _mtime_ns: int) -> dict[bytes, bytes]:
    """A folder's sidecars, listed once for the many files that a shell wildcard names."""
    return sidecars_by_lower_name(os.listdir(folder))


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
