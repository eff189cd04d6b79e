"""Analysis on a Ray cluster gives what analysis here gives, whatever process is killed.

The cluster runs in processes of its own, and so do the commands that use it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made_library import Library, regard, write_photo
from PIL import Image

pytest.importorskip("ray")

# Two actors on any machine, and batches of few photographs.
_PROFILE = """
description = "sees colours only, and dies of magenta"
batch_size = 4
threads = 2
encoder = { kind = "fake" }
captioner = { kind = "fake" }
segmenter = { kind = "fake", parameters = { fatal = [255, 0, 255] } }
"""
_CLUSTER = """
import logging, sys
import ray
ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100_000_000,
         log_to_driver=False, logging_level=logging.ERROR)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
_WAIT_SECONDS = 240


@dataclass
class Cluster:
    process: subprocess.Popen[str]
    address: str
    profile: Path
    commands: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """A command on the cluster, in a process of its own."""
        pipe = subprocess.PIPE
        started = subprocess.Popen(
            [sys.executable, "-m", *map(str, words), "--ray", self.address],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        self.commands.append(started)
        return started

    def index(self, library: Library) -> subprocess.Popen[str]:
        place = (library.photos, "--home", library.home, "--profile", self.profile)
        return self.start("regard.api.cli", "index", *place, "--json")

    def worker(self, library: Library) -> subprocess.Popen[str]:
        place = ("--home", library.home, "--root", f"photos={library.photos}")
        return self.start("regard.api.worker", *place, "--profile", self.profile)

    def kill_actor(self) -> bool:
        """Kill the process of an actor that has work; whether there is one."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                # Ray writes what an actor does into its title.
                if "_Actor.analyse" in " ".join(process.cmdline()):
                    process.kill()
                    return True
            except psutil.NoSuchProcess:
                continue
        return False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        with _running_cluster(tmp_path_factory) as made:
            yield made


@contextlib.contextmanager
def _running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    profile = tmp_path_factory.mktemp("profile") / "deadly.toml"
    profile.write_text(_PROFILE)
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", _CLUSTER], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    made = Cluster(process, process.stdout.readline().strip(), profile)
    assert made.address
    yield made
    for command in made.commands:
        command.kill()
        command.communicate()
    process.communicate("")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def _report(command: subprocess.Popen[str], code: int) -> dict[str, Any]:
    out, err = command.communicate(timeout=_WAIT_SECONDS)
    assert command.returncode == code, err
    report: dict[str, Any] = json.loads(out)
    return report


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _assets(library: Library) -> int:
    if not (library.home / "catalog.sqlite3").exists():
        return 0
    try:
        return int(library.sql("SELECT count(*) FROM asset")[0][0])
    except sqlite3.Error:  # the catalog is being made
        return 0


def _deadly_photo(path: Path) -> None:
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[0, 0] = (255, 0, 255)
    Image.fromarray(pixels).save(path)


def _expect_same_as_here(library: Library, profile: Path) -> None:
    """Every photograph is there, once, with all that a run without Ray makes of it."""
    library.verify()
    here = Library(library.home.parent / "here")
    outcome = regard(*("index", library.photos, "--home", here.home, "--profile", profile))
    assert outcome.code in {0, 1}, outcome
    assert library.everything() == here.everything()
    counts = "SELECT (SELECT count(*) FROM asset), (SELECT count(*) FROM embedding)"
    assert library.sql(counts) == here.sql(counts)


def test_index_on_ray_writes_the_same_rows_and_lists_the_file_that_kills(
    library: Library, cluster: Cluster
) -> None:
    for number in range(12):
        write_photo(library.photos / f"{number:02}.png", number)
    write_photo(library.photos / "copy.png", 3)
    (library.photos / "cut.png").write_bytes((library.photos / "05.png").read_bytes()[:-40])
    deadly = library.photos / "06-deadly.png"
    _deadly_photo(deadly)

    report = _report(cluster.index(library), code=1)

    assert report["indexed"] == 13
    reasons = {Path(one["uri"]).name: one["reason"] for one in report["failures"]}
    assert reasons.keys() == {"06-deadly.png", "cut.png"}
    assert reasons["06-deadly.png"] == "it ended the process that analysed it, twice"
    # Here it would kill the test.
    deadly.unlink()
    assert library.run("index", library.photos).code == 1
    _expect_same_as_here(library, cluster.profile)


def _index_while_actors_die(library: Library, cluster: Cluster, photos: int, kills: int) -> None:
    for number in range(photos):
        write_photo(library.photos / f"{number:04}.png", number)
    run = cluster.index(library)
    for number in range(kills):
        count = number * photos // kills // 2
        _until(lambda least=count: run.poll() is not None or _assets(library) > least)
        _until(lambda: run.poll() is not None or cluster.kill_actor())
        assert run.poll() is None, f"it ended after {number} kills"
    assert _report(run, code=0)["indexed"] == photos
    _expect_same_as_here(library, cluster.profile)


def test_killed_actors_lose_nothing(library: Library, cluster: Cluster) -> None:
    _index_while_actors_die(library, cluster, photos=120, kills=2)


@pytest.mark.campaign
def test_twenty_killed_actors_lose_nothing(library: Library, cluster: Cluster) -> None:
    _index_while_actors_die(library, cluster, photos=1500, kills=20)


def _work_while_workers_die(library: Library, cluster: Cluster, photos: int, kills: int) -> None:
    from regard.api.library.settings import Settings
    from regard.core.jobs import JobKind, JobState
    from regard.storage.database.catalog import open_catalog
    from regard.storage.service.jobs import SqlJobQueue

    for number in range(photos):
        write_photo(library.photos / f"{number:04}.png", number)
    library.home.mkdir()
    catalog = open_catalog(Settings(library.home).catalog_file)
    queue = SqlJobQueue(catalog)
    job = queue.add(JobKind.IMPORT, "all", root="photos", path="").id
    for number in itertools.count(1):
        worker = cluster.worker(library)
        if number > kills:
            break
        count = _assets(library)
        _until(
            lambda least=count: _assets(library) > least or queue.get(job).state is JobState.DONE
        )
        time.sleep(random.random() * 0.2)
        worker.kill()
        worker.communicate()
    _until(lambda: queue.get(job).state is JobState.DONE)
    worker.terminate()
    worker.communicate()
    catalog.close()
    _expect_same_as_here(library, cluster.profile)


@pytest.mark.campaign
def test_killed_workers_lose_nothing(library: Library, cluster: Cluster) -> None:
    _work_while_workers_die(library, cluster, photos=120, kills=2)


@pytest.mark.campaign
def test_twenty_killed_workers_lose_nothing(library: Library, cluster: Cluster) -> None:
    _work_while_workers_die(library, cluster, photos=3000, kills=20)


@pytest.mark.campaign
def test_run_ends_when_the_cluster_is_lost_and_the_next_one_carries_on(
    library: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for number in range(1000):
        write_photo(library.photos / f"{number:04}.png", number)
    with _running_cluster(tmp_path_factory) as lost:
        run = lost.index(library)
        _until(lambda: _assets(library) > 8)
        for process in psutil.Process(lost.process.pid).children():
            if "gcs_server" in process.name():
                process.kill()
        # An actor that lives on would end the run before the loss is noticed.
        _until(lambda: lost.kill_actor() and lost.kill_actor())
        out, err = run.communicate(timeout=_WAIT_SECONDS)
        assert (run.returncode, out) == (3, "")
        assert "was lost" in err
        assert err.count("\n") == 1
        profile = lost.profile
    assert 8 < _assets(library) < 1000
    outcome = regard("index", library.photos, "--home", library.home)
    assert outcome.code == 0, outcome
    _expect_same_as_here(library, profile)


def test_wrong_addresses_are_refused_with_a_sentence(library: Library) -> None:
    write_photo(library.photos / "1.png", 1)
    place = (library.photos, "--home", library.home, "--profile", "fake")
    regard("index", *place, "--ray", "a b").expect_sentence(2, "ray://HOST:PORT")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        outcome = regard("index", *place, "--ray", address)
        outcome.expect_sentence(3, "can't be reached", "ray start --head")
    regard("--server", "http://127.0.0.1:1", "index", "x", "--ray", "auto").expect_sentence(
        2, "--server"
    )
    assert os.listdir(library.photos) == ["1.png"]
