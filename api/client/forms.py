"""Multipart forms with files, which are opened for each attempt and streamed from disk."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import BinaryIO, cast

from regard.api.client.connection import Pairs, Parts
from regard.photos.files import uri_of_path

# A file on disk, or a name and the bytes, or a file that is open in binary mode and can seek.
Source = str | os.PathLike[str] | tuple[str, bytes | BinaryIO]

_ANY_TYPE = "application/octet-stream"


def form(
    field: str, sources: Sequence[Source], values: Pairs
) -> Callable[[], AbstractContextManager[Parts]]:
    """Opens a multipart form of fields and files; raises OSError for an unreadable file.

    An open file is sent from its beginning, and stays open. Of a file on disk, as many bytes are
    sent as it had when it was opened; raises OSError when it has become shorter.
    """

    @contextlib.contextmanager
    def opened() -> Iterator[Parts]:
        with ExitStack() as stack:
            parts: Parts = [(name, (None, value.encode())) for name, value in values]
            parts += [(field, _part(source, stack)) for source in sources]
            yield parts

    return opened


def _part(source: Source, stack: ExitStack) -> tuple[str, bytes | BinaryIO, str]:
    # The server recognises the format by the content.
    if isinstance(source, tuple):
        name, content = source
        return name, content, _ANY_TYPE
    path = os.fsencode(source)
    name = uri_of_path(os.path.basename(path))
    return name, cast(BinaryIO, _AsLongAsItWas(stack.enter_context(open(path, "rb")))), _ANY_TYPE


class _AsLongAsItWas:
    """A file for httpx that keeps the length it had at first, which the request announces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        wanted = min(size, self._size - self._file.tell())
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise OSError(errno.EIO, "it became shorter while it was read", self._file.name)
        return data

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(self._size if whence == os.SEEK_END else offset)
