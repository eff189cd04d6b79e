"""Passes photographs through the models, keeping every core busy and memory bounded.

    work ─▶ reader threads ─▶ batches ─▶ analyzer threads ─▶ the caller, who commits

Indexing and reindexing share these stages. Generators pull from each other in the caller's thread,
and two bounded pools read and analyse ahead of it. Large images are decoded one at a time, and
pixels are dropped once the models have seen them, so memory depends neither on the number of
photographs nor on their size. Where a cluster decodes and analyses, readers leave files encoded,
and the analyzer threads only wait for it (`regard.indexer.ray_analysis`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, TypeVar

from regard.core.catalog import DerivedIndexes
from regard.core.protocols import Analyzer
from regard.core.records import Analysis, Image, Signature
from regard.indexer.videos import AnalyseImages, VideoSource, analyse_video
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.photos.files import Confinement
from regard.photos.formats import MOMENTS_A_MINUTE
from regard.photos.photo_file import PhotoFile
from regard.photos.rendering import encode_png
from regard.photos.video import VideoFile

_log = logging.getLogger(__name__)

# Larger images are decoded one after another, not ahead: a few of them would fill the memory.
AHEAD_PIXELS = 40_000_000
# A batch is full at this many pixels: 32 megapixels are 96 MB of RGB.
_BATCH_PIXELS = 32_000_000
# A batch of encoded files is also full at this many bytes.
_BATCH_BYTES = 64 << 20
_CATCH_UP_COMMITS = 256
_SNAPSHOT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A photograph's file, which is decoded where it is analysed."""

    data: bytes


class Analysable(Protocol):
    """A photograph or video to analyse; `image` becomes None once the models have seen it."""

    image: Image | EncodedImage | VideoSource | None

    @property
    def pixels(self) -> int:
        """The number of pixels, decoded or not."""

    def sign(self, signature: Signature) -> None:
        """Take the signature of an image that was decoded where it was analysed."""


FileAnalysis = tuple[Signature, Analysis] | str
"""What became of a file that was decoded and analysed elsewhere, or why it failed."""


class FileAnalyzer(Protocol):
    """Decodes and analyses files elsewhere. Thread-safe."""

    @property
    def batches_at_once(self) -> int:
        """How many batches keep it busy."""

    def analyse(
        self, files: Sequence[bytes], limits: DecodeLimits, stopped: Callable[[], bool]
    ) -> list[FileAnalysis]:
        """One result a file, in order.

        Raises CancelledError once `stopped` returns true and the batch can't be finished,
        ClusterUnavailable, ModelError.
        """


_Work = TypeVar("_Work")
_Read = TypeVar("_Read")
_Item = TypeVar("_Item", bound=Analysable)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class AnalysisSetup:
    """How photographs are analysed and with how many threads.

    `load_analyzer` is called once there is work; `indexes` are those of its pipeline.
    `reader_threads` read, hash and decode files; up to `analyzer_threads` call the analyzer at
    once with batches of up to `batch_size` images. Of a video, up to `moments_a_minute` images are
    analysed. With `load_file_analyzer`, that one decodes and
    analyses instead.
    """

    load_analyzer: Callable[[], Analyzer]
    indexes: DerivedIndexes
    batch_size: int
    analyzer_threads: int
    reader_threads: int = 2
    limits: DecodeLimits = DEFAULT_LIMITS
    moments_a_minute: int = MOMENTS_A_MINUTE
    load_file_analyzer: Callable[[], FileAnalyzer] | None = None

    @property
    def ahead_limits(self) -> DecodeLimits:
        """Limits for reader threads: giant images fail there, and are read later in turn."""
        if self.load_file_analyzer is not None:
            return self.limits
        most = min(self.limits.max_pixels, AHEAD_PIXELS)
        return replace(self.limits, max_pixels=most, max_reduced_pixels=0)

    def is_giant(self, item: Analysable) -> bool:
        """Whether an image is too large to be decoded ahead."""
        is_decoded_ahead = not isinstance(item.image, VideoSource)
        return self.load_file_analyzer is None and is_decoded_ahead and item.pixels > AHEAD_PIXELS

    def image_of(
        self, file: PhotoFile | VideoFile, path: bytes, confinement: Confinement | None = None
    ) -> Image | EncodedImage | VideoSource:
        """What the analyzer takes of a file at a path; raises DecodeError."""
        if isinstance(file, VideoFile):
            return VideoSource(path, file.sha256, self.limits, confinement)
        return file.decode() if self.load_file_analyzer is None else EncodedImage(file.data)

    def is_full(self, batch: Sequence[Analysable]) -> bool:
        """Whether a batch must not grow further."""
        encoded = [item.image for item in batch if isinstance(item.image, EncodedImage)]
        return (
            len(batch) >= self.batch_size
            # It takes longer than a batch of photographs.
            or any(isinstance(item.image, VideoSource) for item in batch)
            or sum(item.pixels for item in batch) >= _BATCH_PIXELS
            or sum(len(image.data) for image in encoded) >= _BATCH_BYTES
        )


