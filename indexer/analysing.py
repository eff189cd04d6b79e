"""Photographs through the models, for indexing and reindexing alike: every core busy, memory bounded.

    work ─▶ reader threads ─▶ batches ─▶ analyzer threads ─▶ the caller, who commits

The stages are generators that pull from each other in the caller's thread; two bounded pools read and
think ahead of it. A stage holds a bounded number of items, giant pictures come one at a time, and pixels go
when the models have seen them; so memory depends neither on the size of the library nor on that of its
pictures.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from regard.core.catalog import DerivedIndexes
from regard.core.protocols import Analyzer
from regard.core.records import Analysis, Image
from regard.indexer.lookahead import map_ahead
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits

_log = logging.getLogger(__name__)

# Larger pictures are not decoded ahead, and one after another: a few of them would fill the memory.
AHEAD_PIXELS = 40_000_000
# A batch closes early when its pictures are large: 32 megapixels are 96 MB of RGB.
_BATCH_PIXELS = 32_000_000
_CATCH_UP_COMMITS = 256
_SNAPSHOT_SECONDS = 60.0


class Analysable(Protocol):
    """Pixels on their way to the models; `image` goes once they have seen it."""

    image: Image | None

    @property
    def pixels(self) -> int:
        """How many it has, decoded or not."""


_Work = TypeVar("_Work")
_Read = TypeVar("_Read")
_Item = TypeVar("_Item", bound=Analysable)


@dataclass(frozen=True, slots=True)
class Analysing:
    """By what photographs are analysed, and how many at once.

    `load_analyzer` is called when there is work; `indexes` are those of its pipeline. `reader_threads`
    read, hash and decode; `analyzer_threads` may be inside the analyzer at once, with batches of up to
    `batch_size` images.
    """

    load_analyzer: Callable[[], Analyzer]
    indexes: DerivedIndexes
    batch_size: int
    analyzer_threads: int
    reader_threads: int = 2
    limits: DecodeLimits = DEFAULT_LIMITS

    def is_full(self, batch: Sequence[Analysable]) -> bool:
        """Whether a batch is not to grow any more."""
        return len(batch) >= self.batch_size or sum(item.pixels for item in batch) >= _BATCH_PIXELS


class Stages:
    """The stages of one run, and the indexes kept up with what it commits."""

    def __init__(self, analysing: Analysing, stopped: Callable[[], bool]) -> None:
        """Once `stopped` is true nothing is begun any more; what is in the models still comes out."""
        self._analysing = analysing
        self._stopped = stopped
        self._giant = threading.Semaphore()
        self._caught_up = 0
        self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS

    def analysed(
        self,
        analyzer: Analyzer,
        work: Iterable[_Work],
        read: Callable[[_Work], _Read],
        batches: Callable[[Iterator[_Read]], Iterator[list[_Item]]],
    ) -> Generator[tuple[list[_Item], list[Analysis | str]], None, None]:
        """Batches in the order of the work, each with its analyses, or why there is none; to be closed.

        `read` is called in reader threads, and should leave pixels out of what `is_giant`; `batches` makes
        batches of what was read, in the caller's thread.
        """
        readers = ThreadPoolExecutor(self._analysing.reader_threads, "read")
        thinkers = ThreadPoolExecutor(self._analysing.analyzer_threads, "analyze")
        try:
            ahead = map_ahead(
                readers,
                read,
                work,
                window=2 * self._analysing.reader_threads,
                stopped=self._stopped,
            )
            # One batch more than there are threads: none of them waits for the commit.
            yield from map_ahead(
                thinkers,
                lambda batch: self._analyse(analyzer, batch),
                batches(outcome for _, outcome in ahead),
                window=self._analysing.analyzer_threads + 1,
                stopped=self._stopped,
            )
        finally:
            readers.shutdown(cancel_futures=True)
            thinkers.shutdown(cancel_futures=True)

    def read_giant(self, read: Callable[[], _Item | None]) -> _Item | None:
        """Read what may be a giant, in the caller's thread, when no other one is held."""
        self._giant.acquire()
        item = None
        try:
            item = read()
        finally:
            if item is None or not is_giant(item):
                self._giant.release()
        return item

    def keep_indexes(self, done: int) -> None:
        """Bring the indexes up to the catalog now and then, so that a crash leaves little to redo.

        `done` counts what was committed in this run.
        """
        indexes = self._analysing.indexes
        if done >= self._caught_up + _CATCH_UP_COMMITS:
            self._caught_up = done
            indexes.catch_up()
        if time.monotonic() >= self._snapshot_at:
            indexes.catch_up()
            indexes.snapshot()
            self._snapshot_at = time.monotonic() + _SNAPSHOT_SECONDS

    def _analyse(self, analyzer: Analyzer, batch: Sequence[Analysable]) -> list[Analysis | str]:
        """In an analyzer thread: analyses in the order of the batch, or why there is none."""
        try:
            return _analyses_of(analyzer, [item.image for item in batch if item.image is not None])
        finally:
            for item in batch:
                item.image = None
                if is_giant(item):
                    self._giant.release()


def is_giant(item: Analysable) -> bool:
    """Whether a picture is too large to be decoded ahead."""
    return item.pixels > AHEAD_PIXELS


def _analyses_of(analyzer: Analyzer, images: Sequence[Image]) -> list[Analysis | str]:
    """Analyses in the order of the images, or why there is none of one: it must not stop the others."""
    try:
        return list(analyzer.analyze(images))
    except Exception:  # noqa: BLE001 - one picture that a model can't take must not stop the run
        _log.info("a batch of %d failed; trying them one by one", len(images), exc_info=True)
    return [_analyse_one(analyzer, image) for image in images]


def _analyse_one(analyzer: Analyzer, image: Image) -> Analysis | str:
    try:
        return analyzer.analyze([image])[0]
    except Exception as error:  # noqa: BLE001 - see _analyses_of
        return f"the models can't take it: {type(error).__name__}: {error}"
