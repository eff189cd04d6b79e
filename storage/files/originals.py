"""The managed store of uploaded files: each once, under the SHA-256 of its bytes; and guarded reading.

A file comes in under a passing name in `incoming` and gets its own, `ab/cd/<sha256>`, by a link once
it is whole and synced: whatever is killed when, no half file ever has a final name. A final name is
never written to again. The passing name stays beside it until the block ends: of what was killed before
its rows were committed, `sweep` then knows whom to ask about. Who adds a file and who discards one shut
each other out (a lock on the folder, which ends with the process), from `keep` to the end of the
`incoming` block: rows committed inside it never point at a file that another process was just about to
discard.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from regard.core.errors import (
    CannotWork,
    DecodeError,
    HomeError,
    OriginalChanged,
    OriginalGone,
    OutsideRoots,
)
from regard.photos.files import open_regular
from regard.storage.files.durable import make_directory

_SHA256 = re.compile(r"[0-9a-f]{64}")
# A passing name of a file that has its final one, too.
_PLACED = re.compile(r"[0-9a-f]{32}\.([0-9a-f]{64})")
_INCOMING = "incoming"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# An hour: longer than any pause between making a file and locking it.
LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class StoredOriginal:
    """A file of the store: `path` is absolute, the stamp is that of the file as it lies there.

    `was_there` tells that the same bytes had been stored before, and their file was kept.
    """

    sha256: str
    size: int
    mtime_ns: int
    path: bytes
    was_there: bool


class Incoming:
    """A file on its way into the store; made by `Originals.incoming`. For one thread at a time."""

    def __init__(
        self, originals: Originals, path: Path, handle: int, max_bytes: int | None
    ) -> None:
        self._originals = originals
        self._path = path
        self._handle = handle
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._stored: StoredOriginal | None = None
        self._ending = contextlib.ExitStack()
        self._ending.callback(self._forget_name)
        self._file = self._ending.enter_context(contextlib.ExitStack())
        self._file.callback(os.close, handle)
        self.size = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of what has been written so far, in hex."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append bytes; raises DecodeError above the limit, CannotWork when the disk takes no more."""
        self._require_coming()
        self.size += len(chunk)
        if self._max_bytes is not None and self.size > self._max_bytes:
            raise DecodeError(f"it has more than {self._max_bytes:,} bytes")
        self._hash.update(chunk)
        with _storing():
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def read(self) -> bytes:
        """All bytes written so far, to look at before they are kept."""
        self._require_coming()
        with _storing(), open(os.dup(self._handle), "rb") as file:
            file.seek(0)
            return file.read()

    def keep(self) -> StoredOriginal:
        """Put the file into the store, durably; raises CannotWork when it can't be.

        The same file again gives the same answer.
        """
        if self._stored is None:
            with _storing():
                os.fsync(self._handle)
                self._stored = self._place()
                # A call may bring more files than a process may hold open twice.
                self._file.close()
        return self._stored

    def _place(self) -> StoredOriginal:
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

    def _require_coming(self) -> None:
        if self._stored is not None:
            raise ValueError("the file is in the store already")

    def end(self) -> None:
        """Remove the passing name and let go of the locks; called at the end of the block."""
        self._ending.close()


