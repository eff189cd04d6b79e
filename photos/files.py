"""Paths of files and of objects in buckets, and opening what is there.

Only regular files and objects are opened, optionally confined to one folder. A confined path is
resolved first and then walked from the folder down, name by name, through descriptors that do not
follow links. If a name is swapped for a link in between, opening fails.

An object's path is its URI, `s3://bucket/key`. A key is cut at each slash into folders, which may
have empty names, and nothing in it is resolved.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from regard.core.errors import DecodeError, OutsideRoots, UnknownFormat
from regard.core.words import composed
from regard.photos.buckets import (
    SCHEME,
    find_object,
    has_objects,
    is_object,
    open_object,
    read_object,
)

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

LEADS_OUT = "it leads out of the configured root"

# Opening a pipe must not wait for a writer.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# Folders on the way need not be readable.
_ENTER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True, slots=True)
class Confinement:
    """The folder that all opened files must lie in; `root` is its path with links resolved."""

    root: bytes

    @classmethod
    def to(cls, folder: bytes) -> Confinement:
        """Confine to a folder; links that lead to it are resolved now."""
        return cls(real_path(folder))

    def holds(self, path: bytes) -> bool:
        """Whether `path`, links resolved, is the folder or lies in it; it need not exist."""
        # A store does not resolve `..`, but a proxy before it may.
        if is_object(path) and b".." in path.split(b"/"):
            return False
        return self._contains(real_path(path))

    @contextmanager
    def entered(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The descriptor of the folder that `path` resolves into, and the resolved name there.

        Open the name relative to the descriptor with O_NOFOLLOW. Raises OutsideRoots if the path
        leads out, OSError if the folder does not exist or a link has replaced it.
        """
        real = real_path(path)
        if not self._contains(real):
            raise OutsideRoots(LEADS_OUT)
        names = [name for name in real[len(self.root) :].split(b"/") if name] or [b"."]
        handle = os.open(self.root, _ENTER)
        try:
            for name in names[:-1]:
                below = os.open(name, _ENTER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle, names[-1]
        finally:
            os.close(handle)

    def _contains(self, real: bytes) -> bool:
        return real == self.root or real.startswith(self.root.rstrip(b"/") + b"/")


def open_regular(
    path: FilePath, within: Confinement | None = None, max_bytes: int | None = None
) -> BinaryIO:
    """Open a regular file for reading.

    Of an object of a bucket, a local copy is opened, unless it has more than `max_bytes` and is
    not a video. Raises DecodeError for pipes, devices, folders, unreadable files, and paths that lead out
    of `within`, StoreUnavailable for a bucket.
    """
    try:
        if is_object(path):
            _require_within(path, within)
            return open_object(os.fsencode(path), max_bytes=max_bytes)
        with contextlib.ExitStack() as entered:
            folder, flags = None, _READ
            if within is not None:
                folder, path = entered.enter_context(within.entered(os.fsencode(path)))
                flags |= os.O_NOFOLLOW
            status = os.stat(path, dir_fd=folder, follow_symlinks=within is None)
            # Check before opening: some devices act on being opened.
            if stat.S_ISREG(status.st_mode):
                file = os.fdopen(os.open(path, flags, dir_fd=folder), "rb")
                # The name may have been replaced in between.
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return file
                file.close()
    except OutsideRoots as error:
        raise DecodeError(error.message) from None
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
    raise DecodeError("it is not a regular file")


def read_open_file(file: BinaryIO, max_bytes: int) -> bytes:
    """Read an open file completely; raises DecodeError if it is too large, empty or unreadable."""
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise DecodeError(f"it has {size:,} bytes, more than {max_bytes:,}")
    try:
        data = file.read(size + 1)
    except OSError as error:
        raise _unreadable(error) from error
    except MemoryError as error:
        raise DecodeError("there is not enough memory to read it") from error
    if not data:
        raise UnknownFormat("it is empty")
    if len(data) != size:
        raise DecodeError("it changed while it was read")
    return data


def read_file(path: FilePath, max_bytes: int, within: Confinement | None = None) -> bytes:
    """Read a regular file; raises DecodeError as `open_regular` and `read_open_file` do."""
    with open_regular(path, within, max_bytes) as file:
        return read_open_file(file, max_bytes)


def read_start(path: FilePath, count: int, within: Confinement | None = None) -> bytes:
    """The first bytes of a regular file; raises as `open_regular`, or OSError."""
    if is_object(path):
        _require_within(path, within)
        return b"".join(read_object(os.fsencode(path), 0, count))
    with open_regular(path, within) as file:
        return file.read(count)


def _require_within(path: FilePath, within: Confinement | None) -> None:
    if within is not None and not within.holds(os.fsencode(path)):
        raise OutsideRoots(LEADS_OUT)


def _unreadable(error: OSError | ValueError) -> DecodeError:
    detail = error.strerror if isinstance(error, OSError) and error.strerror else error
    return DecodeError(f"it can't be read: {detail}")


def uri_of_path(path: bytes) -> str:
    """The path as storable text; bytes that are not valid UTF-8 appear as %XX."""
    if path.isascii():
        return path.decode()
    text = path.decode("utf-8", errors="surrogateescape")
    return "".join(
        f"%{ord(character) - 0xDC00:02X}" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in text
    )


def composed_path(path: bytes) -> bytes:
    """The path with composed letters (NFC), for comparisons: macOS decomposes names."""
    return composed(path.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def is_absolute(path: str | bytes) -> bool:
    """Whether a path is one of the file system's root, or an object's."""
    return is_object(path) or os.path.isabs(path)


def exists(path: bytes) -> bool:
    """Whether there is a file, folder, link or object that may be seen; may raise
    StoreUnavailable."""
    return find_object(path) is not None if is_object(path) else os.path.lexists(path)


def names_in(folder: bytes, names: Iterable[bytes]) -> list[bytes]:
    """Those of the names that a file, folder, link or object in a folder has; may raise
    StoreUnavailable."""
    # A folder's name may be empty in a bucket, where its path ends with a slash that counts.
    there: Callable[[bytes], object] = find_object if is_object(folder) else os.path.lexists
    return [name for name in names if there(folder + b"/" + name)]


def has_folder(path: bytes) -> bool:
    """Whether a path is a folder, links resolved, or has objects below; may raise
    StoreUnavailable."""
    return has_objects(path) if is_object(path) else os.path.isdir(path)


def real_path(path: bytes) -> bytes:
    """The path with links resolved; an object's is its own."""
    return path if is_object(path) else os.path.realpath(path)


def folders_above(path: bytes) -> list[bytes]:
    """The folders that a path lies in, nearest first; the last is the bucket of an object."""
    folders = []
    if is_object(path):
        while (end := path.rfind(b"/", len(SCHEME))) >= 0:
            path = path[:end]
            folders.append(path)
        return folders
    while (folder := os.path.dirname(path)) != path:
        folders.append(folder)
        path = folder
    return folders


def path_below(root: bytes, path: str) -> bytes | None:
    """The path of a file or folder below a root by its relative path; None if it leads outside."""
    if is_object(root):
        names = path.strip("/")
        is_inside = not {".", ".."}.intersection(names.split("/"))
        return root + b"/" * bool(names) + os.fsencode(names) if is_inside else None
    below = os.path.normpath(os.path.join(root, os.fsencode(path)))
    return below if os.path.commonpath([below, root]) == root else None


def absolute_path(path: str | bytes | os.PathLike[str]) -> bytes:
    """The normalised absolute path as bytes, with symlinks unresolved; of an object, its URI."""
    if is_object(path):
        return os.fsencode(path).rstrip(b"/")
    absolute = os.path.abspath(os.fsencode(path))
    # POSIX allows two leading slashes a special meaning, which no supported system uses.
    return absolute[1:] if os.name == "posix" and absolute.startswith(b"//") else absolute
