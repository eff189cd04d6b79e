"""Reads an export content by content, and looks at all of it before anything is made of it.

Every table is in the order of the contents' ids, so that a merge of all of them gives one content with all
that belongs to it at a time, whatever the size of the library. What does not fit together is an error that
names the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regard.core.errors import CannotWork
from regard.core.records import Kind, PipelineSpec, Space
from regard.storage.export.layout import (
    OWNERS,
    TABLES,
    ChannelFiles,
    Column,
    Manifest,
    file_digest,
)
from regard.storage.export.mask_runs import mask_runs
from regard.storage.export.table_files import load_pyarrow, open_vectors, read_table
from regard.storage.vector_bytes import is_sound

Row = dict[str, Any]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PAGE_BITS = 16
_LARGEST_SIDE = 2**20


@dataclass(frozen=True, slots=True)
class ExportedPipeline:
    """A pipeline of an export, under the id that it has there."""

    id: int
    spec: PipelineSpec
    live: bool
    replaced_at: Any


@dataclass(slots=True)
class ExportedContent:
    """A content and all that belongs to it, rows as `docs/export.md` has them.

    `embeddings` holds (channel, owner, vector bytes).
    """

    content: Row
    assets: list[Row]
    analyses: list[Row]
    regions: list[Row]
    captions: list[Row]
    embeddings: list[tuple[ChannelFiles, Row, bytes]] = field(default_factory=list)


class Export:
    """An export whose files are those that its manifest seals; their rows are not looked at yet."""

    def __init__(self, folder: Path) -> None:
        """Open it; raises CannotWork for what is no whole export, MissingDependency without pyarrow."""
        load_pyarrow()
        self.folder = Path(os.path.abspath(folder))
        self.manifest = Manifest.read(self.folder)
        for name, sealed in self.manifest.files.items():
            path = self.folder / name
            try:
                whole = path.is_file() and path.stat().st_size == sealed.bytes
                whole = whole and file_digest(path) == sealed.sha256
            except OSError as error:
                raise CannotWork(f"{path} can't be read: {error.strerror}") from error
            if not whole:
                raise CannotWork(
                    f"{path} is missing or damaged", remedy="export anew, or copy the export again"
                )
        self.collections = {
            row["id"]: row
            for row in self._rows("collections.parquet", TABLES["collections.parquet"])
        }
        self.pipelines = self._pipelines()
        self._highest: dict[str, int] | None = None

    @property
    def content_count(self) -> int:
        """How many contents there are."""
        return self.manifest.files["contents.parquet"].rows or 0

    def contents(self) -> Iterator[ExportedContent]:
        """Each content with all that belongs to it, in the order of ids."""
        groups = {
            name: _Groups(self.folder / name, self._rows(name, TABLES[name]))
            for name in (
                "assets.parquet",
                "analyses.parquet",
                "regions.parquet",
                "captions.parquet",
            )
        }
        channels = [
            (
                files,
                _Groups(self.folder / files.owners, self._rows(files.owners, OWNERS)),
                open_vectors(self.folder / files.vectors, files.dimension),
            )
            for files in self.manifest.channels
        ]
        for files, _, vectors in channels:
            if len(vectors) != self.manifest.files[files.owners].rows:
                raise self._wrong(files.vectors, "it has another number of rows than its owners")
        taken = [0] * len(channels)
        last = 0
        for content in self._rows("contents.parquet", TABLES["contents.parquet"]):
            number = content["id"]
            if number <= last:
                raise self._wrong("contents.parquet", "ids are not positive and ascending")
            last = number
            assets, analyses, regions, captions = (group.take(number) for group in groups.values())
            found = ExportedContent(content, assets, analyses, regions, captions)
            for place, (files, owners, vectors) in enumerate(channels):
                for owner in owners.take(number):
                    vector = vectors[taken[place]].tobytes()
                    found.embeddings.append((files, owner, vector))
                    taken[place] += 1
            yield found
        for group in (*list(groups.values())[1:], *(owners for _, owners, _ in channels)):
            group.require_end()
        groups["assets.parquet"].require_only_failed()

    def failed_assets(self) -> Iterator[Row]:
        """The assets that have no content."""
        for row in self._rows("assets.parquet", TABLES["assets.parquet"]):
            if row["content_id"] is None:
                yield row

    def check(self) -> dict[str, int]:
        """Look at every row, the first time; the highest id by table.

        Raises CannotWork for what does not fit together.
        """
        if self._highest is None:
            check = _Check(self)
            for found in self.contents():
                check.content(found)
            for row in self.failed_assets():
                check.asset(row)
            self._highest = check.highest
        return self._highest

    def _rows(self, name: str, columns: Sequence[Column]) -> Iterator[Row]:
        texts = [column.name for column in columns if column.type == "string"]
        lists = [column.name for column in columns if column.type == "strings"]
        required = [column.name for column in columns if not column.nullable]
        count = 0
        for row in read_table(self.folder / name, columns):
            count += 1
            if any(row[one] is None for one in required):
                raise self._wrong(name, "a value is missing")
            said = [row[one] for one in texts if row[one] is not None]
            for one in lists:
                said += row[one]
            # No database but SQLite takes that character.
            if any(text is None or "\0" in text for text in said):
                raise self._wrong(name, "a text holds what none may hold")
            yield row
        if count != self.manifest.files[name].rows:
            raise self._wrong(name, "it has another number of rows than its manifest says")

    def _pipelines(self) -> dict[int, ExportedPipeline]:
        name = "pipelines.parquet"
        found = {}
        for row in self._rows(name, TABLES[name]):
            spec = None
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                said = json.loads(row["spec"])
                spaces = tuple(Space(space, size) for space, size in said["spaces"].items())
                spec = PipelineSpec(said["profile"], spaces, said["models"], said["parameters"])
            sizes = () if spec is None else [space.dimension for space in spec.spaces]
            if any(type(size) is not int or size < 1 for size in sizes):
                raise self._wrong(name, "a space without dimensions")
            if spec is None or spec.to_json() != row["spec"] or spec.profile != row["profile"]:
                raise self._wrong(name, "a pipeline is not what its text says")
            if spec.fingerprint != row["fingerprint"]:
                raise self._wrong(name, "a fingerprint is of another pipeline")
            found[row["id"]] = ExportedPipeline(row["id"], spec, row["live"], row["replaced_at"])
        fingerprints = {one.spec.fingerprint: one.spec for one in found.values()}
        if len(fingerprints) != len(found) or sum(one.live for one in found.values()) > 1:
            raise self._wrong(name, "a pipeline stands twice, or more than one is live")
        for files in self.manifest.channels:
            spec = fingerprints.get(files.pipeline)
            if spec is None or Space(files.space, files.dimension) not in spec.spaces:
                raise self._wrong(name, "it lacks the pipeline or the space of a channel")
        return found

    def _wrong(self, name: str, what: str) -> CannotWork:
        return CannotWork(f"{self.folder / name} is no table of an export: {what}")


class _Groups:
    """Rows in the order of `content_id`, taken one content's after the other."""

    def __init__(self, path: Path, rows: Iterator[Row]) -> None:
        self._path = path
        self._rows = rows
        self._next = next(rows, None)

    def take(self, content: int) -> list[Row]:
        """The rows of the content, none of which may have been passed."""
        taken = []
        while self._next is not None and self._next["content_id"] is not None:
            if self._next["content_id"] < content:
                raise self._wrong("rows are of no content, or not in the order of contents")
            if self._next["content_id"] > content:
                break
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken

    def require_end(self) -> None:
        """Nothing may be left."""
        if self._next is not None:
            raise self._wrong("rows are of no content, or not in the order of contents")

    def require_only_failed(self) -> None:
        """What is left may have no content."""
        while self._next is not None:
            if self._next["content_id"] is not None:
                raise self._wrong("rows are of no content, or not in the order of contents")
            self._next = next(self._rows, None)

    def _wrong(self, what: str) -> CannotWork:
        return CannotWork(f"{self._path} is no table of an export: {what}")


