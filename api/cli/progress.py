"""Progress on stderr, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import click
from rich import progress
from rich.console import Console
from rich.text import Text

from regard.api.cli.app import INTERRUPTED, printable
from regard.indexer.report import Progress, Stoppable


class _Notes(Stoppable):
    """Writes notes only; Ctrl-C stops the operation."""

    def note(self, sentence: str) -> None:
        click.echo(f"regard: {printable(sentence)}", err=True)


class _Bars(_Notes):
    """Shows a bar with rate and time left for the current stage."""

    def __init__(self, stop: threading.Event, bars: progress.Progress) -> None:
        super().__init__(stop.is_set)
        self._bars = bars
        self._task = bars.add_task("", visible=False)

    def begin(self, stage: str) -> None:
        self._bars.remove_task(self._task)
        self._task = self._bars.add_task(stage, total=None)

    def expect(self, total: int) -> None:
        self._bars.update(self._task, total=total)

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)


class _Rate(progress.ProgressColumn):
    """Items a second."""

    def render(self, task: progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextlib.contextmanager
def progress_bar(
    at_once: Callable[[], object] = lambda: None, *, is_shown: bool = True
) -> Iterator[Progress]:
    """Progress for the block, with bars where stderr is a terminal; Ctrl-C stops the operation.

    Without bars, if it is not `is_shown`, it writes notes only.

    The first Ctrl-C (or SIGTERM) stops it in order, the second ends the process after calling
    `at_once`, which removes what no later run would find.
    """
    console = Console(stderr=True)
    with _stop_request(at_once) as stop:
        if not (is_shown and console.is_terminal):
            yield _Notes(stop.is_set)
            return
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            _Rate(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=console) as bars:
            yield _Bars(stop, bars)


@contextlib.contextmanager
def _stop_request(at_once: Callable[[], object]) -> Iterator[threading.Event]:
    """An event that the first signal sets; the second ends the process."""
    requested = threading.Event()

    def request(_number: int, _frame: FrameType | None) -> None:
        # Python's own streams are not reentrant, and this may interrupt one that is writing.
        if not requested.is_set():
            requested.set()
            _write_to_stderr(b"regard: finishing what is begun; Ctrl-C again stops at once\n")
            return
        # An exception in the middle of a transaction would leave its lock held, with the exit
        # waiting for it. What is committed stands however the process ends.
        at_once()
        shown_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a bar may have hidden it
        _write_to_stderr(shown_cursor + b"regard: interrupted\n")
        os._exit(INTERRUPTED)

    former = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _write_to_stderr(text: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text)
