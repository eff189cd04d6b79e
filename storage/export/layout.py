"""The files of an export, the columns of its tables, and its manifest.

`docs/export.md` specifies the format. In every table, rows are ordered by content id, so that an
export of any size can be written and read content by content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from regard.core.errors import CannotWork
from regard.core.records import VECTOR_KINDS, Channel, Kind

FORMAT = 1
MANIFEST = "export.json"
COCO_INSTANCES, COCO_CAPTIONS = "coco/instances.json", "coco/captions.json"
_MAX_MANIFEST_BYTES = 64 * 2**20
_CHANNEL_FILE = re.compile(r"embeddings/[A-Za-z0-9_][A-Za-z0-9._-]*\.(npy|parquet)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its Arrow type by name, and whether it may be null."""

    name: str
    type: str
    nullable: bool = False


def _columns(text: str) -> tuple[Column, ...]:
    """Columns from pairs `name type`; a type that ends in `?` may be null."""
    words = text.split()
    return tuple(
        Column(name, kind.rstrip("?"), kind.endswith("?"))
        for name, kind in zip(words[::2], words[1::2], strict=True)
    )


TABLES: Mapping[str, tuple[Column, ...]] = {
    "collections.parquet": _columns("id int64  name string  created_at timestamp?"),
    "exclusions.parquet": _columns(
        "collection_id int64  path binary  pattern binary?  is_left_out bool"
    ),
    "albums.parquet": _columns("id int64  name string  query string?  created_at timestamp"),
    "album_assets.parquet": _columns("album_id int64  asset_id int64"),
    "pipelines.parquet": _columns(
        "id int64  profile string  fingerprint string  spec string  live bool"
        "  live_since timestamp?  replaced_at timestamp?"
    ),
    "contents.parquet": _columns(
        "id int64  sha256 string  format string  width int32  height int32"
        "  duration_ms int32?  poster_ms int32?"
    ),
    "assets.parquet": _columns(
        "id int64  collection_id int64  content_id int64?  path binary  uri string"
        "  size int64  mtime_ns int64  sidecar_stamp string?  etag string?"
        "  failure string?"
        "  taken_at timestamp?  taken_precision string?  utc_offset_minutes int32?"
        "  camera_make string?  camera_model string?  lens string?"
        "  latitude double?  longitude double?  title string?  description string?"
        "  rating int16?  capture string  file_name string?  external_id string?  managed bool?"
        "  edited_title string?  edited_rating int16?  custom string?"
        "  added_at timestamp?  dated_at timestamp?  deleted_at timestamp?  chosen_stack int64?"
        "  keywords strings  tags strings"
    ),
    "distinct_pairs.parquet": _columns("first_id int64  second_id int64"),
    "analyses.parquet": _columns("content_id int64  pipeline_id int64  failure string?"),
    "regions.parquet": _columns(
        "id int64  content_id int64  pipeline_id int64  ordinal int32"
        "  x int32  y int32  width int32  height int32  area int64  score double  mask binary"
        "  time_ms int32?"
    ),
    "captions.parquet": _columns(
        "id int64  content_id int64  pipeline_id int64  region_id int64?  text string  model string"
    ),
    "readings.parquet": _columns("content_id int64  reader string  failure string?"),
    "text_lines.parquet": _columns(
        "id int64  content_id int64  ordinal int32  corners binary  confidence double  text string"
    ),
}
EXCLUSIONS, ALBUMS, ALBUM_ASSETS, DISTINCT_PAIRS, READINGS, TEXT_LINES = (
    "exclusions.parquet",
    "albums.parquet",
    "album_assets.parquet",
    "distinct_pairs.parquet",
    "readings.parquet",
    "text_lines.parquet",
)
# Absent in exports of earlier versions.
LATER = {EXCLUSIONS, ALBUMS, ALBUM_ASSETS, DISTINCT_PAIRS, READINGS, TEXT_LINES}
OWNERS = _columns("id int64  content_id int64  region_id int64?  caption_id int64?")


