"""The XMP sidecars in a folder: which one belongs to a photograph, and writing it.

`photo.jpg.xmp` is that of `photo.jpg` alone; `photo.xmp` may be that of several photographs, and
counts where there is no other. All happens through the folder's descriptor, and no link in the
place of a sidecar is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from regard.core.errors import DecodeError
from regard.photos.files import read_open_file, uri_of_path
from regard.photos.formats import PHOTO_SUFFIXES
from regard.photos.metadata.xmp import MAX_XMP_BYTES

SIDECAR_SUFFIX = b".xmp"

_ASIDE = b".regard.aside"
_CHANGED = "its sidecar was changed meanwhile"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_READ = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK


def sidecar_names(name: bytes) -> tuple[bytes, bytes]:
    """The lower-case names of a photograph's possible sidecars, the best first."""
    lower = name.lower()
    return lower + SIDECAR_SUFFIX, os.path.splitext(lower)[0] + SIDECAR_SUFFIX


def sidecar_stamp(name: bytes, status: os.stat_result) -> str:
    """What stands for a sidecar in a `FileStamp`."""
    return f"{uri_of_path(name)}:{status.st_size}:{status.st_mtime_ns}"


def sidecars_by_lower_name(names: Iterable[bytes]) -> dict[bytes, bytes]:
    """The names of sidecars among names, by their lower-case form."""
    return {name.lower(): name for name in names if name.lower().endswith(SIDECAR_SUFFIX)}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A photograph's sidecar: the packet that counts, and the name to write it under.

    `packet` and `stamp` are None if there is none. `is_shared`: the packet is that of `photo.xmp`,
    which other photographs have too, so that another file is written.
    """

    name: bytes
    packet: bytes | None
    stamp: str | None
    is_shared: bool = False


class SidecarFolder:
    """A folder whose sidecars are read and written; close it."""

    def __init__(self, path: bytes) -> None:
        """Open and list the folder; raises OSError."""
        self.path = path
        self._handle = os.open(path, _LIST)
        try:
            names = [os.fsencode(name) for name in os.listdir(self._handle)]
        except OSError:
            self.close()
            raise
        self._sidecars = sidecars_by_lower_name(names)
        # How many names of photographs have each stem.
        self._stems: dict[bytes, int] = {}
        for name in names:
            stem, suffix = os.path.splitext(name.lower())
            if suffix in PHOTO_SUFFIXES:
                self._stems[stem] = self._stems.get(stem, 0) + 1

    def close(self) -> None:
        """Close the folder."""
        os.close(self._handle)

    def find(self, photo: bytes, *, is_raw: bool) -> Sidecar:
        """The sidecar of a photograph in the folder, by its name.

        A new one is named `photo.xmp` for camera RAW, because Adobe's programs read sidecars of no
        other files, and else `photo.jpg.xmp`. Raises DecodeError for one that can't be read.
        """
        own, common = sidecar_names(photo)
        stem, suffix = os.path.splitext(photo.lower())
        is_shared = self._stems.get(stem, 0) > (suffix in PHOTO_SUFFIXES)
        name = self._sidecars.get(own) or self._sidecars.get(common)
        if name is None:
            base = os.path.splitext(photo)[0] if is_raw and not is_shared else photo
            return Sidecar(base + SIDECAR_SUFFIX, None, None)
        packet, status = self._read(name)
        stamp = sidecar_stamp(name, status)
        if is_shared and name.lower() == common != own:
            return Sidecar(photo + SIDECAR_SUFFIX, packet, stamp, is_shared=True)
        return Sidecar(name, packet, stamp)

    def write(self, sidecar: Sidecar, packet: bytes) -> str:
        """Replace a sidecar by a packet, whole or not at all; returns its stamp.

        It keeps the permissions of the former one, and its owner where that is allowed. Raises
        DecodeError if that was changed since it was read, OSError if it can't be written.
        """
        former = None if sidecar.is_shared else sidecar.stamp
        self._require(sidecar.name, former)
        with contextlib.suppress(FileNotFoundError):
            # A killed process left it: one process writes at a time.
            os.unlink(_ASIDE, dir_fd=self._handle)
        handle = os.open(_ASIDE, _WRITE, 0o666, dir_fd=self._handle)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(packet)
                file.flush()
                if former is not None:
                    before = self._status(sidecar.name)
                    with contextlib.suppress(OSError):
                        os.fchown(handle, before.st_uid, before.st_gid)
                    os.fchmod(handle, stat.S_IMODE(before.st_mode))
                os.fsync(handle)
                status = os.fstat(handle)
            self._require(sidecar.name, former)
            os.replace(_ASIDE, sidecar.name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(_ASIDE, dir_fd=self._handle)
            raise
        os.fsync(self._handle)
        self._sidecars[sidecar.name.lower()] = sidecar.name
        return sidecar_stamp(sidecar.name, status)

    def _require(self, name: bytes, stamp: str | None) -> None:
        """Raise DecodeError unless a sidecar, or none, is as it was."""
        try:
            found = sidecar_stamp(name, self._status(name))
        except FileNotFoundError:
            found = None
        if found != stamp:
            raise DecodeError(_CHANGED)

    def _status(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self._handle, follow_symlinks=False)

    def _read(self, name: bytes) -> tuple[bytes, os.stat_result]:
        if not stat.S_ISREG(self._status(name).st_mode):
            raise DecodeError(f"its sidecar {uri_of_path(name)} is a link or not a regular file")
        with os.fdopen(os.open(name, _READ, dir_fd=self._handle), "rb") as file:
            try:
                return read_open_file(file, MAX_XMP_BYTES), os.fstat(file.fileno())
            except DecodeError as error:
                raise DecodeError(
                    f"its sidecar {uri_of_path(name)} can't be used: {error.message}"
                ) from error
