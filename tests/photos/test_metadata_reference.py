"""Metadata beside ExifTool's reading of the same files (Debian: libimage-exiftool-perl).

docs/metadata.md names the differences, all on purpose.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image as Pillow

from regard.core.facts import DatePrecision
from regard.photos.photo_file import PhotoFile

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        shutil.which("exiftool") is None and "CI" not in os.environ,
        reason="run: apt-get install libimage-exiftool-perl",
    ),
]

FORMATS = {
    **{"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF"},
    **{"gif": "GIF", "heic": "HEIF", "avif": "AVIF"},
}
TURNED = {"Horizontal (normal)": 1, "Rotate 180": 3, "Rotate 90 CW": 6, "Rotate 270 CW": 8}
EXIF = (
    *("-EXIF:Make=Acme", "-EXIF:Model=One", "-EXIF:LensModel=50mm F1.8", "-EXIF:Rating=3"),
    *("-EXIF:DateTimeOriginal=2004:05:01 12:03:04", "-EXIF:SubSecTimeOriginal=25"),
    *("-EXIF:OffsetTimeOriginal=+05:30", "-EXIF:ImageDescription=A café", "-EXIF:Orientation#=6"),
    *("-EXIF:XPTitle=Заголовок", "-EXIF:XPKeywords=one;two", "-EXIF:GPSLatitude=52.5"),
    *("-EXIF:GPSLatitudeRef=S", "-EXIF:GPSLongitude=13.4", "-EXIF:GPSLongitudeRef=W"),
)
XMP = (
    *("-XMP-tiff:Make=Acme", "-XMP-tiff:Model=Two", "-XMP-exifEX:LensModel=35mm", "-XMP:Rating=4"),
    *("-XMP-photoshop:DateCreated=2005:06:02 13:04:05+02:00", "-XMP-dc:Title=京都"),
    *("-XMP-dc:Description=A garden", "-XMP-dc:Subject=tree", "-XMP-dc:Subject=Bäume"),
    *("-XMP-exif:GPSLatitude=48.8584", "-XMP-exif:GPSLongitude=2.35"),
)
IPTC = (
    *("-IPTC:ObjectName=iptc title", "-IPTC:Caption-Abstract=iptc caption", "-IPTC:Keywords=k1"),
    *("-IPTC:Keywords=k2", "-IPTC:DateCreated=2003:04:05", "-IPTC:TimeCreated=10:11:12+01:00"),
)
DATES = (
    *("-EXIF:DateTimeOriginal=2001:01:01 01:01:01", "-EXIF:CreateDate=2002:02:02 02:02:02"),
    *("-EXIF:ModifyDate=2003:03:03 03:03:03", "-XMP-photoshop:DateCreated=2004:04:04 04:04:04"),
    *("-XMP-xmp:CreateDate=2005:05:05 05:05:05", "-XMP-xmp:ModifyDate=2006:06:06 06:06:06"),
    *("-IPTC:DateCreated=2007:07:07", "-IPTC:DigitalCreationDate=2008:08:08"),
)
SCRIPTS = ("京都の庭", "一二三四", "луна", "Garden in Kyoto", "すし", "서울의 밤", "Ελλάδα", "山水")
PLACES = (
    ("0", "N", "0", "E"),
    ("52.5", "N", "13.4", "E"),
    ("33.9", "S", "18.4", "E"),
    ("40.7128", "N", "74.006", "W"),
    ("0", "N", "32.5", "E"),
    ("90", "S", "0", "E"),
)
STALE = ("-XMP-dc:Title=xmp", "-XMP-dc:Subject=xmp", "-XMP-dc:Description=xmp caption", *IPTC)


def cases() -> Iterator[tuple[str, tuple[str, ...]]]:
    """File type and arguments of ExifTool, which writes the metadata."""
    for kind in FORMATS:
        if kind != "gif":
            yield kind, EXIF
            yield kind, (*EXIF, *XMP)
        yield kind, XMP
    for kind in ("jpg", "tif"):
        yield kind, IPTC
        yield kind, (*IPTC, *XMP)
        yield kind, (*IPTC, *EXIF)
        yield kind, ("-EXIF:ImageDescription=OK", *STALE)
        for digest in ("new", "00112233445566778899aabbccddeeff"):
            yield kind, (*STALE, f"-IPTCDigest={digest}")
    for pair in itertools.combinations(DATES, 2):
        yield "jpg", pair
    for order, text in itertools.product(("II", "MM"), SCRIPTS):
        yield "jpg", ("-m", f"-ExifByteOrder={order}", f"-EXIF:UserComment={text}")
    for text in SCRIPTS:
        yield "jpg", (f"-EXIF:XPTitle={text}", f"-EXIF:XPComment={text}")
        yield "jpg", (f"-EXIF:ImageDescription={text}",)
        yield "jpg", ("-IPTC:CodedCharacterSet=UTF8", f"-IPTC:ObjectName={text}")
    yield "jpg", ("-IPTC:ObjectName=Café “x”", "-IPTC:Keywords=Größe")
    for date in ("1985", "1985:07", "1985:07:04", "1985:07:04 12:30", "1985:07:04 12:30:15.5Z"):
        yield "jpg", (f"-XMP-photoshop:DateCreated={date}",)
    for north, ref, east, other in PLACES:
        yield (
            "jpg",
            (
                *(f"-EXIF:GPSLatitude={north}", f"-EXIF:GPSLatitudeRef={ref}"),
                *(f"-EXIF:GPSLongitude={east}", f"-EXIF:GPSLongitudeRef={other}"),
            ),
        )
        yield "png", (f"-XMP:GPSLatitude={north} {ref}", f"-XMP:GPSLongitude={east} {other}")
    yield "jpg", ("-EXIF:GPSLatitude=52.5", "-EXIF:GPSLongitude=13.4", *XMP[-2:])
    for stars in ("-EXIF:Rating=2", "-XMP:Rating=-1", "-XMP:Rating=0", "-XMP-acdsee:Rating=3"):
        yield "jpg", (stars,)
    yield "jpg", ("-EXIF:Rating=2", "-XMP:Rating=5")
    for lens in (
        "-EXIF:LensInfo=24 70 2.8 4",
        "-XMP-aux:Lens=EF 50mm",
        "-XMP-aux:LensInfo=50 50 2 2",
    ):
        yield "jpg", (lens,)
    yield "jpg", ("-XMP-lr:HierarchicalSubject=Places|France", "-XMP-dc:Subject=France")
    yield "jpg", ("-XMP-digiKam:TagsList=Places/France",)
    yield "jpg", ("-XMP-microsoft:LastKeywordXMP=Places/France",)
    for turn in (1, 3, 6, 8):
        for kind in ("jpg", "png", "webp"):
            yield kind, (f"-EXIF:Orientation#={turn}",)


def exiftool(*arguments: str) -> bytes:
    stdin = "\n".join(arguments).encode()
    done = subprocess.run(
        ["exiftool", "-@", "-"], input=stdin, capture_output=True, check=False, timeout=600
    )
    return done.stdout


def pick(tags: dict[str, Any], *names: str) -> Any:
    return next((tags[name] for name in names if tags.get(name, "") != ""), None)


def listed(value: Any) -> list[str]:
    return (
        [] if value is None else [str(v) for v in (value if isinstance(value, list) else [value])]
    )


def reference(tags: dict[str, Any]) -> dict[str, Any]:
    """What ExifTool reads, by its MWG tags where sources conflict."""
    is_stale = tags.get("Photoshop:IPTCDigest") not in {None, tags.get("File:CurrentIPTCDigest")}
    titles = ["XMP-dc:Title", "IPTC:ObjectName"][:: -1 if is_stale else 1]
    date = pick(tags, "MWG:DateTimeOriginal", "MWG:CreateDate", "MWG:ModifyDate")
    degrees = [
        pick(tags, f"Composite:GPS{name}", f"XMP-exif:GPS{name}")
        for name in ("Latitude", "Longitude")
    ]
    place = None if None in degrees else tuple(float(part) for part in degrees)
    keywords = listed(pick(tags, "MWG:Keywords")) + [
        level
        for name, mark in (
            ("XMP-lr:HierarchicalSubject", "|"),
            ("XMP-digiKam:TagsList", "/"),
            ("XMP-microsoft:LastKeywordXMP", "/"),
        )
        for path in listed(tags.get(name))
        for level in path.split(mark)
    ]
    rating = pick(tags, "MWG:Rating", "IFD0:Rating", "XMP-acdsee:Rating")
    return {
        "date": None if date is None else str(date),
        "place": None if place in {None, (0.0, 0.0)} else place,
        "title": pick(tags, *titles, "IFD0:XPTitle"),
        "description": pick(tags, "MWG:Description", "ExifIFD:UserComment", "IFD0:XPComment"),
        "keywords": set(keywords)
        or set(filter(None, str(tags.get("IFD0:XPKeywords", "")).split(";"))),
        "rating": None if rating is None else int(rating),
        "make": pick(tags, "IFD0:Make", "XMP-tiff:Make"),
        "model": pick(tags, "IFD0:Model", "XMP-tiff:Model"),
        "lens": pick(
            tags,
            *("ExifIFD:LensModel", "XMP-exifEX:LensModel", "XMP-aux:Lens"),
            *("ExifIFD:LensInfo", "XMP-aux:LensInfo"),
        ),
        "orientation": TURNED[tags.get("MWG:Orientation", "Horizontal (normal)")],
    }


def as_exiftool_writes(photo: PhotoFile, kind: str, expected: dict[str, Any]) -> dict[str, Any]:
    facts = photo.facts()
    date = facts.taken_at
    shown = None
    if date is not None:
        digits = {DatePrecision.YEAR: 4, DatePrecision.MONTH: 7, DatePrecision.DAY: 10}
        shown = f"{date:%Y:%m:%d %H:%M:%S}"[: digits.get(facts.taken_precision, 19)]
        # ExifTool keeps what was written: no seconds, or a fraction.
        if facts.taken_precision is DatePrecision.TIME:
            fraction = f"{date.microsecond / 1e6:g}"[1:] if date.microsecond else ""
            minutes = facts.utc_offset_minutes
            zone = (
                ""
                if minutes is None
                else "Z"
                if minutes == 0
                else (
                    f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
                )
            )
            shown = re.sub(r":00$", "", shown) if len(expected["date"] or "") == 16 else shown
            shown += fraction + zone
    place = None if facts.latitude is None else (facts.latitude, facts.longitude)
    is_turned_by_decoder = kind in {"tif", "heic", "avif"}
    return {
        "date": shown,
        "place": place
        if expected["place"] is None or place is None
        else pytest.approx(place, abs=1e-6),
        "title": facts.title,
        "description": facts.description,
        "keywords": set(facts.keywords),
        "rating": facts.rating,
        "make": facts.camera_make,
        "model": facts.camera_model,
        "lens": facts.lens,
        "orientation": expected["orientation"]
        if is_turned_by_decoder
        else photo.header.orientation,
    }


def test_facts_agree_with_exiftool(tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    table = list(cases())
    assert len(table) >= 60
    commands: list[str] = []
    for number, (kind, arguments) in enumerate(table):
        buffer = io.BytesIO()
        Pillow.new("RGB", (64, 48), (90, 20, 30)).save(buffer, FORMATS[kind])
        path = tmp_path / f"{number:03}.{kind}"
        path.write_bytes(buffer.getvalue())
        commands += ["-q", "-overwrite_original", *arguments, str(path), "-execute"]
    exiftool(*commands)
    read = ["-use", "MWG", "-j", "-G1", "-c", "%+.8f", "-charset", "iptc=latin", str(tmp_path)]
    by_file = {Path(tags["SourceFile"]).name: tags for tags in json.loads(exiftool(*read))}
    differences = {}
    for number, (kind, arguments) in enumerate(table):
        path = tmp_path / f"{number:03}.{kind}"
        expected = reference(by_file[path.name])
        actual = as_exiftool_writes(PhotoFile(path.read_bytes()), kind, expected)
        if actual != expected:
            wrong = {k: (actual[k], expected[k]) for k in actual if actual[k] != expected[k]}
            differences[kind, arguments] = wrong
    assert not differences, "\n".join(f"{k}: {v}" for k, v in differences.items())
