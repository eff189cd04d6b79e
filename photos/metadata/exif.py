"""Facts from an EXIF block (EXIF 2.32), including the fields that Windows adds."""

from __future__ import annotations

import math
from datetime import timedelta

from regard.core.facts import Capture, PhotoFacts
from regard.photos.metadata.values import (
    clean_keywords,
    clean_text,
    coordinate,
    decode_text,
    positive,
    star_rating,
    utc_offset,
    wall_clock,
)
from regard.photos.tiff import Directory, TiffBlock

_DESCRIPTION, _MAKE, _MODEL, _SOFTWARE, _DATE_TIME = 270, 271, 272, 305, 306
_EXIF_DIRECTORY, _GPS_DIRECTORY = 34665, 34853
_RATING = 18246
_XP_TITLE, _XP_COMMENT, _XP_KEYWORDS = 40091, 40092, 40094

_EXPOSURE_TIME, _F_NUMBER, _ISO, _FOCAL_LENGTH = 33434, 33437, 34855, 37386
_USER_COMMENT, _LENS_MODEL = 37510, 42036
# (date and time, fraction of a second, UTC offset), closest to the exposure first
_ORIGINAL, _DIGITIZED, _CHANGED = (36867, 37521, 36881), (36868, 37522, 36882), (306, 37520, 36880)

_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = range(1, 7)

_MAX_FIELD = 65_536
_MAX_ISO = 50_000_000

# Descriptions that cameras write into every photograph.
_STOCK_DESCRIPTIONS = {
    *("olympus digital camera", "sony dsc", "minolta digital camera", "samsung camera pictures"),
    *("konica minolta digital camera", "kodak digital still camera", "default", "untitled"),
    *("maker:0x4c,date:0", "<no title>", "picture", "digital camera", "photo"),
}


def exif_facts(block: TiffBlock) -> PhotoFacts:
    """What an EXIF block, or a whole TIFF file, says; fields that can't be read are left out."""
    main = block.first
    detail = next(iter(block.below(main, _EXIF_DIRECTORY)), {})
    gps = next(iter(block.below(main, _GPS_DIRECTORY)), {})
    taken_at, offset = None, None
    for date, fraction, zone in (_ORIGINAL, _DIGITIZED, _CHANGED):
        parsed = wall_clock(_text(block, main if date == _DATE_TIME else detail, date))
        if parsed is not None and not (date == _DATE_TIME and _is_by_libraw(block, main)):
            taken_at = parsed[0] + _subseconds(_text(block, detail, fraction))
            offset = utc_offset(_text(block, detail, zone))
            break
    latitude, longitude = _position(block, gps)
    return PhotoFacts(
        taken_at=taken_at,
        utc_offset_minutes=offset,
        camera_make=_text(block, main, _MAKE),
        camera_model=_text(block, main, _MODEL),
        lens=_text(block, detail, _LENS_MODEL),
        latitude=latitude,
        longitude=longitude,
        title=_wide_text(block, main, _XP_TITLE),
        description=_description(block, main, detail),
        keywords=clean_keywords((_wide_text(block, main, _XP_KEYWORDS) or "").split(";")),
        rating=star_rating(block.integer(main, _RATING)),
        capture=_capture(block, detail, gps),
    )


def _is_by_libraw(block: TiffBlock, main: Directory) -> bool:
    """Whether LibRaw wrote the block for a preview that had none; its date is then meaningless."""
    software, date = _text(block, main, _SOFTWARE) or "", _text(block, main, _DATE_TIME) or ""
    return software.startswith("dcraw") and date.startswith("1970")


def _subseconds(text: str | None) -> timedelta:
    """Parse the digits after the decimal point of a second."""
    if text is None or not text.isascii() or not text.isdigit():
        return timedelta()
    return timedelta(microseconds=int(text.ljust(6, "0")[:6]))


def _position(block: TiffBlock, gps: Directory) -> tuple[float | None, float | None]:
    latitude = coordinate(block.numbers(gps, _LATITUDE), _text(block, gps, _LATITUDE_REF))
    longitude = coordinate(block.numbers(gps, _LONGITUDE), _text(block, gps, _LONGITUDE_REF))
    if latitude is None or longitude is None or not -90 <= latitude <= 90:
        return None, None
    return latitude, longitude


def _capture(block: TiffBlock, detail: Directory, gps: Directory) -> Capture:
    iso = block.integer(detail, _ISO)
    altitude = _number(block, gps, _ALTITUDE)
    if altitude is not None and block.integer(gps, _ALTITUDE_REF) == 1:
        altitude = -altitude
    return Capture(
        exposure_seconds=positive(_number(block, detail, _EXPOSURE_TIME)),
        f_number=positive(_number(block, detail, _F_NUMBER)),
        iso=iso if iso is not None and 0 < iso <= _MAX_ISO else None,
        focal_length_mm=positive(_number(block, detail, _FOCAL_LENGTH)),
        altitude_m=altitude,
    )


def _number(block: TiffBlock, directory: Directory, tag: int) -> float | None:
    value = next(iter(block.numbers(directory, tag, 1)), None)
    return value if value is not None and math.isfinite(value) else None


def _text(block: TiffBlock, directory: Directory, tag: int) -> str | None:
    raw = block.raw(directory, tag, _MAX_FIELD)
    return clean_text(decode_text(raw.split(b"\0", 1)[0]))


def _wide_text(block: TiffBlock, directory: Directory, tag: int) -> str | None:
    raw = block.raw(directory, tag, _MAX_FIELD)
    text = raw[: len(raw) // 2 * 2].decode("utf-16-le", errors="ignore")
    return clean_text(text.split("\0", 1)[0])


def _description(block: TiffBlock, main: Directory, detail: Directory) -> str | None:
    candidates = (
        _text(block, main, _DESCRIPTION),
        _user_comment(block.raw(detail, _USER_COMMENT, _MAX_FIELD)),
        _wide_text(block, main, _XP_COMMENT),
    )
    for text in candidates:
        if text is not None and text.lower() not in _STOCK_DESCRIPTIONS:
            return text
    return None


def _user_comment(raw: bytes) -> str | None:
    """Decode the text after the eight bytes that name its charset; None for other charsets."""
    charset, text = raw[:8], raw[8:]
    if charset == b"ASCII\0\0\0":
        return clean_text(decode_text(text.split(b"\0", 1)[0]))
    if charset == b"UNICODE\0":
        # Writers disagree about the byte order, but most text is ASCII.
        order = "utf-16-be" if text[::2].count(0) > text[1::2].count(0) else "utf-16-le"
        wide = text[: len(text) // 2 * 2].decode(order, errors="ignore")
        return clean_text(wide.split("\0", 1)[0])
    return None
