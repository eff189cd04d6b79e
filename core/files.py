"""Opens files that were found, not made: only regular ones, without ever waiting for a writer."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from regard.core.errors import DecodeError

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: FilePath) -> BinaryIO:
    """Open a regular file for reading; raises DecodeError for pipes, devices, folders and the like."""
    try:
        # Looking first keeps devices closed, some of which act on being opened.
        if stat.S_ISREG(os.stat(path).st_mode):
            file = os.fdopen(os.open(path, _FLAGS), "rb")
            # The name may have become something else in between.
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file
            file.close()
    except OSError as error:
        raise DecodeError(f"it can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DecodeError(f"it can't be read: {error}") from error
    raise DecodeError("it is no regular file")


def file_size(path: FilePath) -> int:
    """Bytes of the file at `path`; raises DecodeError when there is none."""
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise DecodeError(f"it can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DecodeError(f"it can't be read: {error}") from error


def read_file(path: FilePath, max_bytes: int) -> bytes:
    """The bytes of a regular file; raises DecodeError when it is none, too large or unreadable."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise DecodeError(f"it has {size:,} bytes, more than {max_bytes:,}")
        try:
            data = file.read(size + 1)
        except OSError as error:
            raise DecodeError(f"it can't be read: {error.strerror or error}") from error
        except MemoryError as error:
            raise DecodeError("there is not enough memory to read it") from error
    if not data:
        raise DecodeError("it is empty")
    if len(data) != size:
        raise DecodeError("it changed while it was read")
    return data
