"""Work that requests start and wait for a limited time, such as that of a vector engine that may
hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Result = TypeVar("Result")


class OneAtATime(Generic[Result]):
    """Runs work in a thread of its own; while it runs, further calls wait for the same work."""

    def __init__(self, name: str) -> None:
        """`name` is that of the thread."""
        self._threads = ThreadPoolExecutor(1, name)
        self._lock = threading.Lock()
        self._last: Future[Result] | None = None

    def run(self, work: Callable[[], Result], seconds: float) -> Result | None:
        """The result, or None if it takes longer than `seconds`; raises what the work raises."""
        with self._lock:
            if self._last is None or self._last.done():
                self._last = self._threads.submit(work)
            running = self._last
        try:
            return running.result(seconds)
        except TimeoutError:
            # The work's own, unless it is still being done.
            if running.done():
                raise
            return None
