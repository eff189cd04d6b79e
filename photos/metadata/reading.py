"""Takes each fact from the best of the sources that state it; docs/metadata.md explains the order.

What a person wrote into a sidecar comes first. Within the file, the order is that of the guidelines
of the Metadata Working Group (2.0). Damaged metadata never fails a photograph; what can be read is
used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from regard.core.errors import DecodeError
from regard.core.facts import Capture, PhotoFacts
from regard.photos.files import Confinement, FilePath, read_file
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.exif import exif_properties
from regard.photos.metadata.iptc import iptc_properties
from regard.photos.metadata.texts import clean_keywords, clean_text
from regard.photos.metadata.values import (
    lens_range,
    most_precise_date,
    parse_number,
    parse_position,
    percent_rating,
    positive,
    star_rating,
)
from regard.photos.metadata.xmp import MAX_XMP_BYTES, XmpPacket, read_xmp

# Each line is an order of properties, the best first. IPTC goes before XMP if a program changed it
# without the XMP.
_TITLE = (
    *("sidecar dc:title", "XMP dc:title", "IPTC ObjectName", "EXIF XPTitle", "PNG title"),
    *("sidecar photoshop:Headline", "XMP photoshop:Headline", "IPTC Headline"),
)
_DESCRIPTION = (
    *("sidecar dc:description", "EXIF ImageDescription", "XMP dc:description"),
    *("IPTC Caption-Abstract", "sidecar exif:UserComment", "EXIF UserComment"),
    *("XMP exif:UserComment", "EXIF XPComment", "sidecar acdsee:caption", "XMP acdsee:caption"),
    *("EXIF XPSubject", "PNG description"),
)
# By meaning: the exposure, the making of the digital picture, its last change.
_DATES = (
    (
        *("sidecar photoshop:DateCreated", "sidecar exif:DateTimeOriginal"),
        *("EXIF DateTimeOriginal", "XMP photoshop:DateCreated", "XMP exif:DateTimeOriginal"),
        *("IPTC DateCreated", "PNG creation time"),
    ),
    (
        *("sidecar xmp:CreateDate", "sidecar exif:DateTimeDigitized", "EXIF DateTimeDigitized"),
        *("XMP xmp:CreateDate", "XMP exif:DateTimeDigitized", "IPTC DigitalCreationDate"),
    ),
    # That of a sidecar is when the sidecar was changed.
    ("EXIF DateTime", "XMP xmp:ModifyDate", "XMP tiff:DateTime"),
)
_RATING: Mapping[str, Callable[[str], int | None]] = {
    "sidecar xmp:Rating": star_rating,
    "sidecar MicrosoftPhoto:Rating": percent_rating,
    "XMP xmp:Rating": star_rating,
    "EXIF Rating": star_rating,
    "EXIF RatingPercent": percent_rating,
    "XMP MicrosoftPhoto:Rating": percent_rating,
    "sidecar acdsee:rating": star_rating,
    "XMP acdsee:rating": star_rating,
}
_MAKE = ("sidecar tiff:Make", "EXIF Make", "XMP tiff:Make")
_MODEL = ("sidecar tiff:Model", "EXIF Model", "XMP tiff:Model")
_LENS: Mapping[str, Callable[[str], str | None]] = {
    "sidecar exifEX:LensModel": clean_text,
    "sidecar aux:Lens": clean_text,
    "EXIF LensModel": clean_text,
    "XMP exifEX:LensModel": clean_text,
    "XMP aux:Lens": clean_text,
    "EXIF LensSpecification": lens_range,
    "EXIF DNGLensInfo": lens_range,
    "sidecar exifEX:LensSpecification": lens_range,
    "sidecar aux:LensInfo": lens_range,
    "XMP exifEX:LensSpecification": lens_range,
    "XMP aux:LensInfo": lens_range,
}
_EXPOSURE = ("sidecar exif:ExposureTime", "EXIF ExposureTime", "XMP exif:ExposureTime")
_F_NUMBER = ("sidecar exif:FNumber", "EXIF FNumber", "XMP exif:FNumber")
_ISO = (
    *("sidecar exifEX:PhotographicSensitivity", "sidecar exif:ISOSpeedRatings"),
    *("EXIF PhotographicSensitivity", "EXIF RecommendedExposureIndex", "EXIF ISOSpeed"),
    *("XMP exifEX:PhotographicSensitivity", "XMP exif:ISOSpeedRatings"),
)
_FOCAL_LENGTH = ("sidecar exif:FocalLength", "EXIF FocalLength", "XMP exif:FocalLength")
_DOCUMENT_ID = ("XMP xmpMM:DocumentID", "sidecar xmpMM:DocumentID")
_DERIVED_FROM_ID = ("XMP xmpMM:DerivedFrom", "sidecar xmpMM:DerivedFrom")
_RAW_NAME = ("XMP crs:RawFileName", "sidecar crs:RawFileName")
# Latitude and longitude, altitude and its reference come from one source.
_GPS = ("sidecar exif:GPS", "EXIF GPS", "XMP exif:GPS")

HIERARCHY = ("lr:hierarchicalSubject", "|")
# Fields of other programs for hierarchies of keywords, and what separates the levels.
OTHER_HIERARCHIES = (
    *(("digiKam:TagsList", "/"), ("MicrosoftPhoto:LastKeywordXMP", "/")),
    *(("MicrosoftPhoto:LastKeywordIPTC", "/"), ("mwg-kw:Keywords", "|")),
    *(("mediapro:CatalogSets", "|"), ("acdsee:categories", "|"), ("acdsee:keywords", "|")),
)

# Names of people, in the order of the programs: IPTC, Picasa and digiKam, Windows.
_PEOPLE = ("Iptc4xmpExt:PersonInImage", "mwg-rs:Regions", "MP:RegionInfo")

# Descriptions that cameras and programs write into every photograph: names, modes of Huawei's
# cameras, and settings of other telephones.
_STOCK_DESCRIPTIONS = {
    *("olympus digital camera", "sony dsc", "minolta digital camera", "samsung camera pictures"),
    *("konica minolta digital camera", "kodak digital still camera", "default", "untitled"),
    *("<no title>", "picture", "digital camera", "photo", "samsung", "exif_jpeg_picture"),
    *("created with gimp", "created with the gimp", "created by imlib", "charset=ascii"),
    *("btf", "btfhdr", "btfmdn", "btr", "cof", "dav", "edf", "fbt", "fbthdr", "frem", "frontbhdp"),
    *("fshbty", "hdrpl", "mde", "mde_soft", "nor", "oznor", "oznorwo", "ptr", "qrf", "rbt", "rhdr"),
    *("rpt", "sdr", "sdr_hdrb"),
}
_STOCK_SETTINGS = re.compile(
    r"(?:oppo|oplus)_\d+|filter: \d+; .*|maker:0x.*|\{\s*\"\w+\":.*\}", re.DOTALL
)
# What is written for a lens that the camera does not know.
_NO_LENSES = {"----", "unknown", "unknown lens", "no lens", "none", "n/a", "0.0 mm f/0.0"}
_LONGEST_IDENTIFIER = 255
_MAX_ISO = 50_000_000
# Exif's field of 16 bits holds this for any greater sensitivity.
_ISO_ELSEWHERE = 65_535

Properties = Mapping[str, Sequence[str]]
_T = TypeVar("_T")


def read_sidecar(path: FilePath, within: Confinement | None = None) -> XmpPacket:
    """The XMP packet in a file; without properties if it can't be read or leads out of `within`."""
    try:
        return read_xmp(read_file(path, MAX_XMP_BYTES, within))
    except DecodeError:
        return XmpPacket()


