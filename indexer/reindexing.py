"""Analyses stored contents with another profile until its pipeline can go live.

    catalog: what waits ─▶ reader threads: find, check, decode ─▶ batches ─▶ analyzer threads ─▶ commit

A content is analysed from whichever of its files still has the indexed bytes. One without such a
file, or that the models can't process, is reported and left out. Committed analyses are not
repeated, so a run that was killed continues with what is left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from regard.core.catalog import ReindexingCatalog, WaitingContent
from regard.core.errors import (
    DecodeError,
    LeaseHeld,
    ModelError,
    RegardError,
    UnstorableValue,
)
from regard.core.records import Analysis, Image, Signature
from regard.indexer.analysis import AnalysisSetup, AnalysisStages, EncodedImage, reason_unread
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.indexer.videos import VideoSource
from regard.photos.media import open_media

_PAGE = 200
_RETRY_SECONDS = 0.5


@dataclass(slots=True)
class _Read:
    """A content with its pixels or the reason why it has none; neither if it is a giant."""

    content: WaitingContent
    image: Image | EncodedImage | VideoSource | None = None
    failure_reason: str | None = None

    @property
    def pixels(self) -> int:
        return self.content.width * self.content.height

    def sign(self, signature: Signature) -> None:
        """The catalog has it already."""


class Reindexer:
    """Builds a pipeline until nothing waits, then makes it live."""

    def __init__(self, catalog: ReindexingCatalog, setup: AnalysisSetup) -> None:
        self.catalog = catalog
        self.setup = setup

    def run(
        self,
        *,
        retry_failed: bool = True,
        progress: Progress = SILENT,
    ) -> IndexReport:
        """Analyse everything that waits, including what arrives meanwhile, then go live.

        While another process indexes, going live is retried and new contents are analysed;
        `progress` gets a note once. When it says to stop, what is in the models is committed and
        the report says `interrupted`: the pipeline is not live, and the next run continues. The
        failures are those of all runs since the last one with `retry_failed`. Raises LeaseHeld if
        another process reindexes, ModelError if the models can't be loaded, and CannotWork if too
        many contents failed to go live.
        """
        started = time.perf_counter()
        report = IndexReport()
        indexes = self.setup.indexes
        with self.catalog.builder_lease(retry_failed=retry_failed) as lease:

            def stopped() -> bool:
                lease.check()
                report.interrupted = report.interrupted or progress.should_stop()
                return report.interrupted

            # An unusable index should fail before the work, not after it.
            indexes.catch_up()
            run = _Run(self, report, progress, stopped)
            is_live = was_told = False
            while not is_live and not stopped():
                run.analyse_waiting()
                indexes.catch_up()
                indexes.snapshot()
                if stopped():
                    break
                try:
                    is_live = self.catalog.go_live()
                except LeaseHeld as error:
                    if not was_told:
                        progress.note(f"{error.message}; the new models go live when it has ended")
                        was_told = True
                    time.sleep(_RETRY_SECONDS)
            report.failures = self.catalog.failures()
        report.interrupted = not is_live
        report.unseen = list(report.failures)
        report.seconds = time.perf_counter() - started
        return report


class _Run:
    """One run: its stages and its counts."""

    def __init__(
        self,
        reindexer: Reindexer,
        report: IndexReport,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        self._setup = reindexer.setup
        self._catalog = reindexer.catalog
        self._report = report
        self._progress = progress
        self._stages = AnalysisStages(reindexer.setup, stopped)
        self._done = 0

    def analyse_waiting(self) -> None:
        """Analyse what waits now; it may include what arrives meanwhile."""
        waiting = self._catalog.count()
        self._progress.expect(self._done + waiting)
        if not waiting:
            return
        analysed = self._stages.analyse(self._contents(), self._read_ahead, self._batches)
        with contextlib.closing(analysed):
            for pairs in analysed:
                self._commit([(item.content, analysis) for item, analysis in pairs])
                self._stages.keep_indexes(self._done)

    def _contents(self) -> Iterator[WaitingContent]:
        after = 0
        while page := self._catalog.waiting(after, _PAGE):
            yield from page
            after = page[-1].id

    def _read_ahead(self, content: WaitingContent) -> _Read:
        """In a reader thread: giant images are left for later."""
        unread = _Read(content)
        return unread if self._setup.is_giant(unread) else self._read(content)

    def _read(self, content: WaitingContent) -> _Read:
        """Decode a content from the first of its files that still has its bytes."""
        reason = "none of its files exists any more"
        for path in content.paths:
            try:
                with open_media(path, self._setup.limits) as file:
                    if file.sha256 == content.sha256:
                        return _Read(content, self._setup.image_of(file, path))
                    reason = "the file has changed since it was indexed"
            except DecodeError as error:
                reason = error.message
            except RegardError:
                raise
            except Exception as error:  # noqa: BLE001 - one file must not stop the run
                reason = reason_unread(error)
        return _Read(content, None, reason)

    def _batches(self, read: Iterable[_Read]) -> Iterator[list[_Read]]:
        """Batches of contents with pixels; the others fail here. Giants are read here, in turn."""
        batch: list[_Read] = []
        for item in read:
            usable: _Read | None
            if item.image is None and item.failure_reason is None:
                usable = self._stages.read_giant(partial(self._read_giant, item.content))
            else:
                usable = self._usable(item)
            if usable is None:
                continue
            batch.append(usable)
            if self._setup.is_full(batch):
                yield batch
                batch = []
        if batch:
            yield batch

    def _read_giant(self, content: WaitingContent) -> _Read | None:
        return self._usable(self._read(content))

    def _usable(self, item: _Read) -> _Read | None:
        if item.image is not None:
            return item
        self._fail(item.content, item.failure_reason or "it can't be read")
        return None

    def _commit(self, pairs: Sequence[tuple[WaitingContent, Analysis | str]]) -> None:
        """Commit analyses, or the reasons why they failed."""
        contents, analyses = [], []
        for content, analysis in pairs:
            if isinstance(analysis, str):
                self._fail(content, analysis)
            else:
                contents.append(content)
                analyses.append(analysis)
        if not contents:
            return
        try:
            stored = self._catalog.save(contents, analyses)
        except (ModelError, UnstorableValue) as error:
            # The models gave an invalid vector or text; only its photograph is affected.
            if len(contents) == 1:
                self._fail(contents[0], error.message)
                return
            for pair in zip(contents, analyses, strict=True):
                self._commit([pair])
            return
        for content, analysis in zip(contents, analyses, strict=True):
            if content.id in stored:
                self._report.indexed += 1
                self._report.regions += len(analysis.regions)
                self._report.captions += len(analysis.captions)
            self._advance()

    def _fail(self, content: WaitingContent, reason: str) -> None:
        self._catalog.fail(content, reason)
        self._advance()

    def _advance(self) -> None:
        self._done += 1
        self._progress.advance()
