"""Merges what a photograph's metadata and its sidecar say, fact by fact.

The sidecar wins over embedded XMP, XMP over IPTC, and IPTC over EXIF: what people write outweighs
what cameras write. Damaged metadata never fails a photograph; what can be read is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import time

from regard.core.errors import DecodeError
from regard.core.facts import PhotoFacts
from regard.photos.files import Confinement, FilePath, read_file
from regard.photos.metadata.exif import exif_facts
from regard.photos.metadata.iptc import iptc_facts
from regard.photos.metadata.xmp import MAX_XMP_BYTES, xmp_facts
from regard.photos.tiff import TiffBlock

_PLAIN_FACTS = ("camera_make", "camera_model", "lens", "title", "description", "rating")


@dataclass(frozen=True, slots=True)
class MetadataBlocks:
    """The metadata blocks of a photograph, unparsed: EXIF, an XMP packet, an IPTC IIM data set."""

    exif: TiffBlock | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


def read_sidecar(path: FilePath, within: Confinement | None = None) -> bytes | None:
    """The XMP packet in a file; None if it can't be read or leads out of `within`."""
    try:
        return read_file(path, MAX_XMP_BYTES, within)
    except DecodeError:
        return None


def read_facts(blocks: MetadataBlocks, sidecar: bytes | None = None) -> PhotoFacts:
    """The facts in the blocks and in a sidecar's XMP packet."""
    facts = PhotoFacts()
    for packet in (sidecar, blocks.xmp):
        if packet is not None:
            facts = _merge(facts, xmp_facts(packet))
    if blocks.iptc is not None:
        facts = _merge(facts, iptc_facts(blocks.iptc))
    if blocks.exif is not None:
        facts = _merge(facts, exif_facts(blocks.exif))
    return facts


def _merge(facts: PhotoFacts, other: PhotoFacts) -> PhotoFacts:
    """`facts`, completed from `other`, which ranks lower."""
    missing = {name: getattr(other, name) for name in _PLAIN_FACTS if getattr(facts, name) is None}
    merged = replace(
        facts,
        **missing,
        keywords=facts.keywords or other.keywords,
        capture=other.capture,  # only EXIF has it, and EXIF is merged last
    )
    if merged.latitude is None:
        merged = replace(merged, latitude=other.latitude, longitude=other.longitude)
    if _has_better_time(other, merged):
        merged = replace(
            merged, taken_at=other.taken_at, utc_offset_minutes=other.utc_offset_minutes
        )
    return merged


def _has_better_time(other: PhotoFacts, facts: PhotoFacts) -> bool:
    """Whether `other` has the only time, or the same one with clock time, zone or fraction."""
    if other.taken_at is None or facts.taken_at is None:
        return facts.taken_at is None
    if facts.utc_offset_minutes is not None:
        return False
    if facts.taken_at.time() == time():
        return other.taken_at.date() == facts.taken_at.date()
    return other.taken_at.replace(microsecond=0) == facts.taken_at.replace(microsecond=0)
