"""Atomic, durable file writes: after a crash or a power cut a file is complete or absent.

A file is written under another name, synced and renamed; a name is durable once its directory is
synced. POSIX semantics are assumed: rename replaces atomically, a directory can be synced.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ASIDE_SUFFIX = ".aside"
_LOCK_NAME = "lock"


def make_directory(directory: Path, mode: int = 0o777) -> None:
    """Create a directory and its parents durably; `mode` applies to new ones."""
    missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    for path in reversed(missing):
        path.mkdir(mode, exist_ok=True)
        sync_directory(path.parent)


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Replace `path` by the chunks; durable once the directory is synced. Raises OSError."""
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    write_synced(aside, chunks)
    os.replace(aside, path)


def write_named_by_content(
    directory: Path, chunks: Iterable[bytes | memoryview], suffix: str, there: Container[str]
) -> str:
    """Write the chunks to a file named by their SHA-256 and a suffix; return the SHA-256.

    Files named in `there` stay as they are. It is durable once the directory is synced. Raises
    OSError.
    """
    aside = directory / f"new{suffix}{ASIDE_SUFFIX}"
    sha256 = write_synced(aside, chunks)
    path = directory / (sha256 + suffix)
    if path.name in there and path.exists():
        os.unlink(aside)
    else:
        os.replace(aside, path)
    return sha256


def write_synced(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write the chunks to a file, which may be left in parts by a crash; return their SHA-256.

    Raises OSError.
    """
    sha256 = hashlib.sha256()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            sha256.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return sha256.hexdigest()


def sync_directory(directory: Path) -> None:
    """Sync the names in a directory to disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """Remove a file if it exists."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


@contextmanager
def exclusive(directory: Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Lock a directory for one writer, waiting for others. The lock ends with the process.

    `wait`, which may raise, is called again and again while another process has it.
    """
    handle = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if wait is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            while not _is_locked(handle):
                wait()
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int) -> bool:
    """Whether a file is locked now; never waits."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
