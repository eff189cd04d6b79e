"""Writes a state to a directory and reads it back.

Files are read whole instead of memory-mapped: the checksum needs every byte, FAISS owns its
memory, and a later snapshot may remove the files of an open index.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from regard.core.errors import IndexMismatch
from regard.core.records import Int64Array
from regard.storage.files.durable import (
    ASIDE_SUFFIX,
    exclusive,
    make_directory,
    remove_file,
    sync_directory,
    write_file,
)
from regard.storage.vectors.manifest import (
    DELETED_SUFFIX,
    REMEDY,
    ROWS_SUFFIX,
    IndexIdentity,
    Manifest,
    StoredFile,
)
from regard.storage.vectors.segment import Float16Array, Sealed, decode_rows, digest, encode_rows
from regard.storage.vectors.state import Delta, Seal, State


def save(state: State, identity: IndexIdentity, directory: Path, *, replace: bool) -> None:
    """Make `state` the directory's snapshot, unless a later one of the same index exists.

    `replace` overwrites any snapshot; otherwise another index's raises IndexMismatch. Raises
    OSError when the disk is full or fails, and the former snapshot remains.
    """
    make_directory(directory)
    with exclusive(directory):
        former = None if replace else Manifest.read(directory)
        if former is not None:
            former.require(identity, directory)
            if former.applied_through > state.applied_through:
                return
        manifest = _write_files(state, identity, directory, former)
        if manifest != former:
            # The names in the manifest have to be durable before the manifest is.
            sync_directory(directory)
            manifest.write(directory)
            sync_directory(directory)
        _remove_stale(directory, manifest)


def load(identity: IndexIdentity, directory: Path, seal: Seal) -> State | None:
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


def _write_files(
    state: State, identity: IndexIdentity, directory: Path, former: Manifest | None
) -> Manifest:
    """Write what the former snapshot lacks; return the new manifest."""
    there = frozenset() if former is None else former.file_names()

    def keep(name: str) -> bool:
        return name in there and (directory / name).exists()

    stored = []
    for sealed in state.segments:
        segment = sealed.segment
        name = segment.sha256 + ROWS_SUFFIX
        if not keep(name):
            write_file(directory / name, segment.encode())
        stored.append(StoredFile(segment.sha256, len(segment)))
    delta = deleted = None
    ids, vectors = state.delta.live_rows()
    if ids.size:
        delta = StoredFile(digest(encode_rows(ids, vectors)), len(ids))
        if not keep(delta.sha256 + ROWS_SUFFIX):
            write_file(directory / (delta.sha256 + ROWS_SUFFIX), encode_rows(ids, vectors))
    if dead := sum(sealed.dead_count for sealed in state.segments):
        bitmaps = b"".join(_encode_deleted(sealed) for sealed in state.segments)
        deleted = StoredFile(hashlib.sha256(bitmaps).hexdigest(), dead)
        if not keep(deleted.sha256 + DELETED_SUFFIX):
            write_file(directory / (deleted.sha256 + DELETED_SUFFIX), [bitmaps])
    return Manifest(identity, state.applied_through, tuple(stored), delta, deleted)


def _read_files(manifest: Manifest, directory: Path, seal: Seal) -> State:
    """The state that a manifest describes; raises FileNotFoundError and IndexMismatch."""
    dimension = manifest.identity.dimension
    deleted = b""
    if manifest.deleted is not None:
        deleted = _read(directory, manifest.deleted, DELETED_SUFFIX)
        if len(deleted) != sum(_bitmap_size(stored.rows) for stored in manifest.segments):
            raise _damaged(
                directory / (manifest.deleted.sha256 + DELETED_SUFFIX), "its size is off"
            )
    segments = []
    for stored in manifest.segments:
        sealed = seal(*_read_rows(directory, stored, dimension))
        sealed.segment.sha256 = stored.sha256  # known already; spares the next snapshot a pass
        if deleted:
            bits = np.frombuffer(deleted, np.uint8, count=_bitmap_size(stored.rows))
            deleted = deleted[len(bits) :]
            dead = np.unpackbits(bits, count=stored.rows, bitorder="little").astype(np.bool_)
            sealed = sealed.without(sealed.ids[dead])
        segments.append(sealed)
    delta = Delta.empty(dimension)
    if manifest.delta is not None:
        delta = delta.appended(*_read_rows(directory, manifest.delta, dimension))
    return State(tuple(segments), delta, manifest.applied_through)


def _read_rows(
    directory: Path, stored: StoredFile, dimension: int
) -> tuple[Int64Array, Float16Array]:
    data = _read(directory, stored, ROWS_SUFFIX)
    try:
        return decode_rows(data, stored.rows, dimension)
    except ValueError as error:
        raise _damaged(directory / (stored.sha256 + ROWS_SUFFIX), str(error)) from error


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
    for path in sorted(directory.iterdir()):
        ours = path.name.endswith((ROWS_SUFFIX, DELETED_SUFFIX, ASIDE_SUFFIX))
        if ours and path.name not in needed:
            remove_file(path)
