"""The managed store of uploaded files, one file per SHA-256, and guarded reading of originals.

`OriginalStore` is the store's interface. Here it is a folder, in `bucket_originals` a bucket.

A file is written under a temporary name in `incoming` and linked to its final name,
`ab/cd/<sha256>`, once it is complete and synced. So an incomplete file never has a final name, and
a final name is never written to again. The temporary name stays until the block ends, so that
`sweep` can find files whose rows were not committed before a crash. From `keep` to the end of the
`incoming` block a lock on the folder, which ends with the process, excludes `discard`: committed
rows never point at a file that is being discarded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from regard.core.catalog import clamp_int64
from regard.core.errors import (
    CannotWork,
    DecodeError,
    HomeError,
    OriginalChanged,
    OriginalGone,
    OutsideRoots,
)
from regard.photos.buckets import is_object, open_object
from regard.photos.files import open_regular, real_path
from regard.storage.files.durable import make_directory

SHA256_DIGITS = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The temporary name of a file that also has its final name.
_PLACED = re.compile(r"[0-9a-f]{32}\.([0-9a-f]{64})")
_INCOMING = "incoming"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# One hour: longer than any pause between creating a file and locking it.
LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class StoredOriginal:
    """A file of the store: `path` is absolute; size and time are those of the stored file.

    `was_there`: the same bytes had been stored before. For a bucket, `path` is the object's URI.
    """

    sha256: str
    size: int
    mtime_ns: int
    path: bytes
    was_there: bool

    @property
    def name(self) -> str:
        """The file's name in the store, the last part of its path."""
        return name_of(self.path)


class Incoming(ABC):
    """A file being added to a store; for one thread."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._stored: StoredOriginal | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hex."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append bytes; raises CannotWork if the write fails."""
        self._require_coming()
        self.size += len(chunk)
        self._hash.update(chunk)
        self._append(chunk)

    def open(self) -> BinaryIO:
        """Open the bytes written so far, to inspect before they are kept; close it."""
        self._require_coming()
        return self._opened()

    def keep(self) -> StoredOriginal:
        """Put the file into the store durably; raises CannotWork if that fails.

        A second call returns the same result. The temporary file is closed: one request may bring
        more files than a process may hold open.
        """
        if self._stored is None:
            self._stored = self._place()
        return self._stored

    def _require_coming(self) -> None:
        if self._stored is not None:
            raise ValueError("the file is in the store already")

    @abstractmethod
    def _append(self, chunk: bytes) -> None: ...

    @abstractmethod
    def _opened(self) -> BinaryIO: ...

    @abstractmethod
    def _place(self) -> StoredOriginal: ...


class OriginalStore(Protocol):
    """The store of uploaded files. Thread-safe."""

    def incoming(self) -> AbstractContextManager[Incoming]:
        """Add one file: `write` its bytes, then `keep` it; a file that is not kept is removed.

        Commit the rows that point at it before the block ends. Raises CannotWork if nothing can be
        written.
        """

    def path_of(self, name: str) -> bytes:
        """The path of a file by its name, present or not; raises ValueError.

        A name begins with the SHA-256. In a folder, it is nothing else.
        """

    def holds(self, path: bytes) -> bool:
        """Whether `path` is a path in this store, exactly as `path_of` gives it."""

    def discard(self, name: str, *, unless: Callable[[], bool] | None = None) -> bool:
        """Delete a file of the store; return whether one was deleted.

        `unless` returns whether a row still needs the file, which then stays. Do not hold a
        database transaction open: an upload may be committing one. Raises ValueError for an
        invalid name, CannotWork if the file can't be deleted.
        """

    def sweep(self, *, discard_placed: Callable[[str], object]) -> int:
        """Remove what killed uploads left outside the catalog; return how many files.

        `discard_placed` is called with the names of files that may be needed by rows.
        """


def name_of(path: bytes) -> str:
    """The name of a managed file by its path."""
    return os.fsdecode(path.rpartition(b"/")[2])


