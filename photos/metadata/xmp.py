"""Properties from an XMP packet, embedded or in a sidecar (ISO 16684-1).

Programs write packets by hand, cut them and save them in wrong encodings. What can be read of such
a packet is read: the parser recovers from errors. It never resolves entities or loads anything, and
a packet with a document type, which XMP never has, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from html.entities import html5
from itertools import islice
from typing import TYPE_CHECKING

from lxml import etree

from regard.photos.metadata.texts import decode_text

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

MAX_XMP_BYTES = 4 << 20

_PREFIXES = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns": "rdf",
    "http://purl.org/dc/elements/1.1": "dc",
    "http://ns.adobe.com/xap/1.0": "xmp",
    "http://ns.adobe.com/xap/1.0/mm": "xmpMM",
    "http://ns.adobe.com/xap/1.0/sType/ResourceRef": "stRef",
    "http://ns.adobe.com/camera-raw-settings/1.0": "crs",
    "http://ns.adobe.com/exif/1.0": "exif",
    "http://cipa.jp/exif/1.0": "exifEX",
    "http://ns.adobe.com/exif/1.0/aux": "aux",
    "http://ns.adobe.com/tiff/1.0": "tiff",
    "http://ns.adobe.com/photoshop/1.0": "photoshop",
    "http://ns.adobe.com/lightroom/1.0": "lr",
    "http://www.digikam.org/ns/1.0": "digiKam",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    "http://ns.acdsee.com/iptc/1.0": "acdsee",
    "http://ns.iview-multimedia.com/mediapro/1.0": "mediapro",
    "http://www.metadataworkinggroup.com/schemas/keywords": "mwg-kw",
    "http://www.metadataworkinggroup.com/schemas/regions": "mwg-rs",
    "http://ns.microsoft.com/photo/1.2": "MP",
    "http://ns.microsoft.com/photo/1.2/t/Region": "MPReg",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29": "Iptc4xmpExt",
}
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
# Old programs leave the prefix out, or undeclared.
_ABOUT = (f"{RDF}about", "about", "rdf:about")
ARRAYS = {"rdf:Alt", "rdf:Bag", "rdf:Seq"}
# Structures from which only one field is read, at any depth.
_FIELD_BELOW = {
    "mwg-rs:Regions": "mwg-rs:Name",
    "MP:RegionInfo": "MPReg:PersonDisplayName",
    "xmpMM:DerivedFrom": "stRef:documentID",
}
_ITEM = re.compile(r"rdf:(li|_\d+)", re.ASCII)

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
DECLARATION = re.compile(
    r"<\?xml\s[^>]{0,99}?"
    r"(?:encoding\s{0,9}=\s{0,9}[\"']([\w.:-]{1,40})[\"'][^>]{0,99})?>"
)
_REFERENCE = re.compile(
    r"<!\[CDATA\[.*?\]\]>|&(?:#(\d{1,7}|x[0-9a-fA-F]{1,6});|(\w+;))?", re.DOTALL
)
_XML_ENTITIES = {"amp;", "lt;", "gt;", "quot;", "apos;"}
_MAX_LEVELS, _MAX_LEVEL, _MAX_VALUES, _MAX_ATTRIBUTES = 50, 256, 10_000, 1_000
# An undeclared prefix loses nothing.
_HARMLESS = {"NS_ERR_UNDEFINED_NAMESPACE"}


@dataclass(frozen=True, slots=True)
class XmpPacket:
    """Values by property, such as `dc:title`; those in the default language come first.

    Hierarchies of keywords are paths, separated as their property does it: by `|` for `mwg-kw` and
    `acdsee`. `is_whole` tells that the packet was valid.
    """

    properties: dict[str, list[str]] = field(default_factory=dict)
    is_whole: bool = False


def read_xmp(packet: bytes) -> XmpPacket:
    """What a packet says; no properties if it is too large or nothing like XMP."""
    if len(packet) > MAX_XMP_BYTES:
        return XmpPacket()
    root, is_whole = _parse(decode_packet(packet))
    rdf = (
        None
        if root is None
        else next((e for e in root.iter() if property_name(e) == "rdf:RDF"), None)
    )
    if rdf is None:
        return XmpPacket()
    properties: dict[str, list[str]] = {}
    for description in own_descriptions(rdf):
        for name, value in _attributes(description):
            properties.setdefault(name, []).append(value)
        for element in description:
            values = islice(property_values(element), _MAX_VALUES)
            properties.setdefault(property_name(element), []).extend(values)
    categories = properties.get("acdsee:categories")
    if categories:
        properties["acdsee:categories"] = list(_acdsee_paths(categories[0]))
    return XmpPacket(properties, is_whole)


def decode_packet(packet: bytes) -> str:
    """The text of a packet, by its byte order mark, its zero bytes or its declared encoding."""
    for start, charset in (
        (b"<\0\0\0", "utf-32-le"),
        (b"\0\0\0<", "utf-32-be"),
        (b"<\0", "utf-16-le"),
        (b"\0<", "utf-16-be"),
    ):
        if packet.startswith(start):
            return packet.decode(charset, errors="ignore")
    declared = DECLARATION.match(packet[:200].decode("latin-1"))
    try:
        return packet.decode("utf-8-sig")
    except UnicodeDecodeError:
        if declared is None or declared[1] is None:
            return decode_text(packet)
    try:
        return packet.decode(declared[1])
    except (LookupError, UnicodeError):
        return decode_text(packet)


def _parse(text: str) -> tuple[Element | None, bool]:
    """The root element, and whether the text is valid."""
    text = DECLARATION.sub("", text[max(text.find("<"), 0) :].strip("\0 \t\r\n"), count=1)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None, False
    mended = _REFERENCE.sub(_mended, NOT_XML.sub("", text))
    parser = etree.XMLParser(
        encoding="utf-8",
        recover=True,
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(mended.encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None, False
    errors = {error.type_name for error in parser.error_log} - _HARMLESS
    return root, mended == text and not errors


def _mended(reference: re.Match[str]) -> str:
    """A valid reference to a character, or an escaped ampersand; CDATA has neither."""
    if reference[0].startswith("<"):
        return reference[0]
    number, name = reference.groups()
    if number:
        code = int(number[1:], 16) if number[0] == "x" else int(number)
        return "" if code > 0x10FFFF or NOT_XML.match(chr(code)) else reference[0]
    if name is None or name in _XML_ENTITIES:
        return reference[0] if name else "&amp;"
    return html5.get(name, f"&amp;{name}")


def own_descriptions(rdf: Element) -> Iterator[Element]:
    """The descriptions of the photograph itself: one subject, whose name may be left out."""
    descriptions = [element for element in rdf if property_name(element)]
    names = [
        next((str(e.get(about)) for about in _ABOUT if e.get(about)), "") for e in descriptions
    ]
    subject = next(
        (name for n, name in enumerate(names) if name and (n == 0 or name.startswith("uuid:"))), ""
    )
    for description, name in zip(descriptions, names, strict=True):
        if name in {"", subject}:
            yield description


def property_name(element: Element) -> str:
    """The name of an element with the usual prefix of its namespace; empty for anything else."""
    return usual_name(element.tag) if isinstance(element.tag, str) else ""


@lru_cache(maxsize=4096)
def usual_name(name: str) -> str:
    """A name in lxml's form with the usual prefix of its namespace, such as `dc:title`."""
    if not name.startswith("{"):
        return name
    namespace, local = name[1:].split("}", 1)
    return f"{_PREFIXES.get(namespace.rstrip('/#'), namespace)}:{local}"


