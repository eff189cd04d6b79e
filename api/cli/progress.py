"""A progress bar on stderr with rate and time left; silent where stderr is no terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_INTERRUPTED = 130


class _Rate(ProgressColumn):
    """Photographs a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class _Bar:
    """See `regard.indexer.report.Progress`."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None)

    def expect(self, total: int) -> None:
        """So many files need work."""
        self._progress.update(self._task, total=total)

    def advance(self) -> None:
        """One of them is done."""
        self._progress.advance(self._task)


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[_Bar | None]:
    """A bar for the block; None where stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, description)


@contextlib.contextmanager
def stop_request(at_once: Callable[[], object] = lambda: None) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second one ends the process at once.

    `at_once` is called before that, to leave nothing behind that no later run would find.
    """
    requested = threading.Event()

    def request(_number: int, _frame: FrameType | None) -> None:
        # Python's own writing can't be entered twice, and this may come in the midst of it.
        if not requested.is_set():
            requested.set()
            _write_to_stderr(b"regard: finishing what is begun; Ctrl-C again stops at once\n")
            return
        # An exception out of nowhere, in the midst of a transaction, would leave its lock held and
        # the way out waiting for it. What is committed stands whenever a process ends.
        at_once()
        shown_again = b"\x1b[?25h" if os.isatty(2) else b""  # the cursor, which a bar may hide
        _write_to_stderr(shown_again + b"regard: interrupted\n")
        os._exit(_INTERRUPTED)

    former = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _write_to_stderr(text: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text)
