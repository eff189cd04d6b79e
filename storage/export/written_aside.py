"""A folder that is there whole or not at all, whatever ends the process that writes it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from regard.core.errors import CannotWork, Conflict
from regard.storage.files.durable import sync_directory


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A folder that takes the place of `folder` when the block ends well, durably, and else goes.

    Raises Conflict when `folder` holds something, CannotWork when the disk refuses.
    """
    with _disk_errors_named(folder), _renamed(folder) as aside:
        yield aside


@contextlib.contextmanager
def _renamed(folder: Path) -> Iterator[Path]:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already", remedy="name a folder that is new, or empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(".aside", f".{folder.name}.", folder.parent))
    try:
        yield aside
        for path in aside.rglob("*"):
            _sync(path)
        aside.chmod(0o777 & ~_umask())
        sync_directory(aside)
        try:
            # An empty folder gives way; one that was filled meanwhile does not.
            os.rename(aside, folder)
        except OSError as error:
            if not folder.exists():
                raise
            raise Conflict(f"{folder} was filled meanwhile", remedy="name another") from error
        sync_directory(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_directory(path)
        return
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


@contextlib.contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWork(
            f"the export {folder} can't be written: {error.strerror or error}",
            remedy="name a folder on a writable disk with free space",
        ) from error
