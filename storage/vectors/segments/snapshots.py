"""Writes a state to a directory and reads it back.

Files of rows and lists are mapped, not read: opening a large index takes milliseconds, and processes
share its memory. Their checksums are verified when they are written and by `damaged_files`; what a
search relies on besides is checked when it is used (see `Segment.are_sound` and `Lists`). The other
files are small and verified whenever they are read. A mapped file that a later snapshot removes
stays until it is no longer mapped.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace as changed
from pathlib import Path

import numpy as np

from regard.core.errors import IndexMismatch
from regard.storage.files.durable import (
    ASIDE_SUFFIX,
    exclusive,
    make_directory,
    remove_file,
    sync_directory,
    write_named_by_content,
)
from regard.storage.vectors.engine import IndexIdentity, Queries
from regard.storage.vectors.rows import (
    Rows,
    encode_arriving,
    encode_merged,
    encode_rows,
    pad,
    padded_width,
)
from regard.storage.vectors.segments.lists import (
    GROWTH,
    Lists,
    ListsModel,
    encode_lists,
    train,
)
from regard.storage.vectors.segments.manifest import (
    DELETED_SUFFIX,
    LISTS_SUFFIX,
    MANIFEST_NAME,
    MODEL_SUFFIX,
    REMEDY,
    ROWS_SUFFIX,
    Manifest,
    StoredFile,
    StoredModel,
    StoredSegment,
)
from regard.storage.vectors.segments.segment import Sealed, Segment
from regard.storage.vectors.segments.state import (
    Delta,
    Replacement,
    SegmentLimits,
    State,
    to_merge_on_disk,
)

_log = logging.getLogger(__name__)


def save(
    state: State,
    identity: IndexIdentity,
    directory: Path,
    limits: SegmentLimits,
    *,
    seal: Callable[[Segment], Sealed],
    replace: bool,
    queries: Queries | None = None,
    arriving: Iterable[Rows] = (),
) -> tuple[Sequence[Replacement], ListsModel | None] | None:
    """Make `state` the directory's snapshot, unless a later one of the same index exists.

    Returns mapped segments for all of the state's, and the model of their lists; None where a
    later snapshot exists. With `queries` segments of similar sizes are merged, and large ones get
    lists. Rows `arriving` in steps, with ids that ascend and lie above those of `state`, are written
    step by step. `replace` overwrites any snapshot; otherwise another index's raises IndexMismatch. Raises
    OSError when the disk is full or fails, and the former snapshot remains.
    """
    make_directory(directory)
    with exclusive(directory):
        former = None if replace else Manifest.read(directory)
        if former is not None:
            former.require(identity, directory)
            if former.applied_through > state.applied_through:
                return None
        files = _Files(directory, former)
        written = [Replacement((old,), files.write_segment(old)) for old in state.segments]
        written += [Replacement((), seal(new)) for new in files.write_arriving(arriving, limits)]
        if queries is not None:
            written = _merged(written, limits, files, seal)
        mapped = changed(state, segments=tuple(each.new for each in written))
        if queries is not None:
            mapped = _with_lists(mapped, files, limits, queries)
            written = [
                changed(each, new=new) for each, new in zip(written, mapped.segments, strict=True)
            ]
        manifest = files.describe(mapped, identity)
        if manifest != former:
            # The names in the manifest have to be durable before the manifest is.
            sync_directory(directory)
            manifest.write(directory)
            sync_directory(directory)
        _remove_stale(directory, manifest)
        return written, mapped.model


def load(
    identity: IndexIdentity, directory: Path, seal: Callable[[Segment], Sealed]
) -> State | None:
    """The directory's snapshot, None when there is none; raises IndexMismatch."""
    manifest = Manifest.read(directory)
    while manifest is not None:
        manifest.require(identity, directory)
        try:
            return _read_files(manifest, directory, seal)
        except FileNotFoundError as error:
            # Another process may have replaced the snapshot since and removed this one's files.
            former, manifest = manifest, Manifest.read(directory)
            if manifest == former:
                raise _damaged(Path(error.filename), "it is missing") from error
    return None


