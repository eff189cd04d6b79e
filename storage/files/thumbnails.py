"""A cache of thumbnails and crops on disk, which may be deleted at any time.

Files are named by the content's SHA-256 and a variant, both validated, so no part of a request
becomes a path. Each file starts with the CRC-32 of the rest; a damaged file counts as missing. The
cache never fails a request: if it can't be written, images are rendered each time. Several
processes may share it.

Servers may also share a `SharedThumbnails`, where what another server rendered is found. It too is
only a cache.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

_logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_PART = rf"crop-{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}-|moment-(?:0|[1-9][0-9]{{0,9}})-"
_VARIANT = re.compile(rf"(?:{_PART})?(?:256|512|1024|4096)")

_CHECKSUM_BYTES = 4
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_ASIDE_SUFFIX = ".aside"
_ASIDE_SECONDS = 3600.0
# Listing the files costs about a second per 100,000, so it waits for some growth.
_GROWTH_SHARE = 16
# Evicting a little more than needed leaves room until the next check.
_KEPT_SHARE = 0.9


class SharedThumbnails(Protocol):
    """A cache behind those of several servers. Thread-safe."""

    def find(self, sha256: str, variant: str) -> bytes | None:
        """The image, None if it is missing or the cache does not answer."""

    def store(self, sha256: str, variant: str, data: bytes) -> None:
        """Store an image, unless the cache does not answer."""

    def discard(self, sha256: str) -> None:
        """Delete all variants of one content; raises StoreUnavailable."""


class Thumbnails:
    """The cache in `folder`, of about `max_bytes`; `renderings` images are rendered at once.

    All methods may be called from several threads.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 2 << 30,
        renderings: int = 2,
        shared: SharedThumbnails | None = None,
    ) -> None:
        self._folder = folder
        self._shared = shared
        self._max_bytes = max_bytes
        self._rendering = threading.BoundedSemaphore(renderings)
        self._lock = threading.Lock()
        self._making: dict[Path, Future[bytes]] = {}
        # The first write checks what earlier processes left.
        self._grown = max_bytes
        self._evicting = threading.Lock()

    def find(self, sha256: str, variant: str) -> bytes | None:
        """The cached image, None if missing or damaged; raises ValueError for an invalid name."""
        path = self._path(sha256, variant)
        found = _read(path)
        if found is None and self._shared is not None:
            found = self._shared.find(sha256, variant)
            if found is not None:
                self._store(path, found)
        return found

    def get(self, sha256: str, variant: str, make: Callable[[], bytes]) -> bytes:
        """The image, rendered by `make` if it is missing or damaged.

        Waits for a free rendering slot. Concurrent calls for the same image share the bytes or the
        exception. Raises ValueError for an invalid hash or variant, and what `make` raises.
        """
        path = self._path(sha256, variant)
        found = _read(path)
        if found is not None:
            return found
        with self._lock:
            future = self._making.get(path)
            mine = future is None
            if future is None:
                future = self._making[path] = Future()
        if mine:
            self._make(path, make, future)
            if self._shared is not None:
                self._shared.store(sha256, variant, future.result())
        return future.result()

    def discard(self, sha256: str) -> None:
        """Delete all variants of one content; raises ValueError if it is not a hash.

        Raises StoreUnavailable if the shared ones can't be deleted.
        """
        _remove_folder(self._path(sha256, "256").parent)
        if self._shared is not None:
            self._shared.discard(sha256)

    def keep_only(self, known: Callable[[Sequence[str]], Collection[str]]) -> None:
        """Delete all variants of contents that are not `known`; shared ones stay.

        `known` gets some hashes, and returns those that are.
        """
        try:
            for shelf in _entries(self._folder):
                hashes = [one.name for one in _entries(shelf.path) if _SHA256.fullmatch(one.name)]
                for sha256 in set(hashes).difference(known(hashes) if hashes else ()):
                    _remove_folder(Path(shelf.path, sha256))
        except OSError as error:
            self._warn(error)

    def _path(self, sha256: str, variant: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError("expected a SHA-256 of 64 hex digits")
        if not _VARIANT.fullmatch(variant):
            raise ValueError(f"there is no variant {variant!r}")
        return self._folder / sha256[:2] / sha256 / variant

    def _make(self, path: Path, make: Callable[[], bytes], future: Future[bytes]) -> None:
        try:
            with self._rendering:
                # Another thread may have finished it between the check and the promise.
                found = _read(path)
                data = make() if found is None else found
            if found is None:
                self._store(path, data)
        except BaseException as error:  # noqa: BLE001 - all waiting threads get it, this one too
            self._forget(path)
            future.set_exception(error)
        else:
            self._forget(path)
            future.set_result(data)

    def _forget(self, path: Path) -> None:
        with self._lock:
            del self._making[path]

    def _store(self, path: Path, data: bytes) -> None:
        try:
            _write(path, data)
            with self._lock:
                self._grown += len(data)
                grown = self._grown > self._max_bytes // _GROWTH_SHARE
            if grown and self._evicting.acquire(blocking=False):
                try:
                    self._evict()
                finally:
                    self._evicting.release()
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        _logger.warning("the thumbnail cache %s can't be written: %s", self._folder, error)

    def _evict(self) -> None:
        """Delete the oldest files until the rest fits, and what killed writers left."""
        with self._lock:
            self._grown = 0
        files = []
        stale = time.time() - _ASIDE_SECONDS
        for entry in _files(self._folder):
            # Other processes evict and discard at the same time.
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if not entry.name.endswith(_ASIDE_SUFFIX):
                    files.append((status.st_mtime_ns, status.st_size, entry.path))
                elif status.st_mtime < stale:
                    os.unlink(entry.path)
        total = sum(size for _, size, _ in files)
        if total <= self._max_bytes:
            return
        for _, size, path in sorted(files):
            _remove(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))
            total -= size
            if total <= self._max_bytes * _KEPT_SHARE:
                break


def _read(path: Path) -> bytes | None:
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    data = stored[_CHECKSUM_BYTES:]
    sound = bool(data) and stored[:_CHECKSUM_BYTES] == _checksum(data)
    return data if sound else None


def _write(path: Path, data: bytes) -> None:
    path.parent.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
    path.parent.mkdir(_FOLDER_MODE, exist_ok=True)
    aside = path.with_name(uuid.uuid4().hex + _ASIDE_SUFFIX)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(aside, flags, _FILE_MODE), "wb") as file:
            file.write(_checksum(data))
            file.write(data)
        os.replace(aside, path)
    except BaseException:
        _remove(aside)
        raise


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All files two levels below."""
    for shelf in _entries(folder):
        for content in _entries(shelf.path):
            yield from _entries(content.path)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_folder(folder: Path) -> None:
    """Delete a folder of files, unless another one is being written there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):
            _remove(folder / name)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove(path: str | Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