class AnalysisStages:
    """The stages of one run; also keeps the vector indexes up to date with its commits."""

    def __init__(self, setup: AnalysisSetup, stopped: Callable[[], bool]) -> None:
        """Start no more work once `stopped` returns true, but finish batches already started."""
        self._setup = setup
        self._stopped = stopped
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
        threads and must not decode images that are giant; `batches` groups what was read, in the
        caller's thread. The caller must close the generator. The analyzer is loaded with the first
        batch, so that work without one needs no models; raises ModelError, ClusterUnavailable.
        """
        setup = self._setup
        with contextlib.ExitStack() as pools:
            readers = ThreadPoolExecutor(setup.reader_threads, "read")
            pools.callback(readers.shutdown, cancel_futures=True)
            ahead = map_ahead(
                readers, read, work, window=2 * setup.reader_threads, stopped=self._stopped
            )
            waiting = batches(ahead)
            first = next(waiting, None)
            if first is None or self._stopped():
                return
            threads, analyse = self._load()

            def analyse_batch(
                batch: list[_Item],
            ) -> tuple[list[_Item], Sequence[Analysis | str]]:
                try:
                    return batch, analyse(batch)
                finally:
                    for item in batch:
                        if setup.is_giant(item):
                            self._giant.release()
                        item.image = None

            analyzers = ThreadPoolExecutor(threads, "analyze")
            pools.callback(analyzers.shutdown, cancel_futures=True)
            # With one batch more than there are threads, none of them waits for a commit.
            for done in _results_ahead(
                analyzers,
                analyse_batch,
                chain([first], waiting),
                window=threads + 1,
                stopped=self._stopped,
                together=threads + 1,
            ):
                yield [
                    pair for batch, analyses in done for pair in zip(batch, analyses, strict=True)
                ]

    def _load(self) -> tuple[int, Callable[[Sequence[Analysable]], Sequence[Analysis | str]]]:
        """The analysis of one batch, and in how many threads at once."""
        setup = self._setup
        if setup.load_file_analyzer is None:
            analyse_some = functools.partial(analyse_images, setup.load_analyzer())

            def analyse_here(batch: Sequence[Analysable]) -> list[Analysis | str]:
                images = [item.image for item in batch if isinstance(item.image, Image)]
                return self._with_videos(batch, analyse_some(images), analyse_some)

            return setup.analyzer_threads, analyse_here
        files = setup.load_file_analyzer()

        def analyse_there(batch: Sequence[Analysable]) -> list[Analysis | str]:
            photographs = [item for item in batch if isinstance(item.image, EncodedImage)]
            data = [item.image.data for item in photographs if isinstance(item.image, EncodedImage)]
            analyses: list[Analysis | str] = []
            results = files.analyse(data, setup.limits, self._stopped) if data else []
            for item, result in zip(photographs, results, strict=True):
                if not isinstance(result, str):
                    item.sign(result[0])
                analyses.append(result if isinstance(result, str) else result[1])
            return self._with_videos(batch, analyses, analyse_frames)

        def analyse_frames(images: Sequence[Image]) -> list[Analysis | str]:
            data = list(map(encode_png, images))
            results = files.analyse(data, setup.limits, self._stopped)
            return [result if isinstance(result, str) else result[1] for result in results]

        return files.batches_at_once, analyse_there

    def _with_videos(
        self,
        batch: Sequence[Analysable],
        of_photographs: Sequence[Analysis | str],
        analyse: AnalyseImages,
    ) -> list[Analysis | str]:
        """The analyses of a batch, with those of its videos, which are analysed now."""
        analyses: list[Analysis | str] = []
        photographs = iter(of_photographs)
        for item in batch:
            if not isinstance(item.image, VideoSource):
                analyses.append(next(photographs))
                continue
            setup = self._setup
            analyses.append(
                analyse_video(
                    item.image, analyse, setup.batch_size, self._stopped, setup.moments_a_minute
                )
            )
        return analyses

    def read_giant(self, read: Callable[[], _Item | None]) -> _Item | None:
        """Read a possibly giant image in the caller's thread, once no other one is held."""
        self._giant.acquire()
        item = None
        try:
            item = read()
        finally:
            if item is None or not self._setup.is_giant(item):
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
        try:
            results = [future.result()]
        except CancelledError:
            # It was stopped while it waited.
            continue
        while len(results) < together and started and _is_done(started[0]):
            results.append(started.popleft().result())
        yield results


def _is_done(future: Future[_Result]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def reason_unread(error: Exception) -> str:
    """Why a file failed that raised something else than a DecodeError."""
    return f"it can't be read: {type(error).__name__}: {error}"


def analyse_images(analyzer: Analyzer, images: Sequence[Image]) -> list[Analysis | str]:
    """Analyses in the order of the images; a failure reason in place of one that failed."""
    try:
        return list(analyzer.analyze(images))
    except Exception:  # noqa: BLE001 - one image that a model can't process must not stop the run
        _log.info("a batch of %d failed; trying its images one by one", len(images), exc_info=True)
    return [_analyse_one(analyzer, image) for image in images]


def _analyse_one(analyzer: Analyzer, image: Image) -> Analysis | str:
    try:
        return analyzer.analyze([image])[0]
    except Exception as error:  # noqa: BLE001 - see analyse_images
        return f"the models can't process it: {type(error).__name__}: {error}"
