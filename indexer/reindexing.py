"""Reindexing: contents that are there already → analyses by another profile, in batches, until it is live.

    catalog: what waits ─▶ reader threads: find, check, decode ─▶ batches ─▶ analyzer threads ─▶ commit

A file counts only with the bytes that the catalog knows: a photograph is analysed as it was indexed, from
whichever of its files still has them. What has none any more, or the models can't take, is reported and
left out. What was committed is not analysed again, so a run that was killed simply begins anew. Pixels
are held for some batches alone, as when indexing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from regard.core.catalog import DerivedIndexes, Failure, ReindexingCatalog, WaitingContent
from regard.core.decoding import DecodeLimits
from regard.core.errors import DecodeError, LeaseHeld, ModelError, RegardError
from regard.core.protocols import Analyzer
from regard.core.records import Analysis, Image
from regard.core.uris import uri_of_path
from regard.indexer.decode import read_photo
from regard.indexer.lookahead import map_ahead
from regard.indexer.report import IndexReport, Progress
from regard.indexer.run import analyses_of

# As when indexing: see regard.indexer.run.
_BATCH_PIXELS = 32_000_000
_AHEAD_PIXELS = 40_000_000
_PAGE = 200
_CATCH_UP_COMMITS = 256
_SNAPSHOT_SECONDS = 60.0
_RETRY_SECONDS = 0.5


@dataclass(slots=True)
class _Read:
    """A content and its pixels, or why there are none; `image` goes once the models have seen it."""

    content: WaitingContent
    image: Image | None
    trouble: str | None = None

    @property
    def pixels(self) -> int:
        return self.content.width * self.content.height


class Reindexer:
    """Builds a pipeline until nothing waits, then has it go live.

    `load_analyzer` is called when the first batch is there; `indexes` are those of the new pipeline.
    """

    def __init__(
        self,
        catalog: ReindexingCatalog,
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
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        waits: Callable[[str], None] = lambda sentence: None,
    ) -> IndexReport:
        """Analyse all that waits, also what comes meanwhile, and make the pipeline the live one.

        While another process indexes, the switch waits for it and goes on with what comes; `waits` is told
        so, once. When `should_stop` turns true, what is in the models is committed and the report says
        `interrupted`: the pipeline is not live then, and the next run carries on. Raises LeaseHeld when
        another process reindexes; ModelError when the models can't be loaded.
        """
        started = time.perf_counter()
        report = IndexReport()
        with self.catalog.builder_lease() as lease:

            def stopped() -> bool:
                lease.check()
                report.interrupted = report.interrupted or should_stop()
                return report.interrupted

            # An index that can't be used should show before the work, not after it.
            self.indexes.catch_up()
            work = _Work(self, report, progress, stopped)
            is_live = was_told = False
            while not is_live and not stopped():
                work.analyse_waiting()
                self.indexes.catch_up()
                self.indexes.snapshot()
                if stopped():
                    break
                try:
                    is_live = self.catalog.go_live()
                except LeaseHeld as error:
                    if not was_told:
                        waits(f"{error.message}; the new models go live when it has ended")
                        was_told = True
                    time.sleep(_RETRY_SECONDS)
        report.interrupted = not is_live
        report.unseen = list(report.failures)
        report.seconds = time.perf_counter() - started
        return report

    def batches(self, read: Iterable[_Read]) -> Iterator[list[_Read]]:
        """Batches that close early when their pictures are large."""
        batch: list[_Read] = []
        for item in read:
            batch.append(item)
            pixels = sum(one.pixels for one in batch)
            if len(batch) >= self.batch_size or pixels >= _BATCH_PIXELS:
                yield batch
                batch = []
        if batch:
            yield batch

    def read_ahead(self, content: WaitingContent) -> _Read:
        """In a reader thread: giant pictures are left for `_read_giant`."""
        if content.width * content.height > _AHEAD_PIXELS:
            return _Read(content, None)
        return self.read(content)

    def read(self, content: WaitingContent) -> _Read:
        """The pixels of a content, from the first of its files that still has its bytes."""
        trouble = "no photograph lies there any more"
        for path in content.paths:
            try:
                photo = read_photo(
                    path, self.limits, is_known=lambda sha256: sha256 != content.sha256
                )
            except DecodeError as error:
                trouble = error.message
            except RegardError:
                raise
            except Exception as error:  # noqa: BLE001 - one file must not stop the run
                trouble = f"it can't be read: {type(error).__name__}: {error}"
            else:
                if photo.image is not None and photo.content.sha256 == content.sha256:
                    return _Read(content, photo.image)
                trouble = "the file has changed since it was indexed"
        return _Read(content, None, trouble)


class _Work:
    """One run: its stages and its counts."""

    def __init__(
        self,
        reindexer: Reindexer,
        report: IndexReport,
        progress: Progress | None,
        stopped: Callable[[], bool],
    ) -> None:
        self._reindexer = reindexer
        self._catalog = reindexer.catalog
        self._report = report
        self._progress = progress
        self._stopped = stopped
        self._analyzer: Analyzer | None = None
        self._giant = threading.Semaphore()
        self._done = self._caught_up = 0
        self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS

    def analyse_waiting(self) -> None:
        """Analyse what waits now; what comes meanwhile may be among it."""
        waiting = self._catalog.count()
        if self._progress is not None:
            self._progress.expect(self._done + waiting)
        if not waiting:
            return
        if self._analyzer is None:
            self._analyzer = self._reindexer.load_analyzer()
        analyzer = self._analyzer
        threads = self._reindexer.reader_threads, self._reindexer.analyzer_threads
        readers = ThreadPoolExecutor(threads[0], "read")
        thinkers = ThreadPoolExecutor(threads[1], "analyze")
        try:
            read = map_ahead(
                readers,
                self._reindexer.read_ahead,
                self._contents(),
                window=2 * threads[0],
                stopped=self._stopped,
            )
            analysed = map_ahead(
                thinkers,
                lambda batch: self._analyse(analyzer, batch),
                self._reindexer.batches(self._usable(item for _, item in read)),
                window=threads[1] + 1,
                stopped=self._stopped,
            )
            for batch, analyses in analysed:
                for item, analysis in zip(batch, analyses, strict=True):
                    self._commit(item.content, analysis)
                self._keep_indexes()
        finally:
            readers.shutdown(cancel_futures=True)
            thinkers.shutdown(cancel_futures=True)

    def _contents(self) -> Iterator[WaitingContent]:
        after = 0
        while page := self._catalog.waiting(after, _PAGE):
            yield from page
            after = page[-1].id

    def _usable(self, read: Iterable[_Read]) -> Iterator[_Read]:
        """What has pixels; the rest fails on the way. Giants are read here, one after another."""
        for item in read:
            is_giant = item.image is None and item.trouble is None
            if is_giant:
                self._giant.acquire()
                item = self._reindexer.read(item.content)  # noqa: PLW2901 - the same, with pixels
            if item.image is not None:
                yield item
                continue
            if is_giant:
                self._giant.release()
            self._fail(item.content, item.trouble or "it can't be read")

    def _analyse(self, analyzer: Analyzer, batch: Sequence[_Read]) -> list[Analysis | str]:
        """In an analyzer thread: analyses in the order of the batch, or why there is none."""
        try:
            return analyses_of(analyzer, [item.image for item in batch if item.image is not None])
        finally:
            for item in batch:
                item.image = None
                if item.pixels > _AHEAD_PIXELS:
                    self._giant.release()

    def _commit(self, content: WaitingContent, analysis: Analysis | str) -> None:
        if isinstance(analysis, str):
            self._fail(content, analysis)
            return
        try:
            is_there = self._catalog.save(content, analysis)
        except ModelError as error:
            # A vector that no index could take: this picture's trouble alone.
            self._fail(content, error.message)
            return
        if is_there:
            self._report.indexed += 1
            self._report.regions += len(analysis.regions)
            self._report.captions += len(analysis.captions)
        self._advance()

    def _fail(self, content: WaitingContent, reason: str) -> None:
        self._catalog.fail(content, reason)
        where = uri_of_path(content.paths[0]) if content.paths else f"content {content.sha256}"
        self._report.failures.append(Failure(where, reason))
        self._advance()

    def _advance(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress.advance()

    def _keep_indexes(self) -> None:
        """As when indexing: a crash should leave little to redo, and the switch little to wait for."""
        if self._done >= self._caught_up + _CATCH_UP_COMMITS:
            self._caught_up = self._done
            self._reindexer.indexes.catch_up()
        if time.monotonic() >= self._snapshot_at:
            self._reindexer.indexes.catch_up()
            self._reindexer.indexes.snapshot()
            self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS
