"""Properties from an EXIF block (Exif 3.0), including the fields that Windows adds."""

from __future__ import annotations

import math
from collections.abc import Iterator

from regard.photos.metadata.texts import (
    clean_text,
    decode_text,
    decode_unicode,
    decode_utf16,
    is_garbled,
)
from regard.photos.tiff import Directory, TiffBlock

_EXIF_DIRECTORY, _GPS_DIRECTORY = 34665, 34853
_SOFTWARE, _DATE_TIME = 305, 306
_USER_COMMENT, _MAKER_NOTE = 37510, 37500
# A directory follows, whose offsets count from the start of the note.
_APPLE_NOTE, _APPLE_DIRECTORY, _APPLE_CONTENT_IDENTIFIER = b"Apple iOS\0", 14, 17
_LATITUDE, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE, _GPS_STATUS = 2, 4, 5, 6, 9

_TEXTS = {"ImageDescription": 270, "Make": 271, "Model": 272, "LensModel": 42036}
_WIDE_TEXTS = {"XPTitle": 40091, "XPComment": 40092, "XPKeywords": 40094, "XPSubject": 40095}
_NUMBERS = {
    "Rating": 18246,
    "RatingPercent": 18249,
    "ExposureTime": 33434,
    "FNumber": 33437,
    "PhotographicSensitivity": 34855,
    "RecommendedExposureIndex": 34866,
    "ISOSpeed": 34867,
    "FocalLength": 37386,
    "LensSpecification": 42034,
    "DNGLensInfo": 50736,
}
# Date and time, fraction of a second, UTC offset.
_DATES = {
    "DateTimeOriginal": (36867, 37521, 36881),
    "DateTimeDigitized": (36868, 37522, 36882),
    "DateTime": (_DATE_TIME, 37520, 36880),
}
_TEXT_TYPES = {1, 2, 7, 129}
_MAX_FIELD = 65_536


def exif_properties(block: TiffBlock) -> dict[str, list[str]]:
    """Values by Exif's name of the field; fields that can't be read are left out.

    Numbers are decimal, several are separated by spaces. A date includes its fraction and offset,
    a coordinate its hemisphere.
    """
    return {name: [value] for name, value in _properties(block) if value}


def _properties(block: TiffBlock) -> Iterator[tuple[str, str | None]]:
    main = block.first
    # TIFF/EP puts some fields of the EXIF directory into the main one.
    fields = {**main, **next(iter(block.below(main, _EXIF_DIRECTORY)), {})}
    for name, tag in _TEXTS.items():
        yield name, _text(block, fields, tag)
    for name, tag in _WIDE_TEXTS.items():
        yield name, clean_text(decode_utf16(block.raw(fields, tag, _MAX_FIELD), "<"))
    for name, tag in _NUMBERS.items():
        yield name, _numbers(block, fields, tag, 4)
    yield "UserComment", _user_comment(block.raw(fields, _USER_COMMENT, _MAX_FIELD), block.order)
    for name, (date, fraction, offset) in _DATES.items():
        text = _text(block, fields, date)
        if text is not None and not (date == _DATE_TIME and _is_by_libraw(block, main)):
            digits = _text(block, fields, fraction) or ""
            decimals = f".{digits}" if digits.isascii() and digits.isdigit() else ""
            yield name, f"{text}{decimals} {_text(block, fields, offset) or ''}"
    yield "AppleContentIdentifier", _apple_content_identifier(block, fields)
    gps = next(iter(block.below(main, _GPS_DIRECTORY)), {})
    if (_text(block, gps, _GPS_STATUS) or "").upper() != "V":  # void
        yield "GPSLatitude", _coordinate(block, gps, _LATITUDE)
        yield "GPSLongitude", _coordinate(block, gps, _LONGITUDE)
    yield "GPSAltitude", _numbers(block, gps, _ALTITUDE, 1)
    reference = _numbers(block, gps, _ALTITUDE_REF, 1) or _text(block, gps, _ALTITUDE_REF)
    yield "GPSAltitudeRef", reference


def _is_by_libraw(block: TiffBlock, main: Directory) -> bool:
    """Whether LibRaw wrote the block for a preview that had none; its date is then meaningless."""
    software, date = _text(block, main, _SOFTWARE) or "", _text(block, main, _DATE_TIME) or ""
    return software.startswith("dcraw") and date.startswith("1970")


def _apple_content_identifier(block: TiffBlock, fields: Directory) -> str | None:
    """What both files of a Live Photo have."""
    note = block.raw(fields, _MAKER_NOTE, _MAX_FIELD)
    if not note.startswith(_APPLE_NOTE):
        return None
    order = "<" if note[_APPLE_DIRECTORY - 2 : _APPLE_DIRECTORY] == b"II" else ">"
    inner = TiffBlock(note, order, big=False, first=_APPLE_DIRECTORY)
    return _text(inner, inner.first, _APPLE_CONTENT_IDENTIFIER)


def _coordinate(block: TiffBlock, gps: Directory, tag: int) -> str | None:
    """Degrees, minutes and seconds with the hemisphere, the field before; None without one."""
    numbers = _numbers(block, gps, tag, 3)
    hemisphere = _text(block, gps, tag - 1) or ""
    if numbers is None or not (hemisphere or numbers.startswith("-")):
        return None
    return f"{numbers} {hemisphere}"


def _numbers(block: TiffBlock, directory: Directory, tag: int, limit: int) -> str | None:
    """The numbers up to the first undefined one; a lens may lack the second and later ones."""
    values = block.numbers(directory, tag, limit)
    shown = [repr(value) if value is not None and math.isfinite(value) else "?" for value in values]
    if tag in {_LATITUDE, _LONGITUDE} and "?" in shown:
        shown = shown[: shown.index("?")]
    return " ".join(shown) or None


def _text(block: TiffBlock, directory: Directory, tag: int) -> str | None:
    entry = directory.get(tag)
    if entry is None or entry.type not in _TEXT_TYPES:
        return None
    raw = block.raw(directory, tag, _MAX_FIELD)
    is_wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    return clean_text(decode_text(raw if is_wide else raw.split(b"\0", 1)[0]))


def _user_comment(raw: bytes, order: str) -> str | None:
    """Decode the text after the eight bytes that name its charset."""
    charset, text = raw[:8].rstrip(b"\0 ").upper(), raw[8:]
    if charset == b"UNICODE":
        return clean_text(decode_unicode(text, order))
    if charset == b"JIS":
        return clean_text(_decode_jis(text.rstrip(b"\0 ")))
    if charset not in {b"ASCII", b""}:
        # Some programs leave the charset out.
        text = raw
    has_nulls = b"\0" in text.strip(b"\0")
    decoded = decode_unicode(text, order) if has_nulls else decode_text(text.strip(b"\0"))
    decoded = decoded.split("\0", 1)[0]
    # Telephones write binary data without a charset.
    is_binary = charset == b"" and has_nulls and is_garbled(decoded)
    return None if is_binary else clean_text(decoded)


def _decode_jis(data: bytes) -> str:
    """Decode JIS X 0208, which programs write in any of the Japanese encodings."""
    charsets = (
        ("iso2022_jp", "utf-8", "cp932", "euc_jp")
        if b"\x1b" in data
        else ("utf-8", "cp932", "euc_jp")
    )
    for charset in charsets:
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    return decode_text(data)