class FolderIncoming(Incoming):
    """A file being added to the folder, created by `Originals.incoming`."""

    def __init__(self, originals: Originals, path: Path, handle: int) -> None:
        super().__init__()
        self._originals = originals
        self._path = path
        self._handle = handle
        self._ending = contextlib.ExitStack()
        self._ending.callback(self._forget_name)
        self._file = self._ending.enter_context(contextlib.ExitStack())
        self._file.callback(os.close, handle)

    def _append(self, chunk: bytes) -> None:
        with _storing():
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def _opened(self) -> BinaryIO:
        with _storing():
            os.lseek(self._handle, 0, os.SEEK_SET)
            return os.fdopen(os.dup(self._handle), "rb")

    def _place(self) -> StoredOriginal:
        with _storing():
            os.fsync(self._handle)
            stored = self._shelve()
            self._file.close()
        return stored

    def _shelve(self) -> StoredOriginal:
        sha256 = self.sha256
        shelf = self._originals.make_shelf(sha256)
        self._ending.callback(os.close, shelf)
        fcntl.flock(shelf, fcntl.LOCK_SH)
        was_there = False
        placed = self._path.with_name(f"{self._path.name}.{sha256}")
        os.rename(self._path, placed)
        self._path = placed
        try:
            os.link(self._path, sha256, dst_dir_fd=shelf)
        except FileExistsError:
            was_there = True
        os.fsync(shelf)
        found = os.stat(sha256, dir_fd=shelf, follow_symlinks=False)
        path = self._originals.path_of(sha256)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self.size:
            raise HomeError(
                f"the stored file {os.fsdecode(path)} is damaged: it has not the bytes of its name",
                remedy="move it away and try again",
            )
        return StoredOriginal(sha256, self.size, found.st_mtime_ns, path, was_there)

    def _forget_name(self) -> None:
        self._path.unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the temporary name and release the locks; called at the end of the block."""
        self._ending.close()


class Originals:
    """The managed store in `folder`, which is created with the first file."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))

    @contextlib.contextmanager
    def incoming(self) -> Iterator[FolderIncoming]:
        """Add one file: `write` its bytes, then `keep` it; a file that is not kept is removed.

        Commit the rows that point at it before the block ends. Raises CannotWork if the folder is
        not writable.
        """
        with _storing():
            folder = self._folder / _INCOMING
            make_directory(folder, mode=_FOLDER_MODE)
            path = folder / uuid.uuid4().hex
            handle = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode=_FILE_MODE
            )
            # Shows `sweep` that the file is still being written.
            fcntl.flock(handle, fcntl.LOCK_EX)
        incoming = FolderIncoming(self, path, handle)
        try:
            yield incoming
        finally:
            incoming.end()

    def path_of(self, sha256: str) -> bytes:
        """The path of a file by its SHA-256, present or not; raises ValueError.

        The name of a file that was copied from a bucket may continue after the SHA-256.
        """
        sha256 = sha256.partition("-")[0]
        if not _SHA256.fullmatch(sha256):
            raise ValueError("expected a SHA-256 of 64 hex digits")
        return os.fsencode(self._folder / sha256[:2] / sha256[2:4] / sha256)

    def holds(self, path: bytes) -> bool:
        """Whether `path` is a path in this store, exactly as `path_of` gives it."""
        name = os.fsdecode(os.path.basename(path))
        return _SHA256.fullmatch(name) is not None and path == self.path_of(name)

    def discard(self, sha256: str, *, unless: Callable[[], bool] | None = None) -> bool:
        """Delete a file of the store; return whether one was deleted.

        `unless` is called while no process can add the same file, and returns whether a row still
        needs it. Do not hold a database transaction open: an upload may be committing one. Inside
        an `incoming` block of the same file this deadlocks. Raises ValueError if it is not a hash,
        CannotWork if the file can't be deleted.
        """
        self.path_of(sha256)
        with _storing(), contextlib.ExitStack() as ending:
            try:
                shelf = self._open_shelf(sha256)
            except FileNotFoundError:
                return False
            ending.callback(os.close, shelf)
            fcntl.flock(shelf, fcntl.LOCK_EX)
            if unless is not None and unless():
                return False
            try:
                os.unlink(sha256, dir_fd=shelf)
            except FileNotFoundError:
                return False
            os.fsync(shelf)
        return True

    def sweep(
        self,
        older_than: float = LEFTOVER_SECONDS,
        *,
        discard_placed: Callable[[str], object] | None = None,
    ) -> int:
        """Remove files older than `older_than` seconds that killed uploads left; return how many.

        `discard_placed` is called, at any age, with the SHA-256 of those that already have their
        final name, to `discard` them unless a row needs them.
        """
        removed = 0
        limit = time.time() - older_than
        folder = self._folder / _INCOMING
        with _storing(), contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                placed = _PLACED.fullmatch(entry.name)
                if placed is not None and discard_placed is not None:
                    discard_placed(placed[1])
                    Path(entry.path).unlink(missing_ok=True)
                    removed += 1
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime <= limit:
                        removed += _remove_unlocked(Path(entry.path))
        return removed

    def make_shelf(self, sha256: str) -> int:
        """A descriptor of the folder `ab/cd`, created durably if it is new."""
        path = Path(os.fsdecode(self.path_of(sha256))).parent
        make_directory(path, mode=_FOLDER_MODE)
        return self._open_shelf(sha256)

    def _open_shelf(self, sha256: str) -> int:
        """A descriptor of the folder `ab/cd`; raises OSError for a symlink in its place."""
        handle = os.open(self._folder, _OPEN_FOLDER)
        for name in (sha256[:2], sha256[2:4]):
            try:
                below = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            finally:
                os.close(handle)
            handle = below
        return handle


