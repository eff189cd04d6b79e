"""Stacks of files that only their metadata links: edits under other names, and Live Photos."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import piexif
from made_library import Library, painted
from made_metadata import packet
from made_videos import write_video

_REFERENCE = 'xmlns:stRef="http://ns.adobe.com/xap/1.0/sType/ResourceRef#"'
_CRS = 'xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"'
_LIVE = "4E7B4D0C-6A4E-4A0F-8E3C-2B7C1B1B8B11"


def _jpeg(path: Path, seed: int, **options: object) -> Path:
    buffer = io.BytesIO()
    painted(("red",), seed).save(buffer, "JPEG", **options)
    path.write_bytes(buffer.getvalue())
    return path


def _maker_note(identifier: str) -> bytes:
    text = identifier.encode() + b"\0"
    entry = struct.pack(">HHII", 17, 2, len(text), 32)
    return b"Apple iOS\0\0\1MM\0\1" + entry + bytes(4) + text


def _stacks(library: Library) -> set[frozenset[str]]:
    rows = library.sql("SELECT stack_id, path FROM asset WHERE stack_id IS NOT NULL")
    members: dict[int, set[str]] = {}
    for stack, path in rows:
        members.setdefault(stack, set()).add(Path(bytes(path).decode()).name)
    return {frozenset(names) for names in members.values()}


def test_metadata_alone_links_what_was_exported_edited_or_recorded_together(
    tmp_path: Path,
) -> None:
    library = Library(tmp_path)
    photos = library.photos
    note = piexif.dump({"Exif": {piexif.ExifIFD.MakerNote: _maker_note(_LIVE)}})
    _jpeg(photos / "IMG_1.jpg", 1, exif=note)
    tags = {"com.apple.quicktime.content.identifier": _LIVE}
    write_video(photos / "clip.mov", [(painted(("red",), 1, (96, 64)), 1.0)], tags=tags)
    _jpeg(photos / "scan.jpg", 2, xmp=packet("", 'xmpMM:DocumentID="xmp.did:1"'))
    derived = '<xmpMM:DerivedFrom stRef:documentID="xmp.did:1"/>'
    _jpeg(photos / "restored.jpg", 3, xmp=packet(derived, _REFERENCE))
    _jpeg(photos / "alone.jpg", 4)
    library.index()
    pairs = {frozenset({"IMG_1.jpg", "clip.mov"}), frozenset({"scan.jpg", "restored.jpg"})}
    assert _stacks(library) == pairs
    covers = library.sql("SELECT path FROM asset WHERE id = stack_id")
    names = {Path(bytes(path).decode()).name for (path,) in covers}
    assert names == {"IMG_1.jpg", "restored.jpg"}

    # An export that says from which file, and a sidecar that is written later.
    _jpeg(photos / "final.jpg", 5, xmp=packet("", f'{_CRS} crs:RawFileName="ALONE.JPG"'))
    library.index()
    assert _stacks(library) == {*pairs, frozenset({"alone.jpg", "final.jpg"})}
    (photos / "final.jpg.xmp").write_bytes(packet(derived, _REFERENCE))
    library.index()
    everything = frozenset({"scan.jpg", "restored.jpg", "alone.jpg", "final.jpg"})
    assert _stacks(library) == {frozenset({"IMG_1.jpg", "clip.mov"}), everything}
    library.verify()