class _Ids:
    """Which ids were seen: a bitmap by pages, small where ids lie close together."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self.highest = 0

    def add(self, number: int) -> bool:
        """Whether it is positive and new."""
        if number <= 0:
            return False
        self.highest = max(self.highest, number)
        page = self._pages.setdefault(number >> _PAGE_BITS, bytearray(1 << (_PAGE_BITS - 3)))
        place, bit = (number >> 3) & ((1 << (_PAGE_BITS - 3)) - 1), 1 << (number & 7)
        is_new = not page[place] & bit
        page[place] |= bit
        return is_new


class _Check:
    """What must hold of every row."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._ids = {
            name: _Ids() for name in ("content", "asset", "region", "caption", "embedding")
        }
        self._by_fingerprint = {
            one.spec.fingerprint: number for number, one in export.pipelines.items()
        }
        # Hashes, to hold a million of them in about 100 megabytes.
        self._places: set[int] = set()

    @property
    def highest(self) -> dict[str, int]:
        """The highest id by table."""
        return {name: ids.highest for name, ids in self._ids.items()}

    def content(self, found: ExportedContent) -> None:
        content = found.content
        self._require(self._ids["content"].add(content["id"]), "contents", "an id stands twice")
        sizes = content["width"], content["height"]
        self._require(
            _DIGEST.fullmatch(content["sha256"]) is not None
            and len(content["format"]) <= 16
            and all(0 < side < _LARGEST_SIDE for side in sizes),
            "contents",
            "a content is no photograph's",
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

    def asset(self, row: Row) -> None:
        self._require(self._ids["asset"].add(row["id"]), "assets", "an id stands twice")
        self._require(
            row["collection_id"] in self._export.collections, "assets", "one is of no collection"
        )
        self._require(
            (row["content_id"] is None) == (row["failure"] is not None)
            and os.path.isabs(row["path"])
            and b"\0" not in row["path"]
            and row["size"] >= 0
            and (
                not row["managed"] or _DIGEST.fullmatch(os.fsdecode(os.path.basename(row["path"])))
            ),
            "assets",
            "one is no file's",
        )
        place = hash((row["collection_id"], row["path"]))
        self._require(place not in self._places, "assets", "a path stands twice in a collection")
        self._places.add(place)
        for name in ("capture", "custom"):
            if row[name] is not None:
                self._require(_is_object(row[name]), "assets", f"`{name}` is no JSON object")

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
                and bool(np.isfinite(row["score"])),
                "regions",
                "a box or a mask does not fit its photograph",
            )

    def _embeddings(
        self,
        found: ExportedContent,
        done: set[int],
        regions: Mapping[int, int],
        captions: Mapping[int, int],
    ) -> None:
        rows: dict[int, list[bytes]] = {}
        described = set()
        for files, owner, vector in found.embeddings:
            pipeline = self._by_fingerprint[files.pipeline]
            region, caption = owner["region_id"], owner["caption_id"]
            match files.kind:
                case Kind.IMAGE:
                    fits = region is None and caption is None
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


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
