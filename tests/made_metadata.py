"""Metadata blocks for tests, and the facts that regard reads from them."""

from __future__ import annotations

import io

import piexif
from PIL import Image as Pillow

from regard.core.facts import PhotoFacts
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import read_facts
from regard.photos.tiff import TiffBlock

GPS_PARIS = {
    piexif.GPSIFD.GPSLatitudeRef: b"N",
    piexif.GPSIFD.GPSLatitude: ((48, 1), (51, 1), (3024, 100)),
    piexif.GPSIFD.GPSLongitudeRef: b"W",
    piexif.GPSIFD.GPSLongitude: ((2, 1), (21, 1), (0, 1)),
    piexif.GPSIFD.GPSAltitudeRef: 1,
    piexif.GPSIFD.GPSAltitude: (125, 10),
}
CAMERA = {
    "0th": {
        piexif.ImageIFD.Make: b"Acme",
        piexif.ImageIFD.Model: b"One",
        piexif.ImageIFD.ImageDescription: "A café".encode(),
        piexif.ImageIFD.Rating: 3,
        piexif.ImageIFD.DateTime: b"2030:01:01 00:00:00",
    },
    "Exif": {
        piexif.ExifIFD.DateTimeOriginal: b"2024:05:01 12:30:15",
        piexif.ExifIFD.SubSecTimeOriginal: b"25",
        36881: b"+05:30",
        piexif.ExifIFD.LensModel: b"50mm F1.8",
        piexif.ExifIFD.ExposureTime: (1, 250),
        piexif.ExifIFD.FNumber: (18, 10),
        piexif.ExifIFD.ISOSpeedRatings: 400,
        piexif.ExifIFD.FocalLength: (50, 1),
    },
    "GPS": GPS_PARIS,
}


def exif_facts(block: bytes) -> PhotoFacts:
    return read_facts(MetadataBlocks(TiffBlock.open(block)))


def iptc_facts(data: bytes) -> PhotoFacts:
    return read_facts(MetadataBlocks(iptc=data))


def xmp_facts(data: bytes) -> PhotoFacts:
    return read_facts(MetadataBlocks(xmp=(data,)))


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 12), (90, 20, 30)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(**directories: dict[int, object]) -> bytes:
    return piexif.dump({name.strip("_"): fields for name, fields in directories.items()})


def gps(**changes: object) -> PhotoFacts:
    fields = dict(GPS_PARIS)
    for name, value in changes.items():
        tag = getattr(piexif.GPSIFD, name)
        if value is None:
            del fields[tag]
        else:
            fields[tag] = value
    return exif_facts(piexif.dump({"GPS": fields}))


def packet(body: str, attributes: str = "") -> bytes:
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
   xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
   xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
   xmlns:digiKam="http://www.digikam.org/ns/1.0/"
   xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
   xmlns:mediapro="http://ns.iview-multimedia.com/mediapro/1.0/"
   xmlns:acdsee="http://ns.acdsee.com/iptc/1.0/" xmlns:aux="http://ns.adobe.com/exif/1.0/aux/"
   xmlns:exifEX="http://cipa.jp/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
   xmlns:mwg-kw="http://www.metadataworkinggroup.com/schemas/keywords/"
   {attributes}>{body}</rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


def alternatives(name: str, **texts: str) -> str:
    items = "".join(
        f'<rdf:li xml:lang="{language.replace("_", "-")}">{text}</rdf:li>'
        for language, text in texts.items()
    )
    return f"<{name}><rdf:Alt>{items}</rdf:Alt></{name}>"


def bag(name: str, *texts: str) -> str:
    items = "".join(f"<rdf:li>{text}</rdf:li>" for text in texts)
    return f"<{name}><rdf:Bag>{items}</rdf:Bag></{name}>"


def iim(*fields: tuple[int, int, bytes]) -> bytes:
    return b"".join(
        bytes([0x1C, record, number]) + len(value).to_bytes(2, "big") + value
        for record, number, value in fields
    )


def resource(number: int, data: bytes) -> bytes:
    head = b"8BIM" + number.to_bytes(2, "big") + bytes(2) + len(data).to_bytes(4, "big")
    return head + data + bytes(len(data) % 2)


def photoshop_segment(data: bytes) -> bytes:
    body = b"Photoshop 3.0\0" + resource(0x0404, data)
    return b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body


# EXIF
