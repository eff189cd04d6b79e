"""Reads the text in photographs that are analysed: new ones, and those from before reading was on.

    unread contents ─▶ threads: open, decode, read ─▶ the caller, who commits in small portions

What was committed is not read again, so an interrupted or killed run is continued by the next one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from regard.core.catalog import Failure, FileStamp
from regard.core.errors import CannotWork, DecodeError, StoreUnavailable
from regard.core.texts import Reader, Reading, TextStore, UnreadContent
from regard.indexer.analysis import map_ahead
from regard.indexer.report import SILENT, Progress
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.photos.files import uri_of_path
from regard.photos.photo_file import PhotoFile

_PORTION = 16
_COMMIT_SECONDS = 2.0
# Letters are not read at a larger size.
_REDUCED_TO = 2000

OpenFile = Callable[[FileStamp], BinaryIO]


@dataclass(slots=True)
class ReadReport:
    """How many photographs were `read`, and the `lines` of text in them.

    `failures` includes those of earlier runs.
    """

    read: int = 0
    lines: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    failures: list[Failure] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "read": self.read,
            "lines": self.lines,
            "failed": len(self.failures),
            "seconds": round(self.seconds, 3),
            "failures": [{"uri": one.uri, "reason": one.reason} for one in self.failures],
        }


def read_texts(
    store: TextStore,
    load_reader: Callable[[], Reader],
    open_file: OpenFile,
    *,
    threads: int,
    limits: DecodeLimits = DEFAULT_LIMITS,
    progress: Progress = SILENT,
) -> ReadReport:
    """Read every content that was not read yet.

    `open_file` raises CannotWork for a missing file. The reader is loaded if there is work. Raises
    ModelError, MissingDependency, StoreUnavailable.
    """
    started = time.monotonic()
    report = ReadReport()
    waiting = store.count_unread()
    if waiting:
        progress.expect(waiting)
        reader = load_reader()

        def read(content: UnreadContent) -> tuple[int, Reading]:
            return content.id, _read(content, reader, open_file, limits)

        with ThreadPoolExecutor(threads, "read-text") as pool:
            results = map_ahead(
                pool,
                read,
                _unread(store),
                window=2 * threads,
                stopped=progress.should_stop,
            )
            _save(store, results, report, progress)
        report.interrupted = progress.should_stop()
    report.failures = [Failure(uri, reason) for uri, reason in store.failures()]
    report.seconds = time.monotonic() - started
    return report


def _unread(store: TextStore) -> Iterator[UnreadContent]:
    after = 0
    while contents := store.unread(after, _PORTION):
        yield from contents
        after = contents[-1].id


def _save(
    store: TextStore,
    results: Iterator[tuple[int, Reading]],
    report: ReadReport,
    progress: Progress,
) -> None:
    portion: dict[int, Reading] = {}
    due = time.monotonic() + _COMMIT_SECONDS
    try:
        for content, reading in results:
            portion[content] = reading
            if not isinstance(reading, str):
                report.read += 1
                report.lines += len(reading)
            progress.advance()
            if len(portion) == _PORTION or time.monotonic() >= due:
                store.save(portion)
                portion = {}
                due = time.monotonic() + _COMMIT_SECONDS
    finally:
        if portion:
            store.save(portion)


def _read(
    content: UnreadContent, reader: Reader, open_file: OpenFile, limits: DecodeLimits
) -> Reading:
    """The lines in the first file that still has the content's bytes, or why there is none."""
    reason = "it has no file"
    for stamp in content.files:
        try:
            with contextlib.closing(open_file(stamp)) as file:
                photo = PhotoFile(file.read(limits.max_bytes + 1), limits)
            if photo.sha256 != content.sha256:
                reason = "the file has changed since it was indexed"
                continue
            image = photo.decode(reduced_to=_REDUCED_TO)
            lines = reader.read([image])[0]
            return [
                line.scaled(content.width / image.width, content.height / image.height)
                for line in lines
            ]
        except StoreUnavailable:
            # It says nothing about the file.
            raise
        except (DecodeError, CannotWork) as error:
            reason = error.message
        except OSError as error:
            reason = f"{uri_of_path(stamp.path)}: {error.strerror or error}"
        except Exception as error:  # noqa: BLE001 - one image that a model can't process must not stop the run
            reason = f"the reader can't process it: {type(error).__name__}: {error}"
    return reason