def read_facts(blocks: MetadataBlocks, sidecar: XmpPacket | None = None) -> PhotoFacts:
    """The facts in the blocks and in a sidecar."""
    sources = _Sources(blocks, sidecar)
    dates = (most_precise_date(sources.values(names)) for names in _DATES)
    date = next(filter(None, dates), None)
    position = sources.position()
    descriptions = sources.texts(_DESCRIPTION)
    return PhotoFacts(
        taken_at=None if date is None else date.moment,
        taken_precision=None if date is None else date.precision,
        utc_offset_minutes=None if date is None else date.utc_offset,
        camera_make=next(sources.texts(_MAKE), None),
        camera_model=next(sources.texts(_MODEL), None),
        lens=next((lens for lens in sources.parsed(_LENS) if lens.lower() not in _NO_LENSES), None),
        latitude=None if position is None else position[0],
        longitude=None if position is None else position[1],
        title=next(sources.texts(_TITLE), None),
        description=next((text for text in descriptions if not _is_stock(text.lower())), None),
        keywords=sources.keywords(),
        rating=next(sources.parsed(_RATING), None),
        capture=Capture(
            exposure_seconds=sources.positive(_EXPOSURE),
            f_number=sources.positive(_F_NUMBER),
            iso=sources.iso(),
            focal_length_mm=sources.positive(_FOCAL_LENGTH),
            altitude_m=sources.altitude(is_placed=position is not None),
            live_photo_id=sources.identifier(("EXIF AppleContentIdentifier",)),
            document_id=sources.identifier(_DOCUMENT_ID),
            derived_from_id=sources.identifier(_DERIVED_FROM_ID),
            raw_name=sources.identifier(_RAW_NAME),
        ),
    )


