"""The managed store of uploaded files in a bucket, `s3://bucket/prefix/originals/ab/cd/<name>`.

A file is hashed into a local temporary file while it arrives, inspected there, and sent once. Its
name is its SHA-256 and a number that is never used twice. So an upload, and a deletion that the
network delays, never meet under one name, and no locks between servers are needed: the catalog
alone decides which objects are needed. Before an object is sent, `announce` records its name; the
transaction that writes the asset takes the record back. What a killed server announced or forgot
is deleted later by these records, without listing the bucket.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from regard.core.errors import CannotWork
from regard.photos.buckets import delete_object, put_object, require_installed
from regard.storage.files.originals import Incoming, StoredOriginal, name_of

# Uploads that were moved from a folder have no number.
_NAME = re.compile(r"[0-9a-f]{64}(?:-([0-9a-f]{12})[0-9a-f]{8})?")


class BucketOriginals:
    """The managed store at `uri`, such as `s3://bucket/prefix`; see `OriginalStore`.

    Raises MissingDependency.
    """

    def __init__(self, uri: str, announce: Callable[[str], None]) -> None:
        require_installed()
        self._folder = f"{uri}/originals".encode()
        self._announce = announce

    @contextlib.contextmanager
    def incoming(self) -> Iterator[BucketIncoming]:
        """As in the Protocol."""
        with _spooling():
            file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        with file:
            yield BucketIncoming(self, file)

    def path_of(self, name: str) -> bytes:
        """As in the Protocol."""
        if not _NAME.fullmatch(name):
            raise ValueError("expected a SHA-256 of 64 hex digits, and perhaps a number")
        return b"/".join((self._folder, name[:2].encode(), name[2:4].encode(), name.encode()))

    def holds(self, path: bytes) -> bool:
        """As in the Protocol."""
        name = name_of(path)
        return _NAME.fullmatch(name) is not None and path == self.path_of(name)

    def discard(self, name: str, *, unless: Callable[[], bool] | None = None) -> bool:
        """As in the Protocol. No row begins to need an object that none needs."""
        if unless is not None and unless():
            return False
        return delete_object(self.path_of(name))

    def sweep(self, *, discard_placed: Callable[[str], object]) -> int:
        """As in the Protocol: temporary files have no name, and the catalog knows the objects."""
        del discard_placed
        return 0

    def store(self, sha256: str, file: BinaryIO) -> StoredOriginal:
        """Announce and send a file under a new name; raises StoreUnavailable."""
        name = f"{sha256}-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        path = self.path_of(name)
        self._announce(name)
        status = put_object(path, file)
        return StoredOriginal(sha256, status.size, status.mtime_ns, path, was_there=False)


class BucketIncoming(Incoming):
    """A file being added to the bucket, created by `BucketOriginals.incoming`."""

    def __init__(self, originals: BucketOriginals, file: BinaryIO) -> None:
        super().__init__()
        self._originals = originals
        self._file = file

    def _append(self, chunk: bytes) -> None:
        with _spooling():
            self._file.write(chunk)

    def _opened(self) -> BinaryIO:
        with _spooling():
            self._file.seek(0)
            return os.fdopen(os.dup(self._file.fileno()), "rb")

    def _place(self) -> StoredOriginal:
        with _spooling():
            self._file.flush()
        stored = self._originals.store(self.sha256, self._file)
        self._file.close()
        return stored


def announced_at(name: str) -> float:
    """When the name of an object was made, in seconds since 1970."""
    match = _NAME.fullmatch(name)
    return int(match[1], 16) / 1000 if match is not None and match[1] else 0.0


@contextlib.contextmanager
def _spooling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWork(
            f"uploads can't be buffered: {error.strerror or error}",
            remedy="free space in the folder of temporary files, TMPDIR",
        ) from error
