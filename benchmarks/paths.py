"""Count the calls along the way of a photograph and of a query: `python benchmarks/paths.py`.

Runs regard with the profile `fake` over made pictures, and counts the calls of its own functions in
all threads, the files they lie in, and how often a thread goes from one file to another: as much
code meets a reader who follows one photograph or one query. A generator counts once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

import regard
from regard.core import errors

FOLDERS = (
    "api",
    "core",
    "evaluation",
    "indexer",
    "models",
    "photos",
    "regard",
    "search",
    "storage",
)
_MORE = 10  # further photographs of one run
_BUSIEST = 10


class CallCounts:
    """The calls of regard's functions, by file; `changes` of a thread from one file to another."""

    def __init__(self) -> None:
        self.by_file: Counter[str] = Counter()
        self.changes = 0

    @property
    def calls(self) -> int:
        """All calls."""
        return self.by_file.total()


class CallCounter:
    """Counts calls in this thread, and in all threads that begin after it was made."""

    def __init__(self) -> None:
        # The editable install links single files, so real paths are compared.
        self._root = Path(os.path.realpath(errors.__file__)).parents[1]
        self._files: dict[str, str | None] = {}
        self._counts: CallCounts | None = None
        self._last_files: dict[int, str] = {}
        self._lock = threading.Lock()
        threading.setprofile(self._see)
        sys.setprofile(self._see)

    def close(self) -> None:
        """Stop watching this thread and new ones."""
        sys.setprofile(None)
        threading.setprofile(None)

    def count(self, work: Callable[[], object]) -> CallCounts:
        """The calls that the work makes."""
        self._last_files.clear()
        self._counts = counts = CallCounts()
        try:
            work()
        finally:
            self._counts = None
        return counts

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        counts, code = self._counts, frame.f_code
        # Lambdas, comprehensions and modules are read where they stand.
        if counts is None or event != "call" or code.co_name.startswith("<") or is_resumed(frame):
            return
        if code.co_filename not in self._files:
            self._files[code.co_filename] = self._own_file(code.co_filename)
        file = self._files[code.co_filename]
        if file is None:
            return
        thread = threading.get_ident()
        with self._lock:
            counts.by_file[file] += 1
            if self._last_files.get(thread) != file:
                self._last_files[thread] = file
                counts.changes += 1

    def _own_file(self, name: str) -> str | None:
        """A source file's path among regard's, None for others."""
        path = Path(os.path.realpath(name))
        if not path.is_relative_to(self._root):
            return None
        relative = path.relative_to(self._root)
        return str(relative) if relative.parts[0] in FOLDERS else None


def is_resumed(frame: FrameType) -> bool:
    """Whether a generator or coroutine goes on, by the argument of its instruction RESUME."""
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti + 1] & 3 != 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--files", action="store_true", help="also print the files with most calls")
    with_files: bool = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        counter = CallCounter()
        try:
            measured = measure(counter, Path(folder) / "home", photos)
        finally:
            counter.close()
    one, many, query = measured
    print_counts("a photograph", one, with_files)
    print(f"{'each further one of its run':<28}{(many.calls - one.calls) / _MORE:.0f} calls")
    print_counts("a query", query, with_files)


def measure(
    counter: CallCounter, home: Path, photos: Path
) -> tuple[CallCounts, CallCounts, CallCounts]:
    """A run with one new photograph, one with `_MORE` more of them, and a query of words.

    Each is repeated, so that nothing is counted that happens once in a process.
    """
    random = np.random.default_rng(1)
    names = iter(range(1000))

    def add(count: int) -> None:
        for _ in range(count):
            pixels = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / f"{next(names):03}.jpg")

    with regard.open(home, profile="fake") as library:
        for count in (8, 1):
            add(count)
            library.index(photos)
        library.search("a red bus")
        runs = []
        for count in (1, 1 + _MORE):
            add(count)
            runs.append(counter.count(lambda: library.index(photos)))
        library.search("a blue bus")
        return runs[0], runs[1], counter.count(lambda: library.search("a green bus"))


def print_counts(name: str, counts: CallCounts, with_files: bool) -> None:
    """One line, and the files with most calls if that is asked for."""
    print(
        f"{name:<28}{counts.calls} calls in {len(counts.by_file)} files, "
        f"{counts.changes} changes of file"
    )
    if with_files:
        for file, calls in counts.by_file.most_common(_BUSIEST):
            print(f"  {calls:>5}  {file}")


if __name__ == "__main__":
    main()
