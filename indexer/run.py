"""An indexing run: photo to records, with every core busy and memory bounded.

    discover ─▶ reader threads: read, hash, decode ─▶ batches ─▶ analyzer threads ─▶ commit

The stages are generators that pull from each other in the caller's thread, which decides and commits;
two bounded pools read and think ahead of it. A stage holds a bounded number of items, giant pictures
come one at a time, and pixels go when the models have seen them; so memory depends neither on the size
of the library nor on that of its pictures.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from regard.core.catalog import DerivedIndexes, Failure, IndexingCatalog, KnownAsset, WriterLease
from regard.core.confinement import LEADS_OUT, Confinement, confine
from regard.core.decoding import DecodeLimits
from regard.core.errors import (
    DecodeError,
    NotFound,
    RegardError,
    RootUnavailable,
)
from regard.core.protocols import Analyzer
from regard.core.records import Analysis, Image
from regard.core.uris import uri_of_path
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
from regard.indexer.lookahead import map_ahead
from regard.indexer.report import IndexReport, Progress

_log = logging.getLogger(__name__)

# A batch closes early when its pictures are large: 32 megapixels are 96 MB of RGB.
_BATCH_PIXELS = 32_000_000
# Larger pictures are not decoded ahead, and one after another: a few of them would fill the memory.
_AHEAD_PIXELS = 40_000_000
# A batch closes early too when so many files turned out to be twins of its pictures.
_BATCH_TWINS = 256
_CATCH_UP_COMMITS = 256
_SNAPSHOT_SECONDS = 60.0
_REMOVED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _Read:
    """What was made of a file: a photograph, or the reason why not."""

    found: Found
    photo: Photo | None = None
    trouble: str | None = None


class Indexer:
    """Indexes roots into one collection.

    `reader_threads` read, hash and decode; `analyzer_threads` may be inside the analyzer at once, with
    batches of up to `batch_size` images.
    """

    def __init__(
        self,
        catalog: IndexingCatalog,
        load_analyzer: Callable[[], Analyzer],
        indexes: DerivedIndexes,
        *,
        batch_size: int,
        analyzer_threads: int,
        reader_threads: int = 2,
        limits: DecodeLimits | None = None,
    ) -> None:
        self.catalog = catalog
        self.load_analyzer = load_analyzer
        self.indexes = indexes
        self.batch_size = batch_size
        self.analyzer_threads = analyzer_threads
        self.reader_threads = reader_threads
        self.limits = limits or DecodeLimits()

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
            self.indexes.catch_up()
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
        self.indexes.catch_up()
        self.indexes.snapshot()


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
        self._indexer = indexer
        self._catalog = indexer.catalog
        self._lease = lease
        self._retry_failed = retry_failed
        self._confinement = confinement
        self._progress = progress
        self._should_stop = should_stop
        self._pending: dict[str, Pending] = {}
        self._with_missing: list[Walk] = []
        self._giant = threading.Semaphore()
        self._commits = Commits(self._catalog, frozenset(roots), self.report, progress)
        self._caught_up = 0
        self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS

    def index(self, roots: Sequence[bytes]) -> None:
        """Index the roots, then delete what is missing below them."""
        analyzer = self._indexer.load_analyzer()
        ended = threading.Event()
        counter = threading.Thread(target=self._count, args=(roots, ended), daemon=True)
        readers = ThreadPoolExecutor(self._indexer.reader_threads, "read")
        thinkers = ThreadPoolExecutor(self._indexer.analyzer_threads, "analyze")
        if self._progress is not None:
            counter.start()
        try:
            read = map_ahead(
                readers,
                self._read_ahead,
                self._work(roots),
                window=2 * self._indexer.reader_threads,
                stopped=self._stopped,
            )
            # One batch more than there are threads: none of them waits for the commit.
            analysed = map_ahead(
                thinkers,
                lambda batch: self._analyse(analyzer, batch),
                self._batches(outcome for _, outcome in read),
                window=self._indexer.analyzer_threads + 1,
                stopped=self._stopped,
            )
            for batch, analyses in analysed:
                for pending, analysis in zip(batch, analyses, strict=True):
                    del self._pending[pending.photo.content.sha256]
                    self._commits.save(pending, analysis)
                self._keep_indexes()
            self._remove_missing()
        finally:
            ended.set()
            readers.shutdown(cancel_futures=True)
            thinkers.shutdown(cancel_futures=True)
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
        pixels = min(self._indexer.limits.max_pixels, _AHEAD_PIXELS)
        return self._read(found, dataclasses.replace(self._indexer.limits, max_pixels=pixels))

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
            if (
                len(batch) >= self._indexer.batch_size
                or sum(pending.pixels for pending in batch) >= _BATCH_PIXELS
                or sum(len(pending.twins) for pending in batch) >= _BATCH_TWINS
            ):
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
        self._giant.acquire()
        pending = None
        try:
            again = self._read(item.found, self._indexer.limits)
            if again.photo is None:
                self._commits.fail(again.found, again.trouble or "it can't be read")
            elif not self._is_stored(again.found, again.photo):
                pending = _pending(again.found, again.photo)
        finally:
            if pending is None or not _is_giant(pending):
                self._giant.release()
        return pending

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

    def _analyse(self, analyzer: Analyzer, batch: Sequence[Pending]) -> list[Analysis | str]:
        """In an analyzer thread: analyses in the order of the batch, or why there is none."""
        try:
            return analyses_of(analyzer, [item.image for item in batch if item.image is not None])
        finally:
            for item in batch:
                item.image = None
                if _is_giant(item):
                    self._giant.release()

    def _keep_indexes(self) -> None:
        """Bring the indexes up to the catalog now and then, so that a crash leaves little to redo."""
        if self._commits.count >= self._caught_up + _CATCH_UP_COMMITS:
            self._caught_up = self._commits.count
            self._indexer.indexes.catch_up()
        if time.monotonic() >= self._snapshot_at:
            self._indexer.indexes.catch_up()
            self._indexer.indexes.snapshot()
            self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS


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


def _is_giant(pending: Pending) -> bool:
    return pending.pixels > _AHEAD_PIXELS


def analyses_of(analyzer: Analyzer, images: Sequence[Image]) -> list[Analysis | str]:
    """Analyses in the order of the images, or why there is none of one: it must not stop the others."""
    try:
        return list(analyzer.analyze(images))
    except Exception:  # noqa: BLE001 - one picture that a model can't take must not stop the run
        _log.info("a batch of %d failed; trying them one by one", len(images), exc_info=True)
    return [_analyse_one(analyzer, image) for image in images]


def _analyse_one(analyzer: Analyzer, image: Image) -> Analysis | str:
    try:
        return analyzer.analyze([image])[0]
    except Exception as error:  # noqa: BLE001 - see analyses_of
        return f"the models can't take it: {type(error).__name__}: {error}"
