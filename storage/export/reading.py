"""Reads an export content by content.

Every table is ordered by content id, so that a merge yields one content with all its rows at a
time. An inconsistency is an error that names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regard.core.errors import CannotWork
from regard.core.records import PipelineSpec, Space
from regard.storage.export.files import load_pyarrow, open_vectors, read_table
from regard.storage.export.layout import (
    ALBUM_ASSETS,
    ALBUMS,
    DISTINCT_PAIRS,
    EXCLUSIONS,
    OWNERS,
    READINGS,
    TABLES,
    TEXT_LINES,
    ChannelFiles,
    Column,
    Manifest,
    file_digest,
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExportedPipeline:
    """A pipeline of an export, with its id there."""

    id: int
    spec: PipelineSpec
    live: bool
    replaced_at: Any


@dataclass(slots=True)
class ExportedContent:
    """A content and all its rows, in the form of `docs/export.md`.

    `embeddings` holds (channel, owner, vector bytes).
    """

    content: Row
    assets: list[Row]
    analyses: list[Row]
    regions: list[Row]
    captions: list[Row]
    readings: list[Row]
    lines: list[Row]
    embeddings: list[tuple[ChannelFiles, Row, bytes]] = field(default_factory=list)


class Export:
    """An export whose files match its manifest; its rows are not validated yet."""

    def __init__(self, folder: Path) -> None:
        """Open the folder; raises CannotWork if incomplete, MissingDependency without pyarrow."""
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
                    f"{path} is missing or damaged", remedy="export again, or copy the export again"
                )
        self.collections = {
            row["id"]: row
            for row in self._rows("collections.parquet", TABLES["collections.parquet"])
        }
        self.pipelines = self._pipelines()

    @property
    def content_count(self) -> int:
        """How many contents there are."""
        return self.manifest.files["contents.parquet"].rows or 0

    def contents(self) -> Iterator[ExportedContent]:
        """Each content with all its rows, ordered by id."""
        groups = {
            name: _Groups(
                self.folder / name,
                self._rows(name, TABLES[name]) if name in self.manifest.files else iter(()),
            )
            for name in (
                "assets.parquet",
                "analyses.parquet",
                "regions.parquet",
                "captions.parquet",
                READINGS,
                TEXT_LINES,
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
            assets, analyses, regions, captions, readings, lines = (
                group.take(number) for group in groups.values()
            )
            found = ExportedContent(content, assets, analyses, regions, captions, readings, lines)
            for place, (files, owners, vectors) in enumerate(channels):
                for owner in owners.take(number):
                    vector = vectors[taken[place]].tobytes()
                    found.embeddings.append((files, owner, vector))
                    taken[place] += 1
            yield found
        for group in (*list(groups.values())[1:], *(owners for _, owners, _ in channels)):
            group.require_end()
        groups["assets.parquet"].require_only_failed()

    def exclusions(self) -> Iterator[Row]:
        """What is remembered about files to index, oldest first."""
        if EXCLUSIONS in self.manifest.files:
            yield from self._rows(EXCLUSIONS, TABLES[EXCLUSIONS])

    def albums(self) -> Iterator[Row]:
        """The albums."""
        if ALBUMS in self.manifest.files:
            yield from self._rows(ALBUMS, TABLES[ALBUMS])

    def album_assets(self) -> Iterator[Row]:
        """Which asset is in which album."""
        if ALBUM_ASSETS in self.manifest.files:
            yield from self._rows(ALBUM_ASSETS, TABLES[ALBUM_ASSETS])

    def distinct_pairs(self) -> Iterator[Row]:
        """Contents that people marked as distinct."""
        if DISTINCT_PAIRS in self.manifest.files:
            yield from self._rows(DISTINCT_PAIRS, TABLES[DISTINCT_PAIRS])

    def failed_assets(self) -> Iterator[Row]:
        """The failed assets, which have no content."""
        for row in self._rows("assets.parquet", TABLES["assets.parquet"]):
            if row["content_id"] is None:
                yield row

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
            # PostgreSQL rejects this character.
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
        return CannotWork(f"{self.folder / name} is not a valid table of an export: {what}")


class _Groups:
    """Groups rows, which are ordered by `content_id`, by content."""

    def __init__(self, path: Path, rows: Iterator[Row]) -> None:
        self._path = path
        self._rows = rows
        self._next = next(rows, None)

    def take(self, content: int) -> list[Row]:
        """The rows of the next content; raises CannotWork if rows are out of order."""
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
        """Raise CannotWork if rows are left."""
        if self._next is not None:
            raise self._wrong("rows are of no content, or not in the order of contents")

    def require_only_failed(self) -> None:
        """Raise CannotWork if a row that is left has a content."""
        while self._next is not None:
            if self._next["content_id"] is not None:
                raise self._wrong("rows are of no content, or not in the order of contents")
            self._next = next(self._rows, None)

    def _wrong(self, what: str) -> CannotWork:
        return CannotWork(f"{self._path} is not a valid table of an export: {what}")
