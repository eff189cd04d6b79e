"""Photo facts from all that a file and its sidecar say.

A sidecar goes before embedded XMP, that before IPTC, that before EXIF, fact by fact: what people
write outweighs what cameras write. Damaged metadata never fails a photograph; it gives what can
still be read.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import time

from regard.core.errors import DecodeError
from regard.core.facts import PhotoFacts
from regard.photos.confinement import Confinement
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits, PhotoHeader, probe
from regard.photos.files import FilePath, read_file
from regard.photos.metadata.exif import exif_facts
from regard.photos.metadata.iptc import iptc_facts
from regard.photos.metadata.xmp import MAX_XMP_BYTES, xmp_facts

_PLAIN_FACTS = ("camera_make", "camera_model", "lens", "title", "description", "rating")


def read_facts(
    path: FilePath, *, sidecar: FilePath | None = None, limits: DecodeLimits = DEFAULT_LIMITS
) -> PhotoFacts:
    """The facts of the photograph at `path`; raises DecodeError when it is none."""
    return facts_of(probe(read_file(path, limits.max_bytes), limits), sidecar)


def facts_of(
    header: PhotoHeader, sidecar: FilePath | None = None, within: Confinement | None = None
) -> PhotoFacts:
    """The facts in a header's metadata blocks and in a sidecar; one that can't be read is ignored.

    So is one that leads out of `within`.
    """
    beside = None
    if sidecar is not None:
        try:
            beside = read_file(sidecar, MAX_XMP_BYTES, within)
        except DecodeError:
            beside = None
    sources = (
        xmp_facts(beside),
        xmp_facts(header.xmp),
        iptc_facts(header.iptc),
        exif_facts(header.exif),
    )
    facts = sources[0]
    for source in sources[1:]:
        facts = _completed(facts, source)
    return facts


def _completed(facts: PhotoFacts, other: PhotoFacts) -> PhotoFacts:
    """`facts`, with what they lack from `other`, which comes after them."""
    missing = {name: getattr(other, name) for name in _PLAIN_FACTS if getattr(facts, name) is None}
    merged = replace(
        facts,
        **missing,
        keywords=facts.keywords or other.keywords,
        capture=other.capture,  # EXIF alone has it, and comes last
    )
    if merged.latitude is None:
        merged = replace(merged, latitude=other.latitude, longitude=other.longitude)
    if _tells_time_better(other, merged):
        merged = replace(
            merged, taken_at=other.taken_at, utc_offset_minutes=other.utc_offset_minutes
        )
    return merged


def _tells_time_better(other: PhotoFacts, facts: PhotoFacts) -> bool:
    """Whether `other` knows when, or more exactly when: a time for the day, a zone or a fraction."""
    if other.taken_at is None or facts.taken_at is None:
        return facts.taken_at is None
    if facts.utc_offset_minutes is not None:
        return False
    if facts.taken_at.time() == time():
        return other.taken_at.date() == facts.taken_at.date()
    return other.taken_at.replace(microsecond=0) == facts.taken_at.replace(microsecond=0)