def open_original(
    path: bytes,
    *,
    size: int,
    mtime_ns: int | None,
    within: Sequence[bytes] | None,
    etag: str | None = None,
) -> BinaryIO:
    """Open the file of an asset if it is still the one that was indexed.

    `size` and `mtime_ns` are the recorded stamp; a time of None accepts any, for a file named by
    its hash. Of an object, size and `etag` are, and an ETag of None accepts any. `within` lists the
    folders in which the opened file, with symlinks resolved, must be; None allows any place. Raises
    OriginalGone, OriginalChanged or OutsideRoots; never blocks on a pipe or a device. An object is
    never within folders; StoreUnavailable is raised if its bucket does not answer.
    """
    if is_object(path):
        return _open_object(path, size, etag, within)
    try:
        file = open_regular(path)
    except DecodeError as error:
        if error.__cause__ is not None:
            raise OriginalGone("the original is gone or can't be read") from error
        raise changed() from error
    try:
        # The place first: reveal nothing about a file elsewhere, not even whether it changed.
        if within is not None and not _lies_within(file, path, within):
            raise OutsideRoots("the original lies outside the folders that may be read")
        status = os.fstat(file.fileno())
        if status.st_size != size or mtime_ns not in {None, clamp_int64(status.st_mtime_ns)}:
            raise changed()
    except BaseException:
        file.close()
        raise
    return file


def _open_object(
    path: bytes, size: int, etag: str | None, within: Sequence[bytes] | None
) -> BinaryIO:
    if within is not None:
        raise OutsideRoots("the original lies outside the folders that may be read")
    with object_errors():
        file = open_object(path, etag=etag)
        if os.fstat(file.fileno()).st_size == size:
            return file
        file.close()
    raise changed()


@contextlib.contextmanager
def object_errors() -> Iterator[None]:
    """Turns what reading an asset's object raises into OriginalGone and OriginalChanged."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise changed() from error
        raise OriginalGone("the original is gone or can't be read") from error


def changed() -> OriginalChanged:
    """The error for an original that is another file than the one that was indexed."""
    return OriginalChanged(
        "the original is no longer the file that was indexed", remedy="index it again"
    )


def _lies_within(file: BinaryIO, path: bytes, folders: Sequence[bytes]) -> bool:
    """Whether the open file is in one of the folders, with symlinks resolved."""
    try:
        real = os.readlink(b"/proc/self/fd/%d" % file.fileno())
    except OSError:
        # Without /proc/self/fd: the resolved path has to lead to the same file.
        real = os.path.realpath(path)
        try:
            same = os.path.samestat(os.lstat(real), os.fstat(file.fileno()))
        except OSError:
            same = False
        if not same:
            return False
    return any(real.startswith(os.path.join(real_path(folder), b"")) for folder in folders)


def _remove_unlocked(path: Path) -> bool:
    """Remove a leftover unless its upload is still running."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWork(
            f"the store of originals can't be used: {error.strerror or error}",
            remedy="free space, or let regard write to its home",
        ) from error
