"""Writes annotations into an XMP packet, and leaves all else in it as it is.

A title is written as `dc:title`, keywords as `dc:subject`, a rating as `xmp:Rating`, a position as
`exif:GPSLatitude` and `exif:GPSLongitude`. Hierarchies of keywords that the packet has are kept
where they agree with the keywords; none is made, since tags have no levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lxml import etree

from regard.core.annotations import Annotations
from regard.core.errors import DecodeError
from regard.core.facts import PhotoFacts
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import HIERARCHY, OTHER_HIERARCHIES, Properties, read_facts
from regard.photos.metadata.texts import clean_keywords, clean_text
from regard.photos.metadata.xmp import (
    ARRAYS,
    DECLARATION,
    LANGUAGE,
    MAX_XMP_BYTES,
    NOT_XML,
    RDF,
    XmpPacket,
    decode_packet,
    own_descriptions,
    property_name,
    read_xmp,
    usual_name,
)

if TYPE_CHECKING:
    from lxml.etree import _Element as Element
    from lxml.etree import _ElementTree as Tree

_EMPTY = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
}
_ABOUT = f"{RDF}about"
_AXES = (("exif:GPSLatitude", "NS"), ("exif:GPSLongitude", "EW"))
# A minute in the unit of the last digit, which is about 0.02 mm.
_MINUTE = 10**8
_SAME_DEGREES = 1e-8


def writable(annotations: Annotations) -> Annotations:
    """The annotations as XMP can hold them and `read_facts` gives them back."""
    title, keywords = annotations.title, annotations.keywords
    return Annotations(
        None if title is None else clean_text(NOT_XML.sub("", title)),
        None if keywords is None else clean_keywords(NOT_XML.sub("", word) for word in keywords),
        annotations.rating,
        annotations.position,
    )


def says(facts: PhotoFacts, annotations: Annotations) -> bool:
    """Whether facts contain what writable annotations say; the order of keywords is ignored."""
    return (
        annotations.title in {None, facts.title}
        and annotations.rating in {None, facts.rating}
        and (annotations.keywords is None or {*annotations.keywords} == {*facts.keywords})
        and (annotations.position is None or _is_at(facts, *annotations.position))
    )


def write_xmp(packet: bytes | None, annotations: Annotations) -> bytes:
    """The packet, or a new one for None, in UTF-8, that says what writable annotations say.

    Raises DecodeError for a packet that is damaged or too large.
    """
    former = XmpPacket() if packet is None else read_xmp(packet)
    properties, said = former.properties, read_facts(MetadataBlocks(), former)
    tree = _parsed(_EMPTY if packet is None else packet)
    rdf = next(e for e in tree.getroot().iter() if property_name(e) == "rdf:RDF")
    own = list(own_descriptions(rdf))
    if not own:
        own = [etree.SubElement(rdf, f"{RDF}Description", {_ABOUT: ""})]
    writer = _Writer(own, properties)
    title, keywords = annotations.title, annotations.keywords
    if title is not None and title != said.title:
        writer.write_title(title)
    if keywords is not None and ("dc:subject" not in properties or {*keywords} != {*said.keywords}):
        writer.write_keywords(keywords)
    if annotations.rating is not None and annotations.rating != said.rating:
        writer.write("xmp:Rating", str(annotations.rating))
    if annotations.position is not None and not any(
        name.startswith(("exif:GPSLatitude", "exif:GPSLongitude", "exif:GPSStatus"))
        for name in properties
    ):
        for (name, letters), degrees in zip(_AXES, annotations.position, strict=True):
            writer.write(name, _coordinate(degrees, letters))
    if packet is None:
        etree.indent(tree, " ")
    written: bytes = etree.tostring(
        tree,
        encoding="UTF-8",
        xml_declaration=packet is not None and bool(DECLARATION.match(decode_packet(packet))),
    )
    if len(written) > MAX_XMP_BYTES:
        raise DecodeError("its sidecar would be too large")
    return written


def _parsed(packet: bytes) -> Tree:
    if not read_xmp(packet).is_whole:
        raise DecodeError("its sidecar is damaged, so that nothing is written into it")
    text = decode_packet(packet)
    text = DECLARATION.sub("", text[text.find("<") :].strip("\0 \t\r\n"), count=1)
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        strip_cdata=False,
    )
    try:
        return etree.fromstring(text.encode(), parser).getroottree()
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DecodeError("its sidecar is damaged, so that nothing is written into it") from error


class _Writer:
    """Writes properties into the descriptions of a photograph."""

    def __init__(self, descriptions: Sequence[Element], properties: Properties) -> None:
        """`properties` are those of the packet before anything is written."""
        self._descriptions = descriptions
        self._properties = properties

    def write(self, name: str, text: str) -> None:
        """Replace a property by a simple value."""
        self._take(name)
        self._add(self._descriptions[0], name).text = text

    def write_title(self, title: str) -> None:
        """Replace the title in the default language; other languages stay."""
        kept: list[Element] = []
        for former in self._take("dc:title"):
            items = [item for array in former for item in array if item.get(LANGUAGE)]
            texts = {item.get(LANGUAGE): item.text for item in items}
            default = texts.get("x-default")
            kept += [
                item for item in items if item.get(LANGUAGE) != "x-default" and item.text != default
            ]
        alternatives = self._add(self._add(self._descriptions[0], "dc:title"), "rdf:Alt")
        item = self._add(alternatives, "rdf:li")
        item.set(LANGUAGE, "x-default")
        item.text = title
        alternatives.extend(kept)

    def write_keywords(self, keywords: Sequence[str]) -> None:
        """Replace the keywords, and adapt the hierarchies that there are."""
        self._take("dc:subject")
        bag = self._add(self._add(self._descriptions[0], "dc:subject"), "rdf:Bag")
        for word in keywords:
            self._add(bag, "rdf:li").text = word
        for name, separator in (HIERARCHY, *OTHER_HIERARCHIES):
            self._adapt(name, separator, keywords)

    def _adapt(self, name: str, separator: str, keywords: Sequence[str]) -> None:
        """Drop paths with a level that is not a keyword, and add keywords that are in no path."""
        arrays = [
            array
            for element in self._elements(name)
            for array in element
            if property_name(array) in ARRAYS
        ]
        if not arrays:
            # Nested structures, or XML within a text, whose levels can't be taken out singly.
            paths = self._properties.get(name, ())
            levels = clean_keywords(level for path in paths for level in path.split(separator))
            if not {*levels} <= {*keywords}:
                self._take(name)
            return
        placed: set[str] = set()
        for array in arrays:
            for item in list(array):
                levels = clean_keywords((item.text or "").split(separator))
                if {*levels} <= {*keywords}:
                    placed.update(levels)
                else:
                    array.remove(item)
        for word in keywords:
            if word not in placed and separator not in word:
                self._add(arrays[0], "rdf:li").text = word

    def _elements(self, name: str) -> list[Element]:
        return [e for one in self._descriptions for e in one if property_name(e) == name]

    def _take(self, name: str) -> list[Element]:
        """Remove a property in all its forms; returns the elements that were removed."""
        for description in self._descriptions:
            for attribute in [a for a in description.attrib if usual_name(str(a)) == name]:
                del description.attrib[attribute]
        taken = self._elements(name)
        for element in taken:
            parent = element.getparent()
            assert parent is not None
            parent.remove(element)
        return taken

    @staticmethod
    def _add(parent: Element, name: str) -> Element:
        prefix, _, local = name.partition(":")
        namespace = _NAMESPACES[prefix]
        return etree.SubElement(parent, f"{{{namespace}}}{local}", nsmap={prefix: namespace})


def _is_at(facts: PhotoFacts, latitude: float, longitude: float) -> bool:
    return (
        facts.latitude is not None
        and facts.longitude is not None
        and abs(facts.latitude - latitude) < _SAME_DEGREES
        and abs(facts.longitude - longitude) < _SAME_DEGREES
    )


def _coordinate(degrees: float, letters: str) -> str:
    """Degrees as XMP writes them: `48,51.5N`."""
    whole, rest = divmod(round(abs(degrees) * 60 * _MINUTE), 60 * _MINUTE)
    minutes = f"{rest // _MINUTE}.{rest % _MINUTE:08d}".rstrip("0")
    minutes += "0" * minutes.endswith(".")
    return f"{whole},{minutes}{letters[degrees < 0]}"
