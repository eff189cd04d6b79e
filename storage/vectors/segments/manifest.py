"""The manifest of an index on disk: what it was made for, how far it got, and its files.

Only the manifest is ever replaced; its files are named by their contents and never change, so a
manifest identifies one consistent snapshot. `docs/storage.md` specifies the format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from regard.core.errors import IndexMismatch
from regard.core.records import Kind
from regard.storage.files.durable import write_file
from regard.storage.vectors.engine import IndexIdentity

FORMAT = 4
_FORMER_FORMATS = (1, 2, 3)
METRIC = "inner_product"
REMEDY = "run: regard rebuild"
ROWS_SUFFIX = ".rows"
DELETED_SUFFIX = ".deleted"
LISTS_SUFFIX = ".lists"
MODEL_SUFFIX = ".model"
MANIFEST_NAME = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An immutable file: its SHA-256, which is also its name, and its number of rows."""

    sha256: str
    rows: int


_Stored = TypeVar("_Stored", bound=StoredFile)


@dataclass(frozen=True, slots=True)
class StoredSegment(StoredFile):
    """A segment's rows; `lists` is the SHA-256 of the file of its lists, if it has any."""

    lists: str | None = None


@dataclass(frozen=True, slots=True)
class StoredModel(StoredFile):
    """What lists share: `rows` were there when it was trained; see `ListsModel` for the others."""

    directions: int
    lists: int
    groups: int
    depth: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """One snapshot. `deleted` holds the deleted rows of all segments, None when there are none."""

    identity: IndexIdentity
    applied_through: int
    segments: tuple[StoredSegment, ...]
    delta: StoredFile | None
    deleted: StoredFile | None
    model: StoredModel | None

    def file_names(self) -> frozenset[str]:
        """Names of the files that this snapshot needs."""
        rows = (*self.segments, self.delta) if self.delta else self.segments
        names = {stored.sha256 + ROWS_SUFFIX for stored in rows}
        if self.deleted:
            names.add(self.deleted.sha256 + DELETED_SUFFIX)
        if self.model:
            names.add(self.model.sha256 + MODEL_SUFFIX)
        names |= {stored.lists + LISTS_SUFFIX for stored in self.segments if stored.lists}
        return frozenset(names)

    def stats(self) -> Mapping[str, int]:
        """Counts of rows, delta rows, segments and tombstones; bytes of the vectors on disk."""
        delta = self.delta.rows if self.delta else 0
        tombstones = self.deleted.rows if self.deleted else 0
        stored = delta + sum(segment.rows for segment in self.segments)
        return {
            "rows": stored - tombstones,
            "delta_rows": delta,
            "segments": len(self.segments),
            "tombstones": tombstones,
            "bytes": 2 * self.identity.dimension * stored,
            "applied_through": self.applied_through,
        }

    def to_json(self) -> str:
        """The file's text, with the checksum over the rest of it."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "metric": METRIC,
            **asdict(self.identity),
            "applied_through": self.applied_through,
            "segments": [asdict(stored) for stored in self.segments],
            "delta": None if self.delta is None else asdict(self.delta),
            "deleted": None if self.deleted is None else asdict(self.deleted),
            "model": None if self.model is None else asdict(self.model),
        }
        return json.dumps({**document, "checksum": _checksum(document)}, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse the file's text; raises ValueError, which says what is wrong."""
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
        # The format comes first, because another format may have another checksum.
        if document.get("format") in _FORMER_FORMATS:
            raise _FormerFormat
        if document.get("format") != FORMAT:
            raise ValueError(
                f"it has format {document.get('format')!r}, this regard reads {FORMAT}"
            )
        checksum = document.pop("checksum", None)
        if checksum != _checksum(document):
            raise ValueError("its checksum does not match")
        if document.get("metric") != METRIC:
            raise ValueError(f"it has metric {document.get('metric')!r}, not {METRIC!r}")
        try:
            return cls(
                identity=IndexIdentity(
                    catalog=str(document["catalog"]),
                    pipeline=str(document["pipeline"]),
                    space=str(document["space"]),
                    kind=Kind(document["kind"]),
                    dimension=int(document["dimension"]),
                ),
                applied_through=int(document["applied_through"]),
                segments=tuple(_stored(StoredSegment, entry) for entry in document["segments"]),
                delta=document["delta"] and _stored(StoredFile, document["delta"]),
                deleted=document["deleted"] and _stored(StoredFile, document["deleted"]),
                model=document["model"] and _stored(StoredModel, document["model"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks or mistypes {error}") from error

    @classmethod
    def read(cls, directory: Path) -> Manifest | None:
        """The manifest of a directory, None when there is none of this format or a later one.

        An index of a former format is built again from the catalog. Raises IndexMismatch.
        """
        path = directory / MANIFEST_NAME
        try:
            return cls.from_json(path.read_bytes().decode("utf-8"))
        except (FileNotFoundError, NotADirectoryError, _FormerFormat):
            return None
        except ValueError as error:  # also damaged JSON and UTF-8
            raise IndexMismatch(f"cannot use {path}: {error}", remedy=REMEDY) from error

    def write(self, directory: Path) -> None:
        """Replace the directory's manifest; durable once the directory is synced."""
        write_file(directory / MANIFEST_NAME, [self.to_json().encode("utf-8")])

    def require(self, identity: IndexIdentity, directory: Path) -> None:
        """Raise IndexMismatch unless this was made for `identity`."""
        ours, theirs = asdict(identity), asdict(self.identity)
        for name, value in ours.items():
            if theirs[name] != value:
                raise IndexMismatch(
                    f"the vector index in {directory} is of {name} {theirs[name]}, not {value}",
                    remedy=REMEDY,
                )


class _FormerFormat(Exception):
    """A former version wrote this manifest."""


def _stored(kind: type[_Stored], entry: dict[str, Any]) -> _Stored:
    stored = kind(**entry)
    names = [stored.sha256]
    if isinstance(stored, StoredSegment) and stored.lists is not None:
        names.append(stored.lists)
    if not all(map(_SHA256.fullmatch, names)) or stored.rows < 1:
        raise ValueError(f"it names no file by {entry}")
    return stored


def _checksum(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