def _attributes(element: Element) -> list[tuple[str, str]]:
    """Names and values; none if there are absurdly many, as lxml takes quadratic time."""
    if len(element.attrib) > _MAX_ATTRIBUTES:
        return []
    return [(usual_name(str(name)), str(value)) for name, value in element.attrib.items()]


def property_values(element: Element) -> Iterator[str]:
    """The value of a property, or the items of its array, default language first."""
    if property_name(element) == "mwg-kw:Keywords":
        yield from _mwg_paths(element, ())
        return
    if wanted := _FIELD_BELOW.get(property_name(element)):
        for part in element.iter():
            yield from (value for name, value in _attributes(part) if name == wanted)
            yield from [_text(part) or ""] if property_name(part) == wanted else []
        return
    arrays = [child for child in element if property_name(child) in ARRAYS]
    # Programs leave the array out around its items.
    holders = arrays or [element]
    items = [item for array in holders for item in array if _ITEM.fullmatch(property_name(item))]
    items.sort(key=lambda item: item.get(LANGUAGE) != "x-default")
    for item in items if arrays or items else [element]:
        text = _text(item)
        if text is not None:
            yield text


def _text(element: Element) -> str | None:
    """The text of a simple value, perhaps with qualifiers; None for a structure."""
    children = [child for child in element if property_name(child)]
    if element.get(f"{RDF}parseType") != "Resource" and len(children) == 1:
        # A nested description holds the value and its qualifiers.
        return (
            _qualified(children[0])
            if property_name(children[0]) != "rdf:value"
            else _text(children[0])
        )
    value = _qualified(element)
    return str(element.text or "") if value is None and not children else value


def _qualified(element: Element) -> str | None:
    """The value of a node that also has qualifiers; None if it has none."""
    for name in ("value", "resource"):
        if (value := element.get(f"{RDF}{name}")) is not None:
            return str(value)
    return next((_text(child) for child in element if property_name(child) == "rdf:value"), None)


def _mwg_paths(element: Element, above: tuple[str, ...]) -> Iterator[str]:
    """The paths of the keywords in MWG's nested structures, at any depth below an element."""
    if len(above) > _MAX_LEVELS:
        return
    here = [value for name, value in _attributes(element) if name == "mwg-kw:Keyword"]
    here += [_text(child) or "" for child in element if property_name(child) == "mwg-kw:Keyword"]
    if here:
        above = (*above, here[0][:_MAX_LEVEL])
        yield "|".join(above)
    for child in element:
        yield from _mwg_paths(child, above)


def _acdsee_paths(text: str) -> Iterator[str]:
    """The paths in ACDSee's categories, XML within a text."""
    root, _ = _parse(text)
    categories = () if root is None else islice(root.iter("Category"), _MAX_VALUES)
    for category in categories:
        levels = [category, *category.iterancestors("Category")]
        yield "|".join(str(level.text or "").strip()[:_MAX_LEVEL] for level in reversed(levels))
