"""Paths as text."""

from __future__ import annotations

import os

from regard.core.words import composed


def uri_of_path(path: bytes) -> str:
    """The path as storable text; bytes that are not valid UTF-8 appear as %XX."""
    if path.isascii():
        return path.decode()
    text = path.decode("utf-8", errors="surrogateescape")
    return "".join(
        f"%{ord(character) - 0xDC00:02X}" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in text
    )


def composed_path(path: bytes) -> bytes:
    """The path with composed letters (NFC), for comparisons: macOS decomposes names."""
    return composed(path.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def absolute_path(path: str | bytes | os.PathLike[str]) -> bytes:
    """The normalised absolute path as bytes, with symlinks unresolved."""
    absolute = os.path.abspath(os.fsencode(path))
    # POSIX allows two leading slashes a special meaning, which no supported system uses.
    return absolute[1:] if os.name == "posix" and absolute.startswith(b"//") else absolute
