"""Decodes and cleans the texts of metadata."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable
from itertools import islice

_MAX_TEXT = 16_384
_MAX_KEYWORD = 256
_MAX_KEYWORDS = 1_000
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Latin, Greek, Cyrillic and the other alphabets lie below.
_ALPHABETS_END = "\u2100"


def clean_text(text: str | None, limit: int = _MAX_TEXT) -> str | None:
    """Compose letters (NFC), strip control characters except line feeds and tabs, and surrogates.

    Returns None if nothing is left.
    """
    if text is None:
        return None
    kept = "".join(
        character
        for character in text[: 2 * limit].replace("\r\n", "\n").replace("\r", "\n")
        if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs"}
    )
    composed = unicodedata.normalize("NFC", kept.strip("\ufeff"))
    return composed.strip()[:limit].rstrip() or None


def clean_keywords(keywords: Iterable[str | None]) -> tuple[str, ...]:
    """Clean keywords and drop repeated ones, keeping their order."""
    first = islice(keywords, 10 * _MAX_KEYWORDS)
    cleaned = (clean_text(keyword, _MAX_KEYWORD) for keyword in first)
    return tuple(dict.fromkeys(keyword for keyword in cleaned if keyword))[:_MAX_KEYWORDS]


def decode_text(data: bytes) -> str:
    """Decode bytes without a declared charset: by a byte order mark, as UTF-8, or as cp1252."""
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(charset, errors="ignore")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # A field of limited size may end within a character.
        lenient = data.decode("utf-8", errors="ignore")
        return _decode_western(data) if lenient.isascii() else lenient


def _decode_western(data: bytes) -> str:
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_utf16(data: bytes, order: str) -> str:
    """Decode UTF-16 without a byte order mark, up to the first null character.

    `order` is the expected byte order, "<" or ">"; the other one is used where the bytes rule the
    expected one out, or read as nothing but letters of alphabets in the other one only.
    """
    data = data[: len(data) // 2 * 2]
    expected, swapped = (
        data.decode(charset, errors="replace").split("\0", 1)[0]
        for charset in (("utf-16-le", "utf-16-be") if order == "<" else ("utf-16-be", "utf-16-le"))
    )
    if _is_alphabetic(swapped) and len(swapped) > 1 and not _is_alphabetic(expected):
        return swapped
    return swapped if is_garbled(expected) and not is_garbled(swapped) else expected


def _is_alphabetic(text: str) -> bool:
    return bool(text) and all(
        ("\n" <= character < _ALPHABETS_END and character.isprintable()) or character in "\n\r\t"
        for character in text
    )


def is_garbled(text: str) -> bool:
    """Whether a text is empty or has characters that no text has."""
    unassigned = {"Cn", "Co", "Cc", "Cs"}
    return not text or any(
        character == "\ufffd"
        or (character not in "\n\r\t" and unicodedata.category(character) in unassigned)
        for character in text
    )


def decode_unicode(data: bytes, order: str) -> str:
    """Decode text of an unnamed Unicode encoding: UTF-8, or UTF-16 in the expected `order`.

    A byte order mark is obeyed.
    """
    if data.startswith(tuple(mark for mark, _ in _BOMS)):
        return decode_text(data).split("\0", 1)[0]
    length = len(data.rstrip(b"\0"))
    data = data[: length + length % 2]
    wide = decode_utf16(data, order)
    # A null at the end may also end a text of bytes.
    if b"\0" in (data[:-1] if len(data) > 2 else data):
        return wide
    try:
        text = data.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return wide
    return wide if data.isascii() and _is_wide_ascii(data, text, wide) else text


def _is_wide_ascii(data: bytes, text: str, wide: str) -> bool:
    """Whether bytes that all are ASCII are more probably UTF-16, `wide`, than `text`."""
    if not wide or len(data) % 2:
        return False
    if is_garbled(text):
        return True
    # Characters of one alphabet or of kana have one high byte, below the letters of ASCII.
    has_one_block = not text.isdigit() and any(
        len(high) == 1 and high <= {*range(0x20), 0x30}
        for high in (set(data[::2]), set(data[1::2]))
    )
    # Both bytes of a Chinese character may be ASCII, but rarely letters or digits.
    is_han = len(data) <= 4 and all("\u4e00" <= character < "\ua000" for character in wide)
    return has_one_block or (is_han and not text.isalnum())
