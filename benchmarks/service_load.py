"""Time searches while others upload: `python benchmarks/service_load.py PHOTOS`.

Starts a server on a new home with half of the photographs indexed, and measures in one run: eight
clients at one search a second each, and then the same while two more upload the other half, one
photograph after another. Prints both distributions and their ratio, and counts errors and uploads
that were lost.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from regard.api.client import Client, Filters
from regard.core.errors import RegardError

_CLIENTS, _UPLOADERS = 8, 2
_TEXTS = ("a red bus", "a cat", "flowers", "a bridge over water", "food on a plate", "a chair")


@contextmanager
def served(home: Path, profile: str | None) -> Iterator[str]:
    """A warm server in a process of its own; its address. `profile` None is the home's own."""
    command = [sys.executable, "-m", "regard.api.cli", "serve", "--port", "0", "--home", str(home)]
    if profile is not None:
        command += ["--profile", profile]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        with Client(url) as client:
            while client.ready().status != "ready":
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


class Load:
    """What several clients do at once until told to stop; what they saw."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.uploaded: set[str] = set()
        self.refused = 0

    def search(self, number: int, until: float) -> None:
        """One search a second, begun on time however long the one before took."""
        texts = itertools.cycle(random.Random(number).sample(_TEXTS, len(_TEXTS)))
        due = time.monotonic() + number / _CLIENTS
        with Client(self.url) as client:
            while due < until:
                time.sleep(max(0, due - time.monotonic()))
                started = time.perf_counter()
                try:
                    hits = client.search(text=next(texts), limit=20).hits
                    if not hits:
                        self.errors.append("an answer without hits")
                except RegardError as error:
                    self.errors.append(str(error))
                self.seconds.append(time.perf_counter() - started)
                due += 1.0

    def upload(self, photographs: Sequence[Path], until: float) -> None:
        """One photograph after another."""
        with Client(self.url) as client:
            for path in photographs:
                if time.monotonic() > until:
                    return
                try:
                    answer = client.assets.upload(path, collection="uploads")
                    self.uploaded |= {item.asset.id for item in answer.items if item.asset}
                except RegardError as error:
                    self.errors.append(str(error))

    def print(self, name: str) -> float:
        """One line; the 95th percentile in milliseconds."""
        p50, p95 = (1000 * float(np.percentile(self.seconds, p)) for p in (50, 95))
        print(
            f"{name:24} {len(self.seconds):5} searches  p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  "
            f"{len(self.errors)} errors"
        )
        return p95


def run_together(calls: Sequence[Callable[[], None]]) -> None:
    """All at once, each in a thread."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def copies(photographs: Sequence[Path], folder: Path) -> list[Path]:
    """Each photograph again and again with other bytes, so that none is there already."""
    made = []
    for turn in range(20):
        for path in photographs:
            copy = folder / f"{turn}-{path.name}"
            # A comment behind the end of a JPEG is not looked at by decoders.
            copy.write_bytes(path.read_bytes() + f"copy {turn}".encode())
            made.append(copy)
    return made


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", default="lite")
    arguments = parser.parse_args()
    paths = sorted(arguments.photographs.rglob("*.jpg"))
    scratch = Path(tempfile.mkdtemp(prefix="regard-load-"))
    try:
        index = [sys.executable, "-m", "regard.api.cli", "index", "--home", str(scratch / "home")]
        subprocess.run([*index, "--profile", arguments.profile, *paths[::2]], check=True)
        (scratch / "copies").mkdir()
        uploads = copies(paths[1::2], scratch / "copies")
        with served(scratch / "home", arguments.profile) as url, Client(url) as client:
            quiet, busy = Load(url), Load(url)
            end = time.monotonic() + arguments.seconds
            run_together([lambda n=n: quiet.search(n, end) for n in range(_CLIENTS)])
            end = time.monotonic() + arguments.seconds
            run_together(
                [lambda n=n: busy.search(n, end) for n in range(_CLIENTS)]
                + [lambda n=n: busy.upload(uploads[n::_UPLOADERS], end) for n in range(_UPLOADERS)]
            )
            before = quiet.print("8 clients")
            after = busy.print("8 clients, 2 uploading")
            print(f"p95 with uploads over p95 without: {after / before:.2f}")
            found = {asset.id for asset in client.assets.iterate(Filters(collection=["uploads"]))}
            print(
                f"{len(busy.uploaded)} uploads accepted, {len(busy.uploaded - found)} of them lost; "
                f"errors: {sorted(set(quiet.errors + busy.errors))}"
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
