"""Facts from an XMP packet, embedded or in a sidecar (ISO 16684-1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException, ElementTree

from regard.core.facts import PhotoFacts
from regard.photos.metadata.values import (
    clean_keywords,
    clean_text,
    coordinate,
    star_rating,
    wall_clock,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_XMP_BYTES = 4 << 20

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_TIFF = "{http://ns.adobe.com/tiff/1.0/}"
_AUX = "{http://ns.adobe.com/exif/1.0/aux/}"
_EXIF_EX = "{http://cipa.jp/exif/1.0/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_LIGHTROOM = "{http://ns.adobe.com/lightroom/1.0/}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"

_DATES = (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate")
_POSITION = re.compile(r"\s*(\d+(?:[.,]\d+)*)\s*([NSEWnsew])\s*", re.ASCII)


def xmp_facts(packet: bytes) -> PhotoFacts:
    """What a packet says; empty facts if it is too large or not valid XML."""
    if len(packet) > MAX_XMP_BYTES:
        return PhotoFacts()
    try:
        root = ElementTree.fromstring(_without_padding(packet), forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError):
        return PhotoFacts()
    properties = _properties(root)
    taken_at, offset = _taken_at(properties)
    latitude = _coordinate(properties, "GPSLatitude", "NS")
    longitude = _coordinate(properties, "GPSLongitude", "EW")
    is_placed = latitude is not None and longitude is not None
    return PhotoFacts(
        taken_at=taken_at,
        utc_offset_minutes=offset,
        camera_make=_first(properties, f"{_TIFF}Make"),
        camera_model=_first(properties, f"{_TIFF}Model"),
        lens=_first(properties, f"{_EXIF_EX}LensModel") or _first(properties, f"{_AUX}Lens"),
        latitude=latitude if is_placed else None,
        longitude=longitude if is_placed else None,
        title=_first(properties, f"{_DC}title"),
        description=_first(properties, f"{_DC}description"),
        keywords=_keywords(properties),
        rating=star_rating(_first(properties, f"{_XMP}Rating")),
    )


def _without_padding(packet: bytes) -> bytes:
    """Strip the zeros with which some writers pad the packet; they are not valid XML."""
    if packet.startswith((b"\xff\xfe", b"\xfe\xff")):
        return packet
    return packet.strip(b"\0 \t\r\n")


def _properties(root: Element) -> dict[str, list[str]]:
    """Values by qualified property name; a property is an attribute or an element."""
    properties: dict[str, list[str]] = {}
    for description in root.iter(f"{_RDF}Description"):
        for name, value in description.items():
            properties.setdefault(name, []).append(value)
        for element in description:
            properties.setdefault(element.tag, []).extend(_values(element))
    return properties


def _values(element: Element) -> Iterator[str]:
    """The value of a property, or the items of its list, default language first."""
    items = list(element.iter(f"{_RDF}li"))
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
    for item in items or [element]:
        yield item.text or ""


def _first(properties: dict[str, list[str]], name: str) -> str | None:
    return next((text for text in map(clean_text, properties.get(name, [])) if text), None)


def _taken_at(properties: dict[str, list[str]]) -> tuple[datetime | None, int | None]:
    for name in _DATES:
        parsed = wall_clock(_first(properties, name))
        if parsed is not None:
            return parsed
    return None, None


def _coordinate(properties: dict[str, list[str]], name: str, letters: str) -> float | None:
    """Parse `48,51.5N` or `48,51,30N`, degrees before the first comma, as decimal degrees."""
    matched = _POSITION.fullmatch((_first(properties, f"{_EXIF}{name}") or "")[:64])
    if matched is None or matched[2].upper() not in letters:
        return None
    try:
        parts = [float(part) for part in matched[1].split(",")]
    except ValueError:
        return None
    return coordinate(parts, matched[2])


def _keywords(properties: dict[str, list[str]]) -> tuple[str, ...]:
    """dc:subject, or else the last level of each of Lightroom's keyword hierarchies."""
    subjects = clean_keywords(properties.get(f"{_DC}subject", []))
    if subjects:
        return subjects
    hierarchies = properties.get(f"{_LIGHTROOM}hierarchicalSubject", [])
    return clean_keywords(path.rsplit("|", 1)[-1] for path in hierarchies)
