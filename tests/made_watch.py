"""A process of `regard index --watch` whose reports a test waits for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from made_library import Argument, Library, command
from made_processes import Forked

PATIENCE_SECONDS = 200.0


class Watching:
    """The process; `reports` are those of its runs so far, the first one that of the start."""

    def __init__(self, library: Library, *arguments: Argument) -> None:
        self._library = library
        self._process = Forked(
            command(
                *("index", library.photos, "--home", library.home, "--profile", "fake"),
                *("--watch", "--json", *arguments),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._notes = b""
        self._threads = [
            threading.Thread(target=self._read_reports, daemon=True),
            threading.Thread(target=self._read_notes, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.reports: list[dict[str, Any]] = []

    @property
    def notes(self) -> str:
        return self._notes.decode()

    def report(self) -> dict[str, Any]:
        """That of the next run."""
        line = self._lines.get(timeout=PATIENCE_SECONDS)
        assert line, f"it has ended: {self.notes}"
        self.reports.append(json.loads(line))
        return self.reports[-1]

    def unread(self) -> int:
        """How many reports it wrote, at its end, that nobody waited for."""
        return self._lines.qsize() - 1

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for reports until the condition holds."""
        while not condition():
            self.report()

    def until_equal(self) -> None:
        """Wait until the catalog has exactly the files that are there."""
        self.until(lambda: _in_catalog(self._library) == _in_folder(self._library))

    def until_note(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in self.notes:
            assert time.monotonic() < deadline, self.notes
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it; its exit code."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        assert "Traceback" not in self.notes, self.notes
        return code

    def _read_reports(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")
        self._process.stdout.close()

    def _read_notes(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._notes += line
        self._process.stderr.close()


@contextlib.contextmanager
def watching(library: Library, *arguments: Argument) -> Iterator[Watching]:
    """Watch for the block, after the first run and its first look; then end it by Ctrl-C."""
    watch = Watching(library, *arguments)
    try:
        watch.report()
        watch.until_note("watching for changes")
        yield watch
    except BaseException:
        watch.stop(signal.SIGKILL)
        raise
    assert watch.stop() == 130, watch.notes


def _in_folder(library: Library) -> dict[bytes, str]:
    return {
        os.fsencode(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in library.photos.rglob("*.png")
    }


def _in_catalog(library: Library) -> dict[bytes, str]:
    rows = library.sql(
        "SELECT path, coalesce(sha256, failure) FROM asset "
        "LEFT JOIN content ON content.id = content_id"
    )
    return {bytes(path): text for path, text in rows}
