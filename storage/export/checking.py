"""Validates an export before it is imported: every row, and that rows fit together."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from regard.core.errors import CannotWork
from regard.core.facts import Capture
from regard.core.records import Kind
from regard.photos.files import is_absolute
from regard.storage.assets.texts import corners_from_bytes
from regard.storage.database.embeddings import is_sound
from regard.storage.export.coco import mask_runs
from regard.storage.export.reading import Export, ExportedContent, Row

_DIGEST = re.compile(r"[0-9a-f]{64}")
# In a bucket, the hash is followed by a number.
_UPLOAD = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{20})?")
_CAPTURE = {field.name for field in fields(Capture)}
_CAPTURE_TEXTS = ("live_photo_id", "document_id", "derived_from_id", "raw_name")
_PAGE_BITS = 16
_LARGEST_SIDE = 2**20


@dataclass(frozen=True, slots=True)
class CheckedExport:
    """A validated export, and the highest id by table."""

    export: Export
    highest: Mapping[str, int]


def open_export(folder: Path) -> CheckedExport:
    """Open an export and validate every row.

    Raises CannotWork for an incomplete or inconsistent export, MissingDependency without pyarrow.
    """
    export = Export(folder)
    check = _Check(export)
    for found in export.contents():
        check.content(found)
    for row in export.failed_assets():
        check.asset(row)
    for row in export.exclusions():
        check.exclusion(row)
    for row in export.albums():
        check.album(row)
    for row in export.album_assets():
        check.album_asset(row)
    for row in export.distinct_pairs():
        check.distinct_pair(row)
    return CheckedExport(export, check.highest)


class _Ids:
    """The set of ids seen: a paged bitmap, which is small for dense ids."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self.highest = 0

    def add(self, number: int) -> bool:
        """Add an id; return whether it is positive and new."""
        if number <= 0:
            return False
        self.highest = max(self.highest, number)
        page = self._pages.setdefault(number >> _PAGE_BITS, bytearray(1 << (_PAGE_BITS - 3)))
        place, bit = (number >> 3) & ((1 << (_PAGE_BITS - 3)) - 1), 1 << (number & 7)
        is_new = not page[place] & bit
        page[place] |= bit
        return is_new

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> _PAGE_BITS)
        if number <= 0 or page is None:
            return False
        return bool(page[(number >> 3) & ((1 << (_PAGE_BITS - 3)) - 1)] & (1 << (number & 7)))