@dataclass(frozen=True, slots=True)
class ChannelFiles:
    """The files of one channel's embeddings: `vectors` (n, d), and their `owners`."""

    pipeline: str
    space: str
    kind: str
    dimension: int
    vectors: str
    owners: str

    @classmethod
    def of(cls, fingerprint: str, channel: Channel, dimension: int, number: int) -> Self:
        """File names for a channel; `number` makes them unique."""
        space = re.sub(r"[^A-Za-z0-9._-]+", "_", channel.space)
        stem = f"embeddings/{number}-{fingerprint[:12]}-{space}-{channel.kind}"
        return cls(
            fingerprint,
            channel.space,
            channel.kind.value,
            dimension,
            f"{stem}.npy",
            f"{stem}.parquet",
        )

    @property
    def channel(self) -> Channel:
        """The channel within its pipeline."""
        return Channel(self.space, Kind(self.kind))


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A written file; `rows` if it is a table."""

    bytes: int
    sha256: str
    rows: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of an export; `export` is its UUID, `catalog` that of its home."""

    export: str
    catalog: str
    regard: str
    created_at: str
    collections: tuple[str, ...]
    channels: tuple[ChannelFiles, ...]
    files: Mapping[str, SealedFile]

    def to_bytes(self) -> bytes:
        """The manifest as JSON, with a checksum over itself."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "export": self.export,
            "catalog": self.catalog,
            "regard": self.regard,
            "created_at": self.created_at,
            "collections": list(self.collections),
            "channels": [asdict(channel) for channel in self.channels],
            "files": {name: asdict(file) for name, file in self.files.items()},
        }
        return json.dumps({**document, "checksum": _checksum(document)}, indent=1).encode()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and validate the manifest of a folder; raises CannotWork."""
        path = folder / MANIFEST
        try:
            with open(path, "rb") as file:
                data = file.read(_MAX_MANIFEST_BYTES)
        except OSError as error:
            what = (
                f"it has no {MANIFEST}"
                if isinstance(error, FileNotFoundError)
                else f"its {MANIFEST} can't be read"
            )
            raise CannotWork(
                f"{folder} is not an export of regard: {what}",
                remedy="name a folder that regard export has written",
            ) from error
        try:
            document = json.loads(data)
            form = document.pop("format")
            if form == FORMAT and type(form) is int:
                return cls._checked(document)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CannotWork(
                f"{path} is damaged or not the manifest of an export", remedy="export again"
            ) from error
        raise CannotWork(
            f"{folder} is an export in format {str(form)[:20]}; this version reads {FORMAT}",
            remedy="run: pip install --upgrade regard",
        )

    @classmethod
    def _checked(cls, document: dict[str, Any]) -> Self:
        checksum = document.pop("checksum")
        if checksum != _checksum({"format": FORMAT, **document}):
            raise ValueError("the checksum is of another text")
        channels = tuple(ChannelFiles(**channel) for channel in document.pop("channels"))
        files = {name: SealedFile(**file) for name, file in document.pop("files").items()}
        needed = set(TABLES) - LATER
        for channel in channels:
            if Kind(channel.kind) not in VECTOR_KINDS:
                raise ValueError("a channel that holds no vectors")
            if not isinstance(channel.dimension, int) or channel.dimension < 1:
                raise ValueError("a channel without dimensions")
            for name in (channel.vectors, channel.owners):
                if not _CHANNEL_FILE.fullmatch(name) or name in needed:
                    raise ValueError("a channel's file under a name that is none")
                needed.add(name)
        if not needed <= set(files) <= needed | LATER | {COCO_INSTANCES, COCO_CAPTIONS}:
            raise ValueError("it lists other files than an export has")
        for file in files.values():
            counts = (file.bytes,) if file.rows is None else (file.bytes, file.rows)
            if not all(isinstance(count, int) and count >= 0 for count in counts):
                raise ValueError("a file's size is not a number")
            if not _DIGEST.fullmatch(file.sha256):
                raise ValueError("a file's checksum is none")
        collections = document.pop("collections")
        if not all(isinstance(text, str) for text in (*document.values(), *collections)):
            raise ValueError("a field is not text")
        return cls(collections=tuple(collections), channels=channels, files=files, **document)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
