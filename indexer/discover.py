"""Finds the photographs below a root and compares them with the catalog.

The walk and the catalog both yield paths in byte order of whole paths and are merged as streams,
so memory does not grow with the library.

An asset is MISSING only if its absence could be observed. What `regard.indexer.exclusions` leaves
out is LEFT_OUT.
"""

from __future__ import annotations

import heapq
import os
import shlex
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import replace

from regard.core.catalog import KnownAsset
from regard.core.errors import RootUnavailable
from regard.indexer.bucket_walk import BucketWalk
from regard.indexer.folder_walk import FolderWalk
from regard.indexer.walk import Candidate, Likeness, Status, Walk, WalkEntry
from regard.photos.buckets import is_object
from regard.photos.files import Confinement, absolute_path, folders_above, uri_of_path


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


def parts_by_root(
    roots: Collection[bytes], parts: Sequence[bytes]
) -> dict[bytes, tuple[bytes, ...]]:
    """The roots that have some of the parts, each with its own; no parts stand for all of it.

    A bucket is always walked whole.
    """
    by_root: dict[bytes, tuple[bytes, ...]] = {}
    for part in distinct_roots(parts):
        root = next((one for one in (part, *folders_above(part)) if one in roots), None)
        if root is not None:
            is_whole = part == root or is_object(root)
            by_root[root] = () if is_whole else (*by_root.get(root, ()), part)
    return by_root


def emptied(root: bytes) -> RootUnavailable:
    """The error for a root that has no photograph left although it had some."""
    uri = uri_of_path(root)
    return RootUnavailable(
        f"no photograph is left at {uri}, although the catalog has some; nothing was removed",
        remedy=f"mount or restore it, or run: regard remove {shlex.quote(uri)}",
    )


def holds_photo(walk: Walk) -> bool:
    """Whether a walk finds a photograph, or a file that is meant to be one."""
    return any(entry.likeness is Likeness.PHOTO for entry in walk)


def compare(
    walk: Walk,
    known_assets: Callable[[bytes], Iterator[KnownAsset]],
    *,
    retry_failed: bool,
    reread: bool = False,
) -> Iterator[Candidate]:
    """Merge the walk with the catalog's assets below the same root, or at the same parts of it.

    With `reread`, unchanged files count as changed, unless they failed.
    Known assets without a file are MISSING unless the walk could not look there. Candidates are
    meaningless once the walk has stopped.
    """
    known = _known_to(walk, known_assets)
    asset = next(known, None)
    for entry in walk:
        path = entry.stamp.path
        while asset is not None and asset.stamp.path < path:
            yield from _without_entry(walk, asset)
            asset = next(known, None)
        if asset is None or asset.stamp.path != path:
            if entry.is_unsettled:
                yield Candidate(Status.UNSETTLED, entry, None)
            elif entry.likeness in {Likeness.PHOTO, Likeness.UNKNOWN}:
                yield Candidate(Status.NEW, entry, None)
            continue
        if entry.likeness is Likeness.LEFT_OUT:
            yield Candidate(Status.LEFT_OUT, None, asset)
        else:
            status = _status(entry, asset, retry_failed=retry_failed, reread=reread)
            yield Candidate(status, replace(entry, likeness=Likeness.PHOTO), asset)
        asset = next(known, None)
    while asset is not None:
        yield from _without_entry(walk, asset)
        asset = next(known, None)


def _known_to(
    walk: Walk, known_assets: Callable[[bytes], Iterator[KnownAsset]]
) -> Iterator[KnownAsset]:
    if not walk.parts:
        return known_assets(walk.root)
    below = map(known_assets, walk.parts)
    return heapq.merge(*below, key=lambda asset: asset.stamp.path)


def _without_entry(walk: Walk, asset: KnownAsset) -> Iterator[Candidate]:
    candidate = walk.without_entry(asset)
    if candidate is not None:
        yield candidate


def _status(entry: WalkEntry, known: KnownAsset, *, retry_failed: bool, reread: bool) -> Status:
    if entry.is_unsettled:
        return Status.UNSETTLED
    if entry.is_unreachable and known.failure_reason is None:
        return Status.UNREACHABLE
    if not entry.stamp.is_unchanged_since(known.stamp):
        return Status.CHANGED
    if known.failure_reason is None:
        return Status.CHANGED if reread else Status.UNCHANGED
    return Status.RETRY if retry_failed else Status.STILL_FAILED