class _Check:
    """The conditions on every row."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._ids = {
            name: _Ids() for name in ("content", "asset", "region", "caption", "embedding", "album")
        }
        self._by_fingerprint = {
            one.spec.fingerprint: number for number, one in export.pipelines.items()
        }
        # Hashes: a million take about 100 megabytes.
        self._places: set[int] = set()

    @property
    def highest(self) -> dict[str, int]:
        """The highest id by table, of those that a new home takes over."""
        return {name: ids.highest for name, ids in self._ids.items() if name != "album"}

    def content(self, found: ExportedContent) -> None:
        content = found.content
        self._require(self._ids["content"].add(content["id"]), "contents", "an id stands twice")
        sizes = content["width"], content["height"]
        self._require(
            _DIGEST.fullmatch(content["sha256"]) is not None
            and len(content["format"]) <= 16
            and all(0 < side < _LARGEST_SIDE for side in sizes)
            and (content["poster_ms"] is None) == (content["duration_ms"] is None)
            and min(content["poster_ms"] or 0, content["duration_ms"] or 0) >= 0,
            "contents",
            "a content does not describe a photograph",
        )
        self._require(bool(found.assets), "assets", "a content has none")
        for asset in found.assets:
            self.asset(asset)
        analysed = [(row["pipeline_id"], row["failure"] is None) for row in found.analyses]
        self._require(
            len(set(analysed)) == len(analysed)
            and all(pipeline in self._export.pipelines for pipeline, _ in analysed),
            "analyses",
            "one stands twice, or is of no pipeline",
        )
        done = {pipeline for pipeline, is_done in analysed if is_done}
        self._regions(found, done)
        regions = {row["id"]: row["pipeline_id"] for row in found.regions}
        for row in found.captions:
            self._require(
                self._ids["caption"].add(row["id"])
                and row["pipeline_id"] in done
                and (
                    row["region_id"] is None or regions.get(row["region_id"]) == row["pipeline_id"]
                ),
                "captions",
                "one stands twice, or is of no analysis or region",
            )
        captions = {row["id"]: row["pipeline_id"] for row in found.captions}
        self._embeddings(found, done, regions, captions)
        self._text(found)

    def asset(self, row: Row) -> None:
        self._require(self._ids["asset"].add(row["id"]), "assets", "an id stands twice")
        self._require(
            row["collection_id"] in self._export.collections, "assets", "one is of no collection"
        )
        self._require(
            (row["content_id"] is None) == (row["failure"] is not None)
            and is_absolute(row["path"])
            and b"\0" not in row["path"]
            and row["size"] >= 0
            and (
                not row["managed"]
                or _UPLOAD.fullmatch(os.fsdecode(os.path.basename(row["path"]))) is not None
            ),
            "assets",
            "one does not describe a file",
        )
        place = hash((row["collection_id"], row["path"]))
        self._require(place not in self._places, "assets", "a path stands twice in a collection")
        self._places.add(place)
        if row["custom"] is not None:
            self._require(
                _object(row["custom"]) is not None, "assets", "`custom` is not a JSON object"
            )
        if row["capture"] is not None:
            self._require(
                _is_capture(row["capture"]), "assets", "`capture` is not what a photograph has"
            )

    def exclusion(self, row: Row) -> None:
        self._require(
            row["collection_id"] in self._export.collections and is_absolute(row["path"]),
            "exclusions",
            "one is of no collection, or of no path",
        )

    def album(self, row: Row) -> None:
        is_new = self._ids["album"].add(row["id"])
        self._require(is_new and row["name"].strip(), "albums", "one stands twice or has no name")

    def album_asset(self, row: Row) -> None:
        self._require(
            row["album_id"] in self._ids["album"] and row["asset_id"] in self._ids["asset"],
            "album_assets",
            "one is of no album or no asset",
        )

    def distinct_pair(self, row: Row) -> None:
        self._require(
            row["first_id"] <= row["second_id"]
            and row["first_id"] in self._ids["content"]
            and row["second_id"] in self._ids["content"],
            "distinct_pairs",
            "one is of no content",
        )

    def _regions(self, found: ExportedContent, done: set[int]) -> None:
        width, height = found.content["width"], found.content["height"]
        places = set()
        for row in found.regions:
            place = row["pipeline_id"], row["ordinal"]
            self._require(
                self._ids["region"].add(row["id"])
                and row["pipeline_id"] in done
                and place not in places,
                "regions",
                "one stands twice, or is of no analysis",
            )
            places.add(place)
            try:
                runs = mask_runs(row["mask"])
            except ValueError:
                runs = np.zeros(1, np.int64)
            self._require(
                min(row["x"], row["y"], row["ordinal"]) >= 0
                and 0 < row["width"] <= width - row["x"]
                and 0 < row["height"] <= height - row["y"]
                and int(runs.sum()) == width * height
                and int(runs[1::2].sum()) == row["area"]
                and bool(np.isfinite(row["score"]))
                and (
                    row["time_ms"] is None
                    or (row["time_ms"] >= 0 and found.content["duration_ms"] is not None)
                ),
                "regions",
                "a box or a mask does not fit its photograph",
            )

    def _text(self, found: ExportedContent) -> None:
        self._require(
            len(found.readings) <= 1
            and all(_object(row["reader"]) is not None for row in found.readings)
            and (not found.lines or [row["failure"] for row in found.readings] == [None]),
            "readings",
            "one stands twice, or names no reader",
        )
        width, height = found.content["width"], found.content["height"]
        ordinals = [row["ordinal"] for row in found.lines]
        self._require(ordinals == [*range(len(ordinals))], "text_lines", "one is out of order")
        for row in found.lines:
            try:
                corners = np.asarray(corners_from_bytes(row["corners"]))
            except ValueError:
                corners = np.full((4, 2), -1)
            self._require(
                self._ids["region"].add(row["id"])
                and bool(((corners >= 0) & (corners <= (width, height))).all())
                and 0 <= row["confidence"] <= 1,
                "text_lines",
                "one stands twice, or does not fit its photograph",
            )

    def _embeddings(
        self,
        found: ExportedContent,
        done: set[int],
        regions: Mapping[int, int],
        captions: Mapping[int, int],
    ) -> None:
        rows: dict[int, list[bytes]] = {}
        moments = {row["id"] for row in found.regions if row["time_ms"] is not None}
        described = set()
        for files, owner, vector in found.embeddings:
            pipeline = self._by_fingerprint[files.pipeline]
            region, caption = owner["region_id"], owner["caption_id"]
            match files.kind:
                case Kind.IMAGE:
                    # The rows of a video's moments name them.
                    fits = caption is None and (
                        region is None or (region in moments and regions[region] == pipeline)
                    )
                case Kind.REGION:
                    fits = regions.get(region) == pipeline and caption is None
                case _:
                    fits = captions.get(caption) == pipeline and (
                        region is None or regions.get(region) == pipeline
                    )
            what = pipeline, files.space, files.kind, region, caption
            self._require(
                fits
                and pipeline in done
                and what not in described
                and self._ids["embedding"].add(owner["id"]),
                files.owners,
                "one stands twice, or is of no region, caption or analysis",
            )
            described.add(what)
            rows.setdefault(files.dimension, []).append(vector)
        self._require(
            all(
                (pipeline, space.name, Kind.IMAGE, None, None) in described
                for pipeline in done
                for space in self._export.pipelines[pipeline].spec.spaces
            )
            and all(
                (pipeline, space.name, Kind.REGION, region, None) in described
                for region, pipeline in regions.items()
                for space in self._export.pipelines[pipeline].spec.spaces
            ),
            "embeddings",
            "a content or a region lacks its vector",
        )
        for dimension, vectors in rows.items():
            numbers = np.frombuffer(b"".join(vectors), "<f2").reshape(-1, dimension)
            self._require(
                bool(is_sound(numbers.astype(np.float32)).all()),
                "embeddings",
                "a vector is not normalised",
            )

    def _require(self, holds: object, name: str, what: str) -> None:
        if not holds:
            raise CannotWork(f"{self._export.folder} does not fit together: {name}: {what}")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_capture(text: str) -> bool:
    capture = _object(text)
    if capture is None or not capture.keys() <= _CAPTURE:
        return False
    known = {name: value for name, value in capture.items() if value is not None}
    whole = [known.pop(name) for name in ("iso", "motion_video_offset") if name in known]
    texts = [known.pop(name) for name in _CAPTURE_TEXTS if name in known]
    return (
        all(type(value) is int and value >= 0 for value in whole)
        and all(type(value) is str for value in texts)
        and all(type(value) in (int, float) for value in known.values())
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