def stamp(directory: Path) -> object:
    """What changes when a snapshot is replaced; None without one."""
    try:
        status = (directory / MANIFEST_NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def damaged_files(directory: Path) -> list[str]:
    """Names of the snapshot's files whose bytes are not those that were written."""
    manifest = Manifest.read(directory)
    names = [] if manifest is None else sorted(manifest.file_names())
    return [name for name in names if _sha256(directory / name) != name.partition(".")[0]]


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class _Files:
    """Writes the files that the former snapshot lacks."""

    def __init__(self, directory: Path, former: Manifest | None) -> None:
        self._directory = directory
        self._there = set() if former is None else set(former.file_names())

    def _write(self, chunks: Iterable[bytes | memoryview], suffix: str) -> str:
        name = write_named_by_content(self._directory, chunks, suffix, self._there)
        self._there.add(name + suffix)
        return name

    def _has(self, name: str) -> bool:
        return name in self._there and (self._directory / name).exists()

    def write_segment(self, sealed: Sealed) -> Sealed:
        """The same segment, mapped."""
        segment = sealed.segment
        if segment.is_mapped and self._has(segment.sha256 + ROWS_SUFFIX):
            return sealed
        name = self._write(encode_rows(segment.rows, segment.checksums), ROWS_SUFFIX)
        if segment.is_mapped:
            return sealed
        return sealed.over(self._map(name, len(segment), segment.dimension))

    def write_arriving(self, steps: Iterable[Rows], limits: SegmentLimits) -> Iterator[Segment]:
        """Mapped segments with the rows of all steps."""
        coming = (rows for rows in steps if len(rows))
        for first in coming:
            count = 0
            dimension = first.vectors.shape[1]

            def of_one_file(first: Rows = first) -> Iterator[Rows]:
                nonlocal count
                for rows in itertools.chain([first], coming):
                    count += len(rows)
                    yield rows
                    if count >= limits.merged_rows:
                        return

            name = self._write(encode_arriving(of_one_file()), ROWS_SUFFIX)
            yield self._map(name, count, dimension)

    def write_merged(self, group: Sequence[Sealed]) -> Segment:
        """One mapped segment with the live rows of several mapped ones."""
        positions = [sealed.live_positions() for sealed in group]
        checksums = [c for sealed in group if (c := sealed.segment.checksums) is not None]
        chunks = encode_merged([sealed.rows for sealed in group], checksums, positions)
        name = self._write(chunks, ROWS_SUFFIX)
        return self._map(name, sum(map(len, positions)), group[0].segment.dimension)

    def _map(self, name: str, count: int, dimension: int) -> Segment:
        segment = Segment.map(self._directory / (name + ROWS_SUFFIX), count, dimension)
        segment.sha256 = name
        return segment

    def write_lists(self, sealed: Sealed, model: ListsModel, *, is_new: bool) -> Sealed:
        """The segment with its lists, mapped."""
        lists = sealed.lists
        if lists is not None and not is_new and self._has(lists.path.name):
            return sealed
        name = self._write(encode_lists(model, sealed.rows.vectors), LISTS_SUFFIX)
        path = self._directory / (name + LISTS_SUFFIX)
        return sealed.with_lists(Lists(path, model, len(sealed.segment)))

    def describe(self, state: State, identity: IndexIdentity) -> Manifest:
        """The manifest of a state whose segments and lists are written."""
        segments = tuple(
            StoredSegment(
                sealed.segment.sha256,
                len(sealed.segment),
                sealed.lists.path.stem
                if sealed.lists is not None and self._has(sealed.lists.path.name)
                else None,
            )
            for sealed in state.segments
        )
        delta = deleted = model = None
        rows = state.delta.live_rows()
        if rows.ids.size:
            name = self._write(encode_rows(changed(rows, vectors=pad(rows.vectors))), ROWS_SUFFIX)
            delta = StoredFile(name, len(rows.ids))
        if dead := sum(sealed.dead_count for sealed in state.segments):
            bitmaps = [_encode_deleted(sealed) for sealed in state.segments]
            deleted = StoredFile(self._write(bitmaps, DELETED_SUFFIX), dead)
        if state.model is not None and any(stored.lists for stored in segments):
            name = self._write(state.model.encode(), MODEL_SUFFIX)
            model = StoredModel(
                name, state.model.trained_rows, *state.model.shapes, state.model.depth
            )
        return Manifest(identity, state.applied_through, segments, delta, deleted, model)


def _merged(
    written: Sequence[Replacement],
    limits: SegmentLimits,
    files: _Files,
    seal: Callable[[Segment], Sealed],
) -> list[Replacement]:
    """The same rows in fewer segments."""
    merged = list(written)
    while group := to_merge_on_disk([each.new for each in merged], limits):
        parts = [each for each in merged if each.new in group]
        old = tuple(sealed for each in parts for sealed in each.old)
        merged = [each for each in merged if each not in parts]
        merged.append(Replacement(old, seal(files.write_merged([each.new for each in parts]))))
    return merged


def _with_lists(state: State, files: _Files, limits: SegmentLimits, queries: Queries) -> State:
    """The state whose large segments have lists, with a model that fits their number."""
    large = [s for s in state.segments if len(s.segment) >= limits.listed_segment_rows]
    total = sum(len(sealed.segment) for sealed in large)
    if total < limits.listed_index_rows:
        return changed(
            state, segments=tuple(s.with_lists(None) for s in state.segments), model=None
        )
    model = state.model
    is_new = model is None or total >= GROWTH * model.trained_rows
    if model is None or is_new:
        model = train([s.rows.vectors for s in large], state.delta.dimension, queries())
    segments = tuple(
        files.write_lists(sealed, model, is_new=is_new) if sealed in large else sealed
        for sealed in state.segments
    )
    return changed(state, segments=segments, model=model)


def _read_files(manifest: Manifest, directory: Path, seal: Callable[[Segment], Sealed]) -> State:
    """The state that a manifest describes; raises FileNotFoundError and IndexMismatch."""
    dimension = manifest.identity.dimension
    deleted = b""
    if manifest.deleted is not None:
        deleted = _read(directory, manifest.deleted, DELETED_SUFFIX)
        if len(deleted) != sum(_bitmap_size(stored.rows) for stored in manifest.segments):
            raise _damaged(
                directory / (manifest.deleted.sha256 + DELETED_SUFFIX), "its size is off"
            )
    model = _read_model(manifest.model, directory, dimension)
    segments = []
    for stored in manifest.segments:
        path = directory / (stored.sha256 + ROWS_SUFFIX)
        try:
            segment = Segment.map(path, stored.rows, dimension)
        except ValueError as error:
            raise _damaged(path, str(error)) from error
        segment.sha256 = stored.sha256
        sealed = seal(segment)
        if model is not None and stored.lists is not None:
            sealed = sealed.with_lists(_read_lists(stored, directory, model))
        if deleted:
            bits = np.frombuffer(deleted, np.uint8, count=_bitmap_size(stored.rows))
            deleted = deleted[len(bits) :]
            alive = np.unpackbits(bits, count=stored.rows, bitorder="little") == 0
            sealed = sealed.with_alive(None if alive.all() else alive)
        segments.append(sealed)
    delta = Delta.empty(dimension)
    if manifest.delta is not None:
        data = _read(directory, manifest.delta, ROWS_SUFFIX)
        try:
            rows = Segment.decode(data, manifest.delta.rows, dimension).rows
        except ValueError as error:
            path = directory / (manifest.delta.sha256 + ROWS_SUFFIX)
            raise _damaged(path, str(error)) from error
        delta = delta.appended(changed(rows, vectors=rows.vectors[:, :dimension]))
    return State(tuple(segments), delta, manifest.applied_through, model)


def _read_model(stored: StoredModel | None, directory: Path, dimension: int) -> ListsModel | None:
    """The model of the lists; None, with a warning, when it is damaged: then searches are exact."""
    if stored is None:
        return None
    try:
        data = _read(directory, stored, MODEL_SUFFIX)
        shapes = (stored.directions, stored.lists, stored.groups)
        return ListsModel.decode(data, padded_width(dimension), shapes, stored.rows, stored.depth)
    except (ValueError, IndexMismatch) as error:
        _log.warning("searches are slow, because lists are damaged: %s; %s", error, REMEDY)
        return None


def _read_lists(stored: StoredSegment, directory: Path, model: ListsModel) -> Lists | None:
    """The lists of a segment; None, with a warning, when they are damaged."""
    path = directory / f"{stored.lists}{LISTS_SUFFIX}"
    try:
        return Lists(path, model, stored.rows)
    except ValueError as error:
        _log.warning("searches are slow, because %s is damaged: %s; %s", path, error, REMEDY)
        return None


def _read(directory: Path, stored: StoredFile, suffix: str) -> bytes:
    path = directory / (stored.sha256 + suffix)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise _damaged(path, "its checksum does not match")
    return data


def _damaged(path: Path, reason: str) -> IndexMismatch:
    return IndexMismatch(f"the vector index file {path} is damaged: {reason}", remedy=REMEDY)


def _encode_deleted(sealed: Sealed) -> bytes:
    """One bit per row, 1 when deleted, low bits first, padded with 0 to whole bytes."""
    if sealed.alive is None:
        return bytes(_bitmap_size(len(sealed.segment)))
    return np.packbits(~sealed.alive, bitorder="little").tobytes()


def _bitmap_size(rows: int) -> int:
    return (rows + 7) // 8


def _remove_stale(directory: Path, manifest: Manifest) -> None:
    """Remove the former snapshot's files and those left by a crash."""
    needed = manifest.file_names()
    suffixes = (ROWS_SUFFIX, DELETED_SUFFIX, LISTS_SUFFIX, MODEL_SUFFIX, ASIDE_SUFFIX)
    for path in sorted(directory.iterdir()):
        if path.name.endswith(suffixes) and path.name not in needed:
            remove_file(path)
