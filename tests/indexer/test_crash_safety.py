"""Killing an indexing process loses no committed asset, and the next run continues.

A nursery process has everything imported and forks a child for each run, so that a run costs
milliseconds instead of seconds of imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_library import Library

pytestmark = pytest.mark.slow

_NURSERY = """
import json, os, signal, sys
from regard.api.cli import main
import regard.api.cli.commands.index, regard.models.fake
from regard.indexer import analysis
from regard.indexer.indexing import _Run
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.files import durable as durable_files
from regard.storage.vectors.segments import index
from regard.storage.vectors.segments.state import SegmentLimits

if sys.argv[1] == "lists":
    limits = SegmentLimits(delta_rows=1, listed_segment_rows=2, listed_index_rows=4)
    index.SegmentLimits = lambda: limits

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_in_write(number):
    written = 0
    write_synced = durable_files.write_synced
    def write_half(path, chunks):
        nonlocal written
        written += 1
        if written < number:
            return write_synced(path, chunks)
        data = b"".join(bytes(chunk) for chunk in chunks)
        path.write_bytes(data[: len(data) // 2])
        die()
    return write_half

def wait_after(most):
    advance = _Run._advance
    def wait(self):
        advance(self)
        if self.commits >= most:
            signal.pause()
    _Run._advance = wait

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if order["fault"] == "snapshot":
            ChannelIndexes.snapshot = die
        elif order["fault"]:
            durable_files.write_synced = die_in_write(order["fault"])
        if order["often"]:
            analysis._SNAPSHOT_SECONDS = 0
        if order["most"]:
            wait_after(order["most"])
        os._exit(main(order["arguments"]))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


# A run commits this many files and then waits to be killed, so that some are always left.
_MOST = 10


class Nursery:
    """Starts indexing processes; `wait` gives the exit status as `os.waitpid` does."""

    def __init__(self, kind: str) -> None:
        self.has_lists = kind == "lists"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        library: Library,
        fault: str | int | None = None,
        most: int | None = None,
        *,
        often: bool = False,
    ) -> int:
        """Start a run that dies of `fault` or stops after `most` commits; its process id.

        It takes snapshots `often`, after each commit, or after a minute.
        """
        arguments = ["index", str(library.photos), "--home", str(library.home), "--profile", "fake"]
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"arguments": arguments, "fault": fault, "most": most, "often": often})
            + "\n"
        )
        self._process.stdin.flush()
        return self._read()

    def wait(self) -> int:
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> str:
        """End the nursery; returns what its children wrote to stderr."""
        return self._process.communicate(timeout=200)[1]


@pytest.fixture(scope="module", params=["exact"])
def nursery(request: pytest.FixtureRequest) -> Iterator[Nursery]:
    """Processes whose vectors have lists however few they are, or none."""
    made = Nursery(request.param)
    yield made
    assert "Traceback" not in made.close()


def _committed(library: Library) -> int:
    if not (library.home / "catalog.sqlite3").exists():
        return 0
    if not library.sql("SELECT 1 FROM sqlite_master WHERE name = 'asset'"):
        return 0
    return int(library.sql("SELECT count(*) FROM asset")[0][0])


def _kill_between_commits(
    nursery: Nursery, library: Library, chance: random.Random
) -> tuple[int, int]:
    """Kill a run after a random number of commits; returns the counts before and after it."""
    before = _committed(library)
    wanted = before + chance.randint(1, 5)
    process = nursery.start(library, most=_MOST)
    deadline = time.monotonic() + 60
    while _committed(library) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(chance.random() * 0.004)
    os.kill(process, signal.SIGKILL)
    assert nursery.wait() == signal.SIGKILL
    return before, _committed(library)


