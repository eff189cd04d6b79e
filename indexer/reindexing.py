"""Reindexing: contents that are there already → analyses by another profile, in batches, until it is live.

    catalog: what waits ─▶ reader threads: find, check, decode ─▶ batches ─▶ analyzer threads ─▶ commit

A file counts only with the bytes that the catalog knows: a photograph is analysed as it was indexed, from
whichever of its files still has them. What has none any more, or the models can't take, is reported and
left out. What was committed is not analysed again, so a run that was killed simply begins anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from regard.core.catalog import ReindexingCatalog, WaitingContent
from regard.core.errors import DecodeError, LeaseHeld, ModelError, RegardError
from regard.core.protocols import Analyzer
from regard.core.records import Analysis, Image
from regard.indexer.analysing import Analysing, Stages, is_giant
from regard.indexer.decode import read_photo
from regard.indexer.report import IndexReport, Progress

_PAGE = 200
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
    """Builds a pipeline until nothing waits, then has it go live."""

    def __init__(self, catalog: ReindexingCatalog, analysing: Analysing) -> None:
        self.catalog = catalog
        self.analysing = analysing

    def run(
        self,
        *,
        retry_failed: bool = True,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        waits: Callable[[str], None] = lambda sentence: None,
    ) -> IndexReport:
        """Analyse all that waits, also what comes meanwhile, and make the pipeline the live one.

        While another process indexes, the switch waits for it and goes on with what comes; `waits` is told
        so, once. When `should_stop` turns true, what is in the models is committed and the report says
        `interrupted`: the pipeline is not live then, and the next run carries on. The failures are those of
        all runs since one that was to `retry_failed`. Raises LeaseHeld when another process reindexes;
        ModelError when the models can't be loaded; CannotWork when so many failed that it can't go live.
        """
        started = time.perf_counter()
        report = IndexReport()
        indexes = self.analysing.indexes
        with self.catalog.builder_lease(retry_failed=retry_failed) as lease:

            def stopped() -> bool:
                lease.check()
                report.interrupted = report.interrupted or should_stop()
                return report.interrupted

            # An index that can't be used should show before the work, not after it.
            indexes.catch_up()
            work = _Work(self, report, progress, stopped)
            is_live = was_told = False
            while not is_live and not stopped():
                work.analyse_waiting()
                indexes.catch_up()
                indexes.snapshot()
                if stopped():
                    break
                try:
                    is_live = self.catalog.go_live()
                except LeaseHeld as error:
                    if not was_told:
                        waits(f"{error.message}; the new models go live when it has ended")
                        was_told = True
                    time.sleep(_RETRY_SECONDS)
            report.failures = self.catalog.failures()
        report.interrupted = not is_live
        report.unseen = list(report.failures)
        report.seconds = time.perf_counter() - started
        return report

    def batches(self, read: Iterable[_Read]) -> Iterator[list[_Read]]:
        """Batches that close early when their pictures are large."""
        batch: list[_Read] = []
        for item in read:
            batch.append(item)
            if self.analysing.is_full(batch):
                yield batch
                batch = []
        if batch:
            yield batch

    def read_ahead(self, content: WaitingContent) -> _Read:
        """In a reader thread: giant pictures are left for later."""
        unread = _Read(content, None)
        return unread if is_giant(unread) else self.read(content)

    def read(self, content: WaitingContent) -> _Read:
        """The pixels of a content, from the first of its files that still has its bytes."""
        trouble = "no photograph lies there any more"
        for path in content.paths:
            try:
                photo = read_photo(
                    path, self.analysing.limits, is_known=lambda sha256: sha256 != content.sha256
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
        self._stages = Stages(reindexer.analysing, stopped)
        self._analyzer: Analyzer | None = None
        self._done = 0

    def analyse_waiting(self) -> None:
        """Analyse what waits now; what comes meanwhile may be among it."""
        waiting = self._catalog.count()
        if self._progress is not None:
            self._progress.expect(self._done + waiting)
        if not waiting:
            return
        if self._analyzer is None:
            self._analyzer = self._reindexer.analysing.load_analyzer()
        analysed = self._stages.analysed(
            self._analyzer,
            self._contents(),
            self._reindexer.read_ahead,
            lambda read: self._reindexer.batches(self._usable(read)),
        )
        with contextlib.closing(analysed):
            for batch, analyses in analysed:
                for item, analysis in zip(batch, analyses, strict=True):
                    self._commit(item.content, analysis)
                self._stages.keep_indexes(self._done)

    def _contents(self) -> Iterator[WaitingContent]:
        after = 0
        while page := self._catalog.waiting(after, _PAGE):
            yield from page
            after = page[-1].id

    def _usable(self, read: Iterable[_Read]) -> Iterator[_Read]:
        """What has pixels; the rest fails on the way. Giants are read here, one after another."""
        for item in read:
            usable: _Read | None
            if item.image is None and item.trouble is None:
                usable = self._stages.read_giant(partial(self._read_or_fail, item.content))
            else:
                usable = self._or_fail(item)
            if usable is not None:
                yield usable

    def _read_or_fail(self, content: WaitingContent) -> _Read | None:
        return self._or_fail(self._reindexer.read(content))

    def _or_fail(self, item: _Read) -> _Read | None:
        if item.image is not None:
            return item
        self._fail(item.content, item.trouble or "it can't be read")
        return None

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
        self._advance()

    def _advance(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress.advance()
