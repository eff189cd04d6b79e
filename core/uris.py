"""How a path is written where only text can stand."""

from __future__ import annotations

import os


def uri_of_path(path: bytes) -> str:
    """The path as text; bytes that are no UTF-8 appear as %XX, so that the text can be stored."""
    text = path.decode("utf-8", errors="surrogateescape")
    return "".join(
        f"%{ord(character) - 0xDC00:02X}" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in text
    )


def absolute_path(path: str | bytes | os.PathLike[str]) -> bytes:
    """The absolute path's bytes, `.`, `..` and repeated slashes folded, symlinks unresolved."""
    absolute = os.path.abspath(os.fsencode(path))
    # POSIX lets two leading slashes mean something else; no system that regard runs on does so.
    return absolute[1:] if os.name == "posix" and absolute.startswith(b"//") else absolute