def _is_stock(description: str) -> bool:
    return description in _STOCK_DESCRIPTIONS or bool(_STOCK_SETTINGS.fullmatch(description))


class _Sources:
    """The properties of a photograph, such as `EXIF Make`, read in the orders above."""

    def __init__(self, blocks: MetadataBlocks, sidecar: XmpPacket | None) -> None:
        self._sidecar: Properties = {} if sidecar is None else sidecar.properties
        # Even without items: a person removed the file's. A damaged sidecar may have lost them.
        self._has_subject = (
            sidecar is not None and sidecar.is_whole and "dc:subject" in sidecar.properties
        )
        self._xmp: dict[str, list[str]] = {}
        for packet in reversed(blocks.xmp):
            self._xmp |= read_xmp(packet).properties
        by_source: Mapping[str, Properties] = {
            "sidecar": self._sidecar,
            "EXIF": {} if blocks.exif is None else exif_properties(blocks.exif),
            "XMP": self._xmp,
            "IPTC": {} if blocks.iptc is None else iptc_properties(blocks.iptc),
            "PNG": {name: [text] for name, text in blocks.texts},
        }
        self._values = {
            f"{source} {name}": values
            for source, properties in by_source.items()
            for name, values in properties.items()
            if values
        }
        self._is_iptc_newer = blocks.is_iptc_newer

    def values(self, names: Iterable[str]) -> list[str]:
        """All values of properties, in their order."""
        present = [name for name in names if name in self._values]
        if self._is_iptc_newer:
            # Sorting is stable: what stands before the first XMP property stays there.
            places = (place for place, name in enumerate(present) if name.startswith("XMP "))
            start = next(places, len(present))
            present[start:] = sorted(present[start:], key=lambda name: name[:5] != "IPTC ")
        return [value for name in present for value in self._values[name]]

    def texts(self, names: Iterable[str]) -> Iterator[str]:
        """All values that are text, cleaned."""
        return filter(None, map(clean_text, self.values(names)))

    def identifier(self, names: Iterable[str]) -> str | None:
        """The first text that is short enough to name a file."""
        return next((text for text in self.texts(names) if len(text) <= _LONGEST_IDENTIFIER), None)

    def parsed(self, parsers: Mapping[str, Callable[[str], _T | None]]) -> Iterator[_T]:
        """All valid values of properties, each read in its way."""
        return (
            value
            for name, parse in parsers.items()
            for text in self._values.get(name, ())
            if (value := parse(text)) is not None
        )

    def positive(self, names: Iterable[str]) -> float | None:
        """The first number above zero."""
        numbers = (positive(parse_number(text)) for text in self.values(names))
        return next(filter(None, numbers), None)

    def iso(self) -> int | None:
        """The sensitivity, from another field where Exif's own is too small for it."""
        values = [parse_number(text.split()[0]) for text in self.values(_ISO) if text.strip()]
        whole = [int(value) for value in values if value is not None and 1 <= value <= _MAX_ISO]
        return next((iso for iso in whole if iso != _ISO_ELSEWHERE), whole[0] if whole else None)

    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude of the first source that has both."""
        for stem in _GPS:
            axes = [f"{stem}Latitude", f"{stem}Longitude"]
            if any(axis not in self._values for axis in axes):
                continue
            if self._first(f"{stem}Status").upper() == "V":  # void
                continue
            # A letter within is the exponent of a number.
            latitude, longitude = (
                text
                if any(map(str.isalpha, text[:1] + text[-1:]))
                else f"{text} {self._first(f'{axis}Ref')}"
                for axis in axes
                for text in [self._first(axis)]
            )
            if position := parse_position(latitude, longitude):
                return position
        return None

    def altitude(self, *, is_placed: bool) -> float | None:
        """The altitude in metres, negative below the sea; zero means nothing without a place."""
        for stem in _GPS:
            value = parse_number(self._first(f"{stem}Altitude"))
            if value is not None and (value or is_placed):
                # Exif 3 has 2 and 3 for heights over the ellipsoid.
                is_below = parse_number(self._first(f"{stem}AltitudeRef")) in {1, 3}
                return -value if is_below else value
        return None

    def keywords(self) -> tuple[str, ...]:
        """The keywords, every level of their hierarchies, and the names of people."""
        beside = _xmp_keywords(self._sidecar)
        if beside or self._has_subject:
            return beside
        sources = (self._sidecar, self._xmp)
        people = [person for xmp in sources for name in _PEOPLE for person in xmp.get(name, ())]
        return clean_keywords([*self._own_keywords(), *people])

    def _own_keywords(self) -> tuple[str, ...]:
        """The keywords of the file."""
        iptc = clean_keywords(self.values(["IPTC Keywords"]))
        if iptc and (self._is_iptc_newer or "dc:subject" not in self._xmp):
            own = () if self._is_iptc_newer else self._xmp.get(HIERARCHY[0], ())
            levels = [level for path in own for level in path.split(HIERARCHY[1])]
            return _with_levels(
                clean_keywords([*iptc, *levels]),
                _paths(self._xmp, HIERARCHY, *OTHER_HIERARCHIES),
            )
        if self._xmp and (within := _xmp_keywords(self._xmp)):
            return within
        windows = ";".join(self.values(["EXIF XPKeywords"]))
        return clean_keywords(windows.split(";"))

    def _first(self, name: str) -> str:
        return self._values[name][0].strip() if name in self._values else ""


def _xmp_keywords(xmp: Properties) -> tuple[str, ...]:
    levels = [level for path in _paths(xmp, HIERARCHY) for level in path]
    standard = clean_keywords([*xmp.get("dc:subject", ()), *levels])
    return _with_levels(standard, _paths(xmp, *OTHER_HIERARCHIES))


def _paths(xmp: Properties, *hierarchies: tuple[str, str]) -> list[tuple[str, ...]]:
    """The hierarchies of keywords, each from the top level to the last."""
    return [
        levels
        for name, separator in hierarchies
        for path in xmp.get(name, ())
        if (levels := clean_keywords(path.split(separator)))
    ]


def _with_levels(standard: tuple[str, ...], paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Keywords with the upper levels of those that a path leads to.

    Other paths count only without standard keywords: a program that does not know the field has
    removed the keyword.
    """
    known = frozenset(standard)
    return clean_keywords(
        [*standard, *(k for path in paths if not known or path[-1] in known for k in path)]
    )