class Originals:
    """The managed store in `folder`, which is made when the first file comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))

    @contextlib.contextmanager
    def incoming(self, *, max_bytes: int | None = None) -> Iterator[Incoming]:
        """Take in one file: `write` its bytes, then `keep` it; what is not kept goes with the block.

        Commit the rows that point at it before the block ends. Raises CannotWork when nothing can be
        written there.
        """
        with _storing():
            folder = self._folder / _INCOMING
            make_directory(folder, mode=_FOLDER_MODE)
            path = folder / uuid.uuid4().hex
            handle = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode=_FILE_MODE
            )
            # Tells `sweep` that somebody still writes to it.
            fcntl.flock(handle, fcntl.LOCK_EX)
        incoming = Incoming(self, path, handle, max_bytes)
        try:
            yield incoming
        finally:
            incoming.end()

    def path_of(self, sha256: str) -> bytes:
        """Where the file with this hash lies, or would; raises ValueError for what is no hash."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("expected a SHA-256 of 64 hex digits")
        return os.fsencode(self._folder / sha256[:2] / sha256[2:4] / sha256)

    def holds(self, path: bytes) -> bool:
        """Whether `path` is the place of a file in this store, exactly as `path_of` writes it."""
        name = os.fsdecode(os.path.basename(path))
        return _SHA256.fullmatch(name) is not None and path == self.path_of(name)

    def discard(self, sha256: str, *, unless: Callable[[], bool] | None = None) -> bool:
        """Delete a file of the store, and say whether one was deleted.

        `unless` is asked while nobody can add the same file: answer there whether a row still needs
        it, and hold no database transaction open while calling, since an upload may be in the midst
        of committing one. Inside an `incoming` block of the same file this would wait for itself.
        Raises ValueError for what is no hash, CannotWork when the file can't be deleted.
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
        """Remove what killed uploads left in `incoming` more than `older_than` seconds ago; how many.

        `discard_placed` is called, at whatever age, with the SHA-256 of those that have their final name
        already: to `discard` them unless a row needs them.
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
        """A descriptor of the folder `ab/cd`, made durably when it is new."""
        path = Path(os.fsdecode(self.path_of(sha256))).parent
        make_directory(path, mode=_FOLDER_MODE)
        return self._open_shelf(sha256)

    def _open_shelf(self, sha256: str) -> int:
        """A descriptor of the folder `ab/cd`; a symlink in its place is an OSError."""
        handle = os.open(self._folder, _OPEN_FOLDER)
        for name in (sha256[:2], sha256[2:4]):
            try:
                below = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            finally:
                os.close(handle)
            handle = below
        return handle


def open_original(
    path: bytes, *, size: int, mtime_ns: int | None, within: Sequence[bytes] | None
) -> BinaryIO:
    """Open the file of an asset, to be served, if it still is the one that was indexed.

    `size` and `mtime_ns` are the asset's recorded stamp; a time of None is any, for a file whose name
    says what is in it. With `within` the file that was opened, not the name that led to it, has to lie in
    one of these folders (none of them: nowhere); None allows
    any place. Raises OriginalGone, OriginalChanged or OutsideRoots; never waits on a pipe or a device.
    """
    try:
        file = open_regular(path)
    except DecodeError as error:
        if error.__cause__ is not None:
            raise OriginalGone("the original is gone or can't be read") from error
        raise _changed() from error
    try:
        # First where it lies: of a file elsewhere nothing is told, not even whether it changed.
        if within is not None and not _lies_within(file, path, within):
            raise OutsideRoots("the original lies outside the folders that may be read")
        status = os.fstat(file.fileno())
        if status.st_size != size or mtime_ns not in {None, status.st_mtime_ns}:
            raise _changed()
    except BaseException:
        file.close()
        raise
    return file


def _changed() -> OriginalChanged:
    return OriginalChanged(
        "the original is no longer the file that was indexed", remedy="index it again"
    )


def _lies_within(file: BinaryIO, path: bytes, folders: Sequence[bytes]) -> bool:
    """Whether the open file lies in one of the folders, all symlinks resolved."""
    try:
        real = os.readlink(b"/proc/self/fd/%d" % file.fileno())
    except OSError:
        # No such names on this platform: the path is resolved, and has to lead to the same file.
        real = os.path.realpath(path)
        try:
            same = os.path.samestat(os.lstat(real), os.fstat(file.fileno()))
        except OSError:
            same = False
        if not same:
            return False
    return any(real.startswith(os.path.join(os.path.realpath(folder), b"")) for folder in folders)


def _remove_unlocked(path: Path) -> bool:
    """Remove a leftover, unless its upload still goes on."""
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