def _campaign(nursery: Nursery, folder: Path, *, kills: int, photos: int, seed: int) -> None:
    chance = random.Random(seed)
    library = Library(folder / "killed")
    for number in range(photos):
        library.photo(f"{number % 7}/{number:04}.png", number)
    # Damaged files and copies are committed differently from new contents.
    for number in range(0, photos, 25):
        library.photo(f"twins/{number}.png", number)
        (library.photos / f"bad-{number}.jpg").write_bytes(b"no photograph")
    total = sum(len(files) for _, _, files in os.walk(library.photos))
    assert kills * _MOST < total
    between = 0
    for _ in range(kills):
        before, after = _kill_between_commits(nursery, library, chance)
        assert after >= before, "a committed asset was lost"
        between += before < after < total
    assert between == kills

    nursery.start(library)
    assert os.waitstatus_to_exitcode(nursery.wait()) == 1
    assert bool(list(library.home.rglob("*.lists"))) == nursery.has_lists
    library.verify()

    untouched = Library(folder / "untouched")
    untouched.photos.rmdir()
    untouched.photos = library.photos
    untouched.index(code=1)
    assert len(library.asset_ids()) == total
    assert library.everything() == untouched.everything()
    for query in ("red", "blue and yellow", "a green thing"):
        for target in ("image", "region"):
            arguments = (query, "--target", target, "--limit", "1000")
            assert _seen(library, *arguments) == _seen(untouched, *arguments)


def _seen(library: Library, *arguments: str) -> list[tuple[Any, ...]]:
    return [
        (hit["rank"], hit["score"], hit["asset"]["uri"], hit["region"] and hit["region"]["bbox"])
        for hit in library.search(*arguments)
    ]


def test_kills_lose_and_duplicate_nothing(nursery: Nursery, tmp_path: Path) -> None:
    _campaign(nursery, tmp_path, kills=6, photos=80, seed=1)


also_with_lists = pytest.mark.parametrize(
    "nursery",
    ["exact", pytest.param("lists", marks=pytest.mark.campaign)],
    indirect=True,
    scope="module",
)


@also_with_lists
@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_hundreds_of_kills_lose_and_duplicate_nothing(nursery: Nursery, tmp_path: Path) -> None:
    for seed in range(6):
        _campaign(nursery, tmp_path / str(seed), kills=50, photos=600, seed=100 + seed)


def test_a_kill_between_commits_and_snapshot_needs_no_repair(
    nursery: Nursery, tmp_path: Path
) -> None:
    library = Library(tmp_path, count=12)
    nursery.start(library, "snapshot")
    assert nursery.wait() == signal.SIGKILL
    assert len(library.asset_ids()) == 12
    assert not list(library.home.rglob("manifest.json"))
    # The indexes catch up from SQL.
    assert len(library.shown()) == 12
    library.verify()
    assert library.index()["unchanged"] == 12
    library.verify()
    assert len(list(library.home.rglob("manifest.json"))) == 3


def test_a_run_that_is_killed_leaves_little_to_replay(nursery: Nursery, tmp_path: Path) -> None:
    library = Library(tmp_path)
    for number in range(100):
        library.photo(f"{number}.png", number)
    process = nursery.start(library, most=_MOST, often=True)
    deadline = time.monotonic() + 60
    while _committed(library) < _MOST:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    assert nursery.wait() == signal.SIGKILL
    logged = library.sql("SELECT max(position) FROM change")[0][0]
    manifests = list(library.home.rglob("manifest.json"))
    assert len(manifests) == 3
    for manifest in manifests:
        applied = json.loads(manifest.read_bytes())["applied_through"]
        # The run had committed two batches; the last one may be missing.
        assert logged / 2 <= applied <= logged
    library.verify()


@also_with_lists
def test_kills_while_writing_each_snapshot_file_need_no_repair(
    nursery: Nursery, tmp_path: Path
) -> None:
    library = Library(tmp_path, count=6)
    # A snapshot writes rows, perhaps lists, and a manifest for each of three channels.
    faults = 9 if nursery.has_lists else 6
    for fault in range(1, faults + 1):
        for number in (2 * fault, 2 * fault + 1):
            library.photo(f"another-{number}.png", 100 + number)
        nursery.start(library, fault)
        assert nursery.wait() == signal.SIGKILL
        assert len(library.shown()) == 6 + 2 * fault
        library.verify()
    assert bool(list(library.home.rglob("*.lists"))) == nursery.has_lists
    report = library.index()
    assert report["unchanged"] == 6 + 2 * faults
    library.verify()
    assert not list(library.home.rglob("*.aside"))
