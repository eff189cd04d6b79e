"""Atomic, durable file writes: after a crash or a power cut a file is complete or absent.

A file is written under another name, synced and renamed; a name is durable once its directory is
synced. POSIX semantics are assumed: rename replaces atomically, a directory can be synced.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
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
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(aside, path)


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
def exclusive(directory: Path) -> Iterator[None]:
    """Lock a directory for one writer, waiting for others. The lock ends with the process."""
    handle = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
