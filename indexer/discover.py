"""Finds the photographs below a root and compares them with the catalog.

The walk and the catalog both yield paths in byte order of whole paths and are merged as streams,
so memory does not grow with the library.

An asset is MISSING only if its absence could be observed. What `regard.indexer.exclusions` leaves
out is LEFT_OUT.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace

from regard.core.catalog import KnownAsset
from regard.indexer.bucket_walk import BucketWalk
from regard.indexer.folder_walk import FolderWalk
from regard.indexer.walk import Candidate, Likeness, Status, Walk, WalkEntry
from regard.photos.buckets import is_object
from regard.photos.files import Confinement, absolute_path, folders_above


def walk_type(path: bytes) -> type[Walk]:
    """The walk for a path: over objects or over files."""
    return BucketWalk if is_object(path) else FolderWalk


def distinct_roots(paths: Iterable[str | bytes | os.PathLike[str]]) -> list[bytes]:
    """Absolute roots in byte order, without those below another root."""
    roots: dict[bytes, None] = {}
    for root in sorted({absolute_path(path) for path in paths}):
        if not lies_below(root, roots):
            roots[root] = None
    return list(roots)


def lies_below(path: bytes, roots: Container[bytes]) -> bool:
    """Whether one of the path's parent folders is among the roots."""
    return any(folder in roots for folder in folders_above(path))


def require_root(root: bytes, confinement: Confinement | None = None) -> None:
    """Raise an error unless a root can be walked; see `Walk.require_root`."""
    walk_type(root)(root, confinement=confinement).require_root()


def is_gone(path: bytes) -> bool:
    """Whether the file is known not to exist; raises StoreUnavailable."""
    return walk_type(path).is_gone(path)


def compare(
    walk: Walk, known_assets: Callable[[bytes], Iterator[KnownAsset]], *, retry_failed: bool
) -> Iterator[Candidate]:
    """Merge the walk with the catalog's assets below the same root.

    Known assets without a file are MISSING unless the walk could not look there. Candidates are
    meaningless once the walk has stopped.
    """
    known = known_assets(walk.root)
    asset = next(known, None)
    for entry in walk:
        path = entry.stamp.path
        while asset is not None and asset.stamp.path < path:
            yield from _without_entry(walk, asset)
            asset = next(known, None)
        if asset is None or asset.stamp.path != path:
            if entry.likeness in {Likeness.PHOTO, Likeness.UNKNOWN}:
                yield Candidate(Status.NEW, entry, None)
            continue
        if entry.likeness is Likeness.LEFT_OUT:
            yield Candidate(Status.LEFT_OUT, None, asset)
        else:
            status = _status(entry, asset, retry_failed=retry_failed)
            yield Candidate(status, replace(entry, likeness=Likeness.PHOTO), asset)
        asset = next(known, None)
    while asset is not None:
        yield from _without_entry(walk, asset)
        asset = next(known, None)


def _without_entry(walk: Walk, asset: KnownAsset) -> Iterator[Candidate]:
    candidate = walk.without_entry(asset)
    if candidate is not None:
        yield candidate


def _status(entry: WalkEntry, known: KnownAsset, *, retry_failed: bool) -> Status:
    if entry.is_unreachable and known.failure_reason is None:
        return Status.UNREACHABLE
    if not entry.stamp.is_unchanged_since(known.stamp):
        return Status.CHANGED
    if known.failure_reason is None:
        return Status.UNCHANGED
    return Status.RETRY if retry_failed else Status.STILL_FAILED
