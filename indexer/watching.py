"""Watches folders and buckets, and tells which of their photographs to index again.

    events of the file system ─┐
                               ├─▶ a look: walk, compare with the catalog ─▶ changed paths ─▶ a run
    the clock ─────────────────┘

An event only says where to look, and only what a look finds to differ from the catalog is given to
an indexer, which alone decides and writes. A look needs no lease and no models. All of a root is
looked at in the beginning, when it has come back, when events were lost, and from time to time:
seldom where the file system tells of changes, often where it does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from regard.core.catalog import FileStamp, IndexingCatalog
from regard.core.errors import CannotWork, OutsideRoots, RootUnavailable, StoreUnavailable
from regard.indexer.changes import MOST_PARTS, QUIET_SECONDS, Changes, coarsened
from regard.indexer.discover import (
    compare,
    distinct_roots,
    emptied,
    holds_photo,
    lies_below,
    walk_type,
)
from regard.indexer.exclusions import NOTED_NAMES, Exclusions
from regard.indexer.folder_events import (
    EventsLost,
    EventsUnavailable,
    FolderEvents,
    lacks_events,
)
from regard.indexer.report import Progress
from regard.indexer.walk import Likeness, Status
from regard.photos.buckets import is_object
from regard.photos.files import Confinement, real_path, uri_of_path
from regard.photos.sidecars import SIDECAR_SUFFIX, sidecar_names

# The least time between two looks at all of a root: where there are events, where there are none,
# and at a bucket, whose listing costs money.
SAFETY_SECONDS, POLL_SECONDS, BUCKET_SECONDS = 3600.0, 5.0, 60.0
# Looks take at most a twentieth of the time.
_REST_FACTOR = 20
# How long a missing file is held back while others are unsettled: it may be one of them, moved.
_HELD_SECONDS = 3.0
_CHECK_SECONDS = 2.0
_IDLE_SECONDS = 0.2
_MOST_FOUND = 10_000
# What a run has left as it was, such as a file that the catalog can't store, waits for so long.
_GIVEN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Changed:
    """What to index: `parts` of `roots`, for `Indexer.run`."""

    roots: list[bytes]
    parts: list[bytes]


@dataclass(slots=True)
class _Root:
    """A watched root.

    `given` are the paths that were given to be indexed, each as it was found (None: missing) and
    when; `held` are the missing paths that are held back, with the time of the first look. Before
    `rests_until`, no look at all of it begins unless it is due.
    """

    path: bytes
    is_polled: bool
    changes: Changes
    given: dict[bytes, tuple[FileStamp | None, float]] = field(default_factory=dict)
    held: dict[bytes, float] = field(default_factory=dict)
    next_look: float = 0.0
    rests_until: float = 0.0
    is_away: bool = False

    @property
    def pause(self) -> float:
        if is_object(self.path):
            return BUCKET_SECONDS
        return POLL_SECONDS if self.is_polled else SAFETY_SECONDS

    def look_soon(self, now: float) -> None:
        """All of it may have changed."""
        self.next_look = min(self.next_look, max(now, self.rests_until))


class Watch:
    """Watches roots; for one thread."""

    def __init__(
        self,
        catalog: Callable[[], IndexingCatalog],
        roots: Sequence[bytes],
        own: Sequence[bytes],
        progress: Progress,
        *,
        is_polled: bool = False,
        confined_to: bytes | None = None,
    ) -> None:
        """`catalog` gives that of the live pipeline; `own` and `confined_to` are as in `Indexer`.

        `is_polled` is for file systems that do not tell of changes, unless they are known for it.
        `progress` gets notes, and says when to stop. Raises CannotWork for a path that is not a folder.
        """
        self._catalog = catalog
        self._own = own
        self._progress = progress
        self._confinement = None if confined_to is None else Confinement.to(confined_to)
        self._roots = []
        for root in distinct_roots(roots):
            if os.path.lexists(root) and not os.path.isdir(root):
                raise CannotWork(
                    f"{uri_of_path(root)} is a file, and only folders are watched",
                    remedy="name its folder",
                )
            polled = is_polled or (not is_object(root) and lacks_events(root))
            self._roots.append(_Root(root, polled, Changes(root)))
            if polled and not is_polled:
                self._note_polling(root, "its file system does not tell of all changes")
        self._events: FolderEvents | None = None
        self._followed: dict[bytes, tuple[int, int]] = {}
        self._next_check = 0.0

    def changes(self) -> Iterator[Changed]:
        """Wait for changes, and give them once they are whole, until `progress` says to stop."""
        try:
            while not self._progress.should_stop():
                self._follow(time.monotonic())
                self._wait()
                changed = self._look_around(time.monotonic())
                if changed.parts and not self._progress.should_stop():
                    yield changed
        finally:
            self._close()

    def again(self, changed: Changed) -> None:
        """The changes were not indexed: give them once more, a moment later."""
        now = time.monotonic()
        for root in self._roots:
            parts = [part for part in changed.parts if _is_at_or_below(part, root.path)]
            if parts:
                root.given.clear()
                root.changes.add(parts, now)

    def _follow(self, now: float) -> None:
        """Have the events of the folders that are there now, which may be others than before."""
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_SECONDS
        there = {}
        for root in self._roots:
            if not is_object(root.path):
                with suppress(OSError):
                    status = os.stat(root.path)
                    there[root.path] = (status.st_dev, status.st_ino)
        if there == self._followed:
            return
        self._close()
        for root in self._roots:
            if there.get(root.path) != self._followed.get(root.path):
                root.given.clear()
                root.look_soon(now)
        self._followed = there
        if not there:
            return
        try:
            self._events = FolderEvents(list(there), self._progress.should_stop)
        except EventsUnavailable as error:
            for root in self._roots:
                if root.path in there and not root.is_polled:
                    root.is_polled = True
                    root.look_soon(now)
                    self._note_polling(root.path, f"the system does not tell of changes: {error}")

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _wait(self) -> None:
        if self._events is None:
            time.sleep(_IDLE_SECONDS)
            return
        try:
            paths = self._events.wait()
        except EventsLost:
            self._close()
            self._followed = {}
            return
        if not paths:
            return
        now = time.monotonic()
        for root in self._roots:
            for start in {root.path, real_path(root.path)}:
                # Some systems tell the real paths.
                below = [path for path in paths if _is_at_or_below(path, start)]
                root.changes.add((root.path + path[len(start) :] for path in below), now)

    def _look_around(self, now: float) -> Changed:
        parts: list[bytes] = []
        for root in self._roots:
            if now >= root.next_look:
                parts += self._look(root, [root.path])
            elif not root.is_away:
                suspects = _suspects(root.changes.take(now))
                if suspects:
                    parts += self._look(root, suspects)
        return Changed([root.path for root in self._roots if not root.is_away], parts)

    def _look(self, root: _Root, paths: Sequence[bytes]) -> list[bytes]:
        """The parts of a root that differ from the catalog, of those at or below the paths."""
        started = time.monotonic()
        parts = coarsened(paths, MOST_PARTS, root.path)
        is_whole = parts == [root.path]
        found: list[bytes] = []
        try:
            found = self._differing(root, () if is_whole else parts)
        except (RootUnavailable, OutsideRoots, StoreUnavailable) as error:
            if not root.is_away:
                self._progress.note(f"{error.message}; watching goes on when it is back")
            root.is_away, is_whole = True, True
            # What was given may have failed for the same reason.
            root.given.clear()
        else:
            if root.is_away:
                self._progress.note(f"{uri_of_path(root.path)} is back")
            root.is_away = False
        if is_whole:
            now = time.monotonic()
            root.rests_until = now + _REST_FACTOR * (now - started)
            pause = min(root.pause, POLL_SECONDS) if root.is_away else root.pause
            root.next_look = max(now + pause, root.rests_until)
        return found

    def _differing(self, root: _Root, parts: Sequence[bytes]) -> list[bytes]:
        catalog = self._catalog()
        exclusions = Exclusions(catalog.exclusions(), self._own)
        if exclusions.was_removed(root.path):
            return []
        started = time.monotonic()
        walk_of = walk_type(root.path)
        walk = walk_of(
            *(root.path, self._progress.should_stop, self._confinement, exclusions),
            *(parts, QUIET_SECONDS),
        )
        if walk.is_empty() and next(catalog.known_assets(root.path), None):
            raise emptied(root.path)
        found: dict[bytes, FileStamp | None] = {}
        unsettled: list[bytes] = []
        is_any_there = False
        for candidate in compare(walk, catalog.known_assets, retry_failed=False):
            if walk.is_stopped or len(found) > _MOST_FOUND:
                break
            entry, known = candidate.entry, candidate.known
            is_any_there |= entry is not None and entry.likeness is Likeness.PHOTO
            if candidate.status is Status.UNSETTLED and entry is not None:
                unsettled.append(entry.stamp.path)
            elif candidate.status in {Status.NEW, Status.CHANGED} and entry is not None:
                found[entry.stamp.path] = entry.stamp
            elif candidate.status in {Status.MISSING, Status.LEFT_OUT} and known is not None:
                is_any_there |= candidate.status is Status.LEFT_OUT
                found[known.stamp.path] = None
        if walk.is_stopped:
            return []
        if found and not is_any_there:
            whole = walk_of(root.path, confinement=self._confinement, exclusions=exclusions)
            if not holds_photo(whole):
                raise emptied(root.path)
        now = time.monotonic()
        root.changes.add(unsettled, now)
        _hold_missing(root, parts, found, started, is_moving=bool(unsettled))
        if len(found) > _MOST_FOUND:
            return [root.path]
        return coarsened(_fresh(root, parts, found, now), MOST_PARTS, root.path)

    def _note_polling(self, root: bytes, reason: str) -> None:
        self._progress.note(f"{uri_of_path(root)} is looked through again and again: {reason}")


def _hold_missing(
    root: _Root,
    parts: Sequence[bytes],
    found: dict[bytes, FileStamp | None],
    started: float,
    *,
    is_moving: bool,
) -> None:
    """Take out the missing paths that may only have been moved; they are looked at once more.

    How long they are missing counts up to the start of the look, which may have been slow.

    They are held while other files are unsettled. Without an event that tells of their end, their
    new place may have escaped a look that was under way. Where nothing tells of it, a look at a few
    paths does not see their new place at all.
    """
    if is_object(root.path):
        return
    now = time.monotonic()
    ended = frozenset(part for part in parts if not os.path.lexists(part))
    missing = [path for path, stamp in found.items() if stamp is None]
    since = {path: root.held.get(path, now) for path in missing}
    held = set(missing) if root.is_polled and parts else set()
    for path in missing:
        age = started - since[path]
        is_told = path in ended or lies_below(path, ended)
        if (age < QUIET_SECONDS and not is_told) or (age < _HELD_SECONDS and is_moving):
            held.add(path)
    # Those that were not looked at keep their time, until they must have been.
    root.held = {
        p: t for p, t in root.held.items() if now - t < 4 * _HELD_SECONDS and p not in since
    }
    root.held.update((path, since[path]) for path in held)
    # Without events, only a look at all of it can find their new place.
    root.changes.add([root.path] if held and root.is_polled else held, now)
    for path in held:
        del found[path]


def _fresh(
    root: _Root, parts: Sequence[bytes], found: dict[bytes, FileStamp | None], now: float
) -> list[bytes]:
    """Those of the paths found below the parts that were not given as they are."""
    looked_at = frozenset(parts or [root.path])
    root.given = {
        path: (stamp, since)
        for path, (stamp, since) in root.given.items()
        if since > now - _GIVEN_SECONDS
        and (path in found or not (path in looked_at or lies_below(path, looked_at)))
    }
    fresh = [
        path
        for path, stamp in found.items()
        if path not in root.given or root.given[path][0] != stamp
    ]
    root.given.update((path, (found[path], now)) for path in fresh)
    return fresh


def _suspects(paths: Iterable[bytes]) -> list[bytes]:
    """Where to look after events at the paths: also beside sidecars, and below what has rules."""
    suspects: set[bytes] = set()
    sidecars: dict[bytes, set[bytes]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if name in NOTED_NAMES:
            suspects.add(folder)
        elif name.lower().endswith(SIDECAR_SUFFIX):
            sidecars.setdefault(folder, set()).add(name.lower())
        else:
            suspects.add(path)
    for folder, names in sidecars.items():
        with suppress(OSError):
            suspects.update(
                os.path.join(folder, name)
                for name in os.listdir(folder)
                if not names.isdisjoint(sidecar_names(name))
            )
    return list(suspects)


def _is_at_or_below(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")
