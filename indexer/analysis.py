"""Passes photographs through the models, keeping every core busy and memory bounded.

    work ─▶ reader threads ─▶ batches ─▶ analyzer threads ─▶ the caller, who commits

Indexing and reindexing share these stages. Generators pull from each other in the caller's thread,
and two bounded pools read and analyse ahead of it. Large images are decoded one at a time, and
pixels are dropped once the models have seen them, so memory depends neither on the number of
photographs nor on their size.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from regard.core.catalog import DerivedIndexes
from regard.core.protocols import Analyzer
from regard.core.records import Analysis, Image
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits

_log = logging.getLogger(__name__)

# Larger images are decoded one after another, not ahead: a few of them would fill the memory.
AHEAD_PIXELS = 40_000_000
# A batch is full at this many pixels: 32 megapixels are 96 MB of RGB.
_BATCH_PIXELS = 32_000_000
_CATCH_UP_COMMITS = 256
_SNAPSHOT_SECONDS = 60.0


class Analysable(Protocol):
    """A photograph to analyse; `image` becomes None once the models have seen it."""

    image: Image | None

    @property
    def pixels(self) -> int:
        """The number of pixels, decoded or not."""


_Work = TypeVar("_Work")
_Read = TypeVar("_Read")
_Item = TypeVar("_Item", bound=Analysable)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class AnalysisSetup:
    """How photographs are analysed and with how many threads.

    `load_analyzer` is called once there is work; `indexes` are those of its pipeline.
    `reader_threads` read, hash and decode files; up to `analyzer_threads` call the analyzer at
    once with batches of up to `batch_size` images.
    """

    load_analyzer: Callable[[], Analyzer]
    indexes: DerivedIndexes
    batch_size: int
    analyzer_threads: int
    reader_threads: int = 2
    limits: DecodeLimits = DEFAULT_LIMITS

    def is_full(self, batch: Sequence[Analysable]) -> bool:
        """Whether a batch must not grow further."""
        return len(batch) >= self.batch_size or sum(item.pixels for item in batch) >= _BATCH_PIXELS


class AnalysisStages:
    """The stages of one run; also keeps the vector indexes up to date with its commits."""

    def __init__(self, setup: AnalysisSetup, stopped: Callable[[], bool]) -> None:
        """Start no more work once `stopped` returns true, but finish batches already started."""
        self._setup = setup
        self._stopped = stopped
        self._analyzer: Analyzer | None = None
        self._giant = threading.Semaphore()
        self._caught_up = 0
        self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS

    def analyse(
        self,
        work: Iterable[_Work],
        read: Callable[[_Work], _Read],
        batches: Callable[[Iterator[_Read]], Iterator[list[_Item]]],
    ) -> Generator[list[tuple[_Item, Analysis | str]], None, None]:
        """Yield items with their analyses or failure reasons, in the order of the work.

        Yields batches as they are done, and together those that were done meanwhile, for the caller
        to commit at once: the longer commits take, the larger they are. `read` runs in reader
        threads and must not decode images that `is_giant`; `batches` groups what was read, in the
        caller's thread. The caller must close the generator. The analyzer is loaded with the first
        batch, so that work without one needs no models; raises ModelError.
        """
        setup = self._setup
        readers = ThreadPoolExecutor(setup.reader_threads, "read")
        analyzers = ThreadPoolExecutor(setup.analyzer_threads, "analyze")

        def with_analyzer() -> Iterator[tuple[Analyzer, list[_Item]]]:
            for batch in batches(ahead):
                self._analyzer = self._analyzer or setup.load_analyzer()
                yield self._analyzer, batch

        def analyse_batch(
            loaded: tuple[Analyzer, list[_Item]],
        ) -> tuple[list[_Item], list[Analysis | str]]:
            analyzer, batch = loaded
            try:
                return batch, _analyse(analyzer, [item.image for item in batch if item.image])
            finally:
                for item in batch:
                    item.image = None
                    if is_giant(item):
                        self._giant.release()

        try:
            ahead = map_ahead(
                readers, read, work, window=2 * setup.reader_threads, stopped=self._stopped
            )
            # With one batch more than there are threads, none of them waits for a commit.
            for done in _results_ahead(
                analyzers,
                analyse_batch,
                with_analyzer(),
                window=setup.analyzer_threads + 1,
                stopped=self._stopped,
                together=setup.analyzer_threads + 1,
            ):
                yield [
                    pair for batch, analyses in done for pair in zip(batch, analyses, strict=True)
                ]
        finally:
            readers.shutdown(cancel_futures=True)
            analyzers.shutdown(cancel_futures=True)

    def read_giant(self, read: Callable[[], _Item | None]) -> _Item | None:
        """Read a possibly giant image in the caller's thread, once no other one is held."""
        self._giant.acquire()
        item = None
        try:
            item = read()
        finally:
            if item is None or not is_giant(item):
                self._giant.release()
        return item

    def keep_indexes(self, commits: int) -> None:
        """Update the indexes from time to time, so that a crash leaves little to redo.

        `commits` is the number of commits in this run.
        """
        indexes = self._setup.indexes
        if commits >= self._caught_up + _CATCH_UP_COMMITS:
            self._caught_up = commits
            indexes.catch_up()
        if time.monotonic() >= self._snapshot_at:
            indexes.catch_up()
            indexes.snapshot()
            self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS


def is_giant(item: Analysable) -> bool:
    """Whether an image is too large to be decoded ahead."""
    return item.pixels > AHEAD_PIXELS


def map_ahead(
    pool: Executor,
    function: Callable[[_Work], _Result],
    items: Iterable[_Work],
    *,
    window: int,
    stopped: Callable[[], bool],
) -> Iterator[_Result]:
    """Yield function(item) in order, with up to `window` calls started ahead of the consumer.

    Once `stopped` returns true, no more calls start; those already running still come out. An
    exception of the function is raised in place of its result.
    """
    for results in _results_ahead(
        pool, function, items, window=window, stopped=stopped, together=1
    ):
        yield from results


def _results_ahead(
    pool: Executor,
    function: Callable[[_Work], _Result],
    items: Iterable[_Work],
    *,
    window: int,
    stopped: Callable[[], bool],
    together: int,
) -> Iterator[list[_Result]]:
    """As `map_ahead`, but yield up to `together` results at once that are there already."""
    source = iter(items)
    started: deque[Future[_Result]] = deque()
    is_exhausted = False
    while True:
        while not is_exhausted and len(started) < window:
            try:
                item = next(source)
            except StopIteration:
                is_exhausted = True
                break
            if stopped():
                is_exhausted = True
                break
            started.append(pool.submit(function, item))
        if not started:
            return
        future = started.popleft()
        if stopped() and future.cancel():
            continue
        results = [future.result()]
        while len(results) < together and started and _is_done(started[0]):
            results.append(started.popleft().result())
        yield results


def _is_done(future: Future[_Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _analyse(analyzer: Analyzer, images: Sequence[Image]) -> list[Analysis | str]:
    """Analyses in the order of the images; a failure reason in place of one that failed."""
    try:
        return list(analyzer.analyze(images))
    except Exception:  # noqa: BLE001 - one image that a model can't process must not stop the run
        _log.info("a batch of %d failed; trying its images one by one", len(images), exc_info=True)
    return [_analyse_one(analyzer, image) for image in images]


def _analyse_one(analyzer: Analyzer, image: Image) -> Analysis | str:
    try:
        return analyzer.analyze([image])[0]
    except Exception as error:  # noqa: BLE001 - see _analyse
        return f"the models can't process it: {type(error).__name__}: {error}"
