"""An indexing run: photo to records, with every core busy and memory bounded.

    discover ─▶ reader threads: read, hash, decode ─▶ batches ─▶ analyzer threads ─▶ commit

The caller's thread decides and commits; see regard.indexer.analysing for the stages around it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from regard.core.catalog import Failure, IndexingCatalog, KnownAsset, WriterLease
from regard.core.errors import (
    DecodeError,
    NotFound,
    RegardError,
    RootUnavailable,
)
from regard.core.uris import uri_of_path
from regard.indexer.analysing import AHEAD_PIXELS, Analysing, Stages
from regard.indexer.commits import Commits, Pending
from regard.indexer.decode import Photo, read_photo
from regard.indexer.discover import (
    Candidate,
    Found,
    Status,
    Walk,
    compare,
    distinct_roots,
    is_empty_folder,
    require_inside,
    require_root,
)
from regard.indexer.report import IndexReport, Progress
from regard.photos.confinement import LEADS_OUT, Confinement, confine
from regard.photos.decoding import DecodeLimits

_log = logging.getLogger(__name__)

# A batch closes early when so many files turned out to be twins of its pictures.
_BATCH_TWINS = 256
_REMOVED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _Read:
    """What was made of a file: a photograph, or the reason why not."""

    found: Found
    photo: Photo | None = None
    trouble: str | None = None


class Indexer:
    """Indexes roots into one collection."""

    def __init__(self, catalog: IndexingCatalog, analysing: Analysing) -> None:
        self.catalog = catalog
        self.analysing = analysing

    def run(
        self,
        paths: Sequence[str | bytes | os.PathLike[str]],
        *,
        retry_failed: bool = False,
        confined_to: bytes | None = None,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> IndexReport:
        """Index everything at or below the paths; returns what was done.

        When `should_stop` turns true, what is in the models is committed and the report says
        `interrupted`; the next run carries on. Nothing is read that lies outside of the folder
        `confined_to`, where links lead there: those are failures. Raises RootUnavailable when a path
        is missing or unreadable, or when no photograph is left below one that had some; OutsideRoots
        when a path leads out of `confined_to`; LeaseHeld when another process indexes; ModelError when
        the models can't be loaded.
        """
        started = time.perf_counter()
        roots = distinct_roots(paths)
        confinement = None if confined_to is None else confine(confined_to)
        for root in roots:
            require_inside(root, confinement)
            require_root(root)
        with self.catalog.writer_lease() as lease:
            for root in roots:
                # Before anything is done: a disk that is missing must not make copies look like moves.
                if is_empty_folder(root) and next(self.catalog.known_assets(root), None):
                    raise _emptied(root)
            # An index that can't be used should show before the work, not after it.
            self.analysing.indexes.catch_up()
            run = _Run(self, lease, roots, retry_failed, confinement, progress, should_stop)
            try:
                run.index(roots)
            except BaseException:
                # Trouble with the indexes must not hide what went wrong first.
                with contextlib.suppress(RegardError):
                    self._keep_indexes()
                raise
            self._keep_indexes()
        report = run.report
        report.unseen = list(report.failures)
        report.failures[:0] = self.catalog.failures(roots)
        report.seconds = time.perf_counter() - started
        return report

    def remove(self, paths: Sequence[str | bytes | os.PathLike[str]]) -> int:
        """Take what lies at or below the paths out of the catalog; touches no file.

        Returns the number of assets removed; raises NotFound when the catalog knows none there.
        """
        removed = 0
        with self.catalog.writer_lease():
            roots = distinct_roots(paths)
            for root in roots:
                if next(self.catalog.known_assets(root), None) is None:
                    raise NotFound(
                        f"the collection holds nothing at or below {uri_of_path(root)}",
                        remedy="see what it holds with: regard status",
                    )
            for root in roots:
                known = self.catalog.known_assets(root)
                removed += sum(self.catalog.remove(assets) for assets in _portions(known))
            self._keep_indexes()
        return removed

    def _keep_indexes(self) -> None:
        self.analysing.indexes.catch_up()
        self.analysing.indexes.snapshot()


class _Run:
    """One run of an indexer: its stages and its decisions."""

    def __init__(
        self,
        indexer: Indexer,
        lease: WriterLease,
        roots: Sequence[bytes],
        retry_failed: bool,
        confinement: Confinement | None,
        progress: Progress | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.report = IndexReport()
        self._analysing = indexer.analysing
        self._catalog = indexer.catalog
        self._lease = lease
        self._retry_failed = retry_failed
        self._confinement = confinement
        self._progress = progress
        self._should_stop = should_stop
        self._pending: dict[str, Pending] = {}
        self._with_missing: list[Walk] = []
        self._stages = Stages(self._analysing, self._stopped)
        self._commits = Commits(self._catalog, frozenset(roots), self.report, progress)

    def index(self, roots: Sequence[bytes]) -> None:
        """Index the roots, then delete what is missing below them."""
        analyzer = self._analysing.load_analyzer()
        ended = threading.Event()
        counter = threading.Thread(target=self._count, args=(roots, ended), daemon=True)
        if self._progress is not None:
            counter.start()
        analysed = self._stages.analysed(
            analyzer, self._work(roots), self._read_ahead, self._batches
        )
        try:
            with contextlib.closing(analysed):
                for batch, analyses in analysed:
                    for pending, analysis in zip(batch, analyses, strict=True):
                        del self._pending[pending.photo.content.sha256]
                        self._commits.save(pending, analysis)
                    self._stages.keep_indexes(self._commits.count)
            self._remove_missing()
        finally:
            ended.set()
            if self._progress is not None:
                counter.join()

    def _stopped(self) -> bool:
        self._lease.check()
        if not self.report.interrupted and self._should_stop():
            self.report.interrupted = True
        return self.report.interrupted

    def _work(self, roots: Sequence[bytes]) -> Iterator[Found]:
        """The files that must be read; what needs no reading is dealt with on the way."""
        for root in roots:
            walk = Walk(root, self._stopped, confinement=self._confinement)
            is_any_missing = False
            for candidate in self._compared(walk):
                if self._stopped():
                    return
                found = candidate.found
                if candidate.status is Status.UNCHANGED:
                    self.report.unchanged += 1
                elif found is None:
                    is_any_missing = True
                elif candidate.status is Status.UNREACHABLE:
                    failure = Failure(uri_of_path(found.stamp.path), found.trouble or "")
                    self.report.failures.append(failure)
                elif candidate.status is not Status.STILL_FAILED:
                    yield found
            if is_any_missing and not walk.files:
                raise _emptied(root)
            if is_any_missing:
                self._with_missing.append(walk)
            self.report.failures.extend(
                Failure(uri_of_path(folder), f"the folder can't be read: {reason}")
                for folder, reason in walk.unreadable
            )
            self.report.failures.extend(
                Failure(uri_of_path(link), LEADS_OUT) for link in walk.outside
            )

    def _remove_missing(self) -> None:
        """Delete what has no file, by a second look: moved files have been carried along since.

        Looking again costs less than keeping the list, which may be as long as the library.
        """
        for walk in self._with_missing:
            again = Walk(walk.root, self._stopped, walk.identity, self._confinement)
            missing = (
                candidate.known
                for candidate in self._compared(again)
                if candidate.status is Status.MISSING and candidate.known is not None
            )
            for assets in _portions(missing):
                if self._stopped():
                    return
                again.require_root()
                self.report.removed += self._catalog.remove(assets)

    def _compared(self, walk: Walk) -> Iterator[Candidate]:
        return compare(walk, self._catalog.known_assets, retry_failed=self._retry_failed)

    def _count(self, roots: Sequence[bytes], ended: threading.Event) -> None:
        """Count the files that need work, ahead of the run, for the time that is left."""
        total = 0
        try:
            for root in roots:
                walk = Walk(root, ended.is_set, confinement=self._confinement)
                for candidate in self._compared(walk):
                    if ended.is_set():
                        return
                    total += candidate.status in {Status.NEW, Status.CHANGED, Status.RETRY}
        except (OSError, RegardError) as error:
            # The run itself meets the same trouble and reports it.
            _log.debug("counting stopped: %s", error)
            return
        if self._progress is not None:
            self._progress.expect(total)

    def _read_ahead(self, found: Found) -> _Read:
        """In a reader thread: as `_read`, giant pictures left out."""
        pixels = min(self._analysing.limits.max_pixels, AHEAD_PIXELS)
        return self._read(found, dataclasses.replace(self._analysing.limits, max_pixels=pixels))

    def _read(self, found: Found, limits: DecodeLimits) -> _Read:
        """Bytes, identity and facts; pixels too unless the content is known."""
        if found.trouble is not None:
            return _Read(found, trouble=found.trouble)
        try:
            photo = read_photo(
                found.stamp.path,
                limits,
                sidecar=found.sidecar,
                is_known=lambda sha256: self._catalog.assets_of_content(sha256) is not None,
                within=self._confinement,
            )
        except DecodeError as error:
            return _Read(found, trouble=error.message)
        except RegardError:
            raise
        except Exception as error:  # noqa: BLE001 - one file must not stop the run, whatever is in it
            _log.info("reading failed", exc_info=True)
            return _Read(found, trouble=f"it can't be read: {type(error).__name__}: {error}")
        return _Read(found, photo)

    def _batches(self, read: Iterable[_Read]) -> Iterator[list[Pending]]:
        """Batches of new contents; failures and known contents are committed on the way."""
        batch: list[Pending] = []
        for item in read:
            pending = self._sort(item)
            if pending is not None:
                self._pending[pending.photo.content.sha256] = pending
                batch.append(pending)
            twins = sum(len(pending.twins) for pending in batch)
            if self._analysing.is_full(batch) or twins >= _BATCH_TWINS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _sort(self, item: _Read) -> Pending | None:
        """A content that the models must see; whatever else it is, is dealt with here."""
        if item.found.trouble is not None:
            self._commits.fail(item.found, item.found.trouble)
            return None
        if item.photo is not None:
            if self._is_stored(item.found, item.photo):
                return None
            if item.photo.image is not None:
                return _pending(item.found, item.photo)
        # It may be a giant; or its content was known to the reader and has gone since.
        return self._stages.read_giant(lambda: self._read_again(item.found))

    def _read_again(self, found: Found) -> Pending | None:
        again = self._read(found, self._analysing.limits)
        if again.photo is None:
            self._commits.fail(again.found, again.trouble or "it can't be read")
        elif not self._is_stored(again.found, again.photo):
            return _pending(again.found, again.photo)
        return None

    def _is_stored(self, found: Found, photo: Photo) -> bool:
        """Whether the content is stored or under way already; then the file becomes its asset."""
        sha256 = photo.content.sha256
        if sha256 in self._pending:
            self._pending[sha256].twins.append((found, dataclasses.replace(photo, image=None)))
            return True
        assets = self._catalog.assets_of_content(sha256)
        if assets is not None:
            self._commits.attach(found, photo, assets)
        return assets is not None


def _emptied(root: bytes) -> RootUnavailable:
    uri = uri_of_path(root)
    return RootUnavailable(
        f"no photograph is left at {uri}, where the catalog knows some, and nothing was removed",
        remedy=f"mount or restore it, or run: regard remove {shlex.quote(uri)}",
    )


def _portions(assets: Iterator[KnownAsset]) -> Iterator[list[KnownAsset]]:
    while portion := list(itertools.islice(assets, _REMOVED_AT_ONCE)):
        yield portion


def _pending(found: Found, photo: Photo) -> Pending:
    return Pending(found, dataclasses.replace(photo, image=None), photo.image)
