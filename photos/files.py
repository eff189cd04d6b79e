"""Opens files that were found, not made: only regular ones, without ever waiting for a writer."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import BinaryIO

from regard.core.errors import DecodeError, OutsideRoots
from regard.photos.confinement import LEADS_OUT, Confinement

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: FilePath, within: Confinement | None = None) -> BinaryIO:
    """Open a regular file for reading; raises DecodeError for pipes, devices, folders and the like.

    With `within`, for whatever leads out of it too.
    """
    try:
        with contextlib.ExitStack() as entered:
            folder, flags = None, _FLAGS
            if within is not None:
                folder, path = entered.enter_context(within.entered(os.fsencode(path)))
                flags |= os.O_NOFOLLOW
            found = os.stat(path, dir_fd=folder, follow_symlinks=within is None)
            # Looking first keeps devices closed, some of which act on being opened.
            if stat.S_ISREG(found.st_mode):
                file = os.fdopen(os.open(path, flags, dir_fd=folder), "rb")
                # The name may have become something else in between.
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return file
                file.close()
    except OutsideRoots as error:
        raise DecodeError(error.message) from None
    except OSError as error:
        raise DecodeError(f"it can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DecodeError(f"it can't be read: {error}") from error
    raise DecodeError("it is no regular file")


def file_size(path: FilePath, within: Confinement | None = None) -> int:
    """Bytes of the file at `path`; raises DecodeError when there is none, or none `within`."""
    try:
        if within is not None and not within.holds(os.fsencode(path)):
            raise DecodeError(LEADS_OUT)
        return os.stat(path).st_size
    except OSError as error:
        raise DecodeError(f"it can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DecodeError(f"it can't be read: {error}") from error


def read_file(path: FilePath, max_bytes: int, within: Confinement | None = None) -> bytes:
    """The bytes of a regular file; raises DecodeError when it is none, too large or unreadable.

    With `within`, also when it leads out of there.
    """
    with open_regular(path, within) as file:
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
