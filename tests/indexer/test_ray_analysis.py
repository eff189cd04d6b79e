"""Analysis on a Ray cluster gives what analysis here gives, whatever process is killed.

The cluster runs in processes of its own, and so do the commands that use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
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
from made_library import Library, painted, regard, write_photo
from made_processes import Forked
from made_server import Server
from made_videos import write_video
from PIL import Image

from regard.api.client import Client
from regard.api.library.settings import Settings
from regard.core.jobs import Job, JobKind, JobState
from regard.storage.database.catalog import open_catalog
from regard.storage.service.jobs import SqlJobQueue

pytestmark = pytest.mark.slow

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
import json, logging, sys
import ray
cpus, gpus = map(int, sys.argv[1:])
ray.init("local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False,
         object_store_memory=100_000_000, log_to_driver=False, logging_level=logging.ERROR)
print(ray.get_runtime_context().gcs_address, flush=True)
for _ in sys.stdin:
    print(json.dumps(ray.available_resources()), flush=True)
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
        started = Forked(
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

    def reindex(self, library: Library) -> subprocess.Popen[str]:
        place = ("--home", library.home, "--profile", self.profile)
        return self.start("regard.api.cli", "reindex", *place, "--json")

    def worker(self, library: Library) -> subprocess.Popen[str]:
        place = ("--home", library.home, "--root", f"photos={library.photos}")
        return self.start("regard.api.worker", *place, "--profile", self.profile)

    @contextlib.contextmanager
    def node(self) -> Iterator[subprocess.Popen[bytes]]:
        """One more machine of a core, as far as Ray can tell; killed in the end if not before."""
        program = Path(sys.executable).with_name("ray")
        quiet = subprocess.DEVNULL
        cores = self.available().get("CPU", 0)
        node = subprocess.Popen(
            [program, "start", f"--address={self.address}", "--num-cpus=1", "--block"],
            stdout=quiet,
            stderr=quiet,
        )
        try:
            _until(lambda: self.available().get("CPU", 0) > cores)
            yield node
        finally:
            _kill_all(node)

    def actors(
        self, doing: str = "", among: subprocess.Popen[Any] | None = None
    ) -> list[psutil.Process]:
        """The processes of actors on the first or another node, or of those that run a method."""
        found = []
        for process in psutil.Process((among or self.process).pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                # Ray writes what an actor does into its title.
                if f"_Actor{doing}" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill_actor(self) -> bool:
        """Kill the process of an actor that has work; whether there is one."""
        for process in self.actors(".analyse"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                return True
        return False

    def available(self) -> dict[str, float]:
        """The resources of the cluster that no actor has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        resources: dict[str, float] = json.loads(self.process.stdout.readline())
        return resources


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """The token that clusters and commands share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with _running_cluster(tmp_path_factory) as made:
        yield made


@contextlib.contextmanager
def _running_cluster(
    tmp_path_factory: pytest.TempPathFactory, cpus: int = 2, gpus: int = 0
) -> Iterator[Cluster]:
    profile = tmp_path_factory.mktemp("profile") / "deadly.toml"
    profile.write_text(_PROFILE)
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER, str(cpus), str(gpus)], stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout is not None
    made = Cluster(process, process.stdout.readline().strip(), profile)
    assert made.address
    yield made
    for command in made.commands:
        command.kill()
        command.communicate()
    process.communicate("")


def _kill_all(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all below it, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(process.pid)
        family = [top, *top.children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


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
        time.sleep(0.05)


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


def test_videos_are_analysed_on_ray(library: Library, cluster: Cluster) -> None:
    scenes = [(painted((name,), 1, (96, 64)), 2.0) for name in ("red", "green", "blue")]
    for suffix in (".mp4", ".webm"):
        write_video(library.photos / f"clip{suffix}", scenes)
    write_video(library.photos / "cut.mkv", scenes)
    cut = (library.photos / "cut.mkv").read_bytes()
    (library.photos / "cut.mkv").write_bytes(cut[: len(cut) // 2])
    write_photo(library.photos / "photo.png", 1)

    report = _report(cluster.index(library), code=1)

    assert report["indexed"] == 3
    assert [Path(one["uri"]).name for one in report["failures"]] == ["cut.mkv"]
    _expect_same_as_here(library, cluster.profile)


def test_an_interrupted_run_is_continued(library: Library, cluster: Cluster) -> None:
    for number in range(200):
        write_photo(library.photos / f"{number:04}.png", number)
    run = cluster.index(library)
    _until(lambda: _assets(library) > 8)
    run.send_signal(signal.SIGINT)
    indexed = _report(run, code=130)["indexed"]
    assert 8 < indexed < 200
    assert _assets(library) == indexed
    report = _report(cluster.index(library), code=0)
    assert (report["indexed"], report["unchanged"]) == (200 - indexed, indexed)
    _expect_same_as_here(library, cluster.profile)


def test_jobs_of_a_server_run_on_ray(library: Library, cluster: Cluster) -> None:
    for number in range(6):
        write_photo(library.photos / f"{number}.png", number)
    words, roots = ("--ray", cluster.address), {"photos": library.photos}
    with (
        Server(library.home, *words, roots=roots, profile=str(cluster.profile)) as server,
        contextlib.closing(Client(server.url)) as client,
    ):
        job = client.jobs.start_import("photos").id
        _until(lambda: client.jobs.get(job).state == "done")
        assert client.jobs.get(job).done == 6
        # Its worker keeps its actors for the next job.
        assert len(cluster.actors()) == 2
    _until(lambda: not cluster.actors())
    _expect_same_as_here(library, cluster.profile)


def test_reindex_on_ray_writes_the_same_rows(library: Library, cluster: Cluster) -> None:
    for number in range(6):
        write_photo(library.photos / f"{number}.png", number)
    other = cluster.profile.with_name("other.toml")
    other.write_text(_PROFILE.replace('"fake" }', '"fake", parameters = { turn = 3 } }', 1))
    place = ("--home", library.home)
    assert regard("index", library.photos, *place, "--profile", other).code == 0

    report = _report(cluster.reindex(library), code=0)

    assert (report["indexed"], report["live"]) == (6, True)
    assert regard("prune", *place).code == 0
    _expect_same_as_here(library, cluster.profile)


@pytest.mark.campaign
def test_models_get_an_actor_on_each_gpu(
    library: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for number in range(6):
        write_photo(library.photos / f"{number}.png", number)
    # Ray takes the number on trust. Without GPUs, the profile would have two actors.
    with _running_cluster(tmp_path_factory, gpus=3) as made, _import_job(library) as job:
        made.worker(library)
        _until(lambda: job().state is JobState.DONE)
        # A worker keeps its actors for the next job.
        _until(lambda: len(made.actors()) == 3)
        assert made.available().get("GPU", 0) == 0
    assert _assets(library) == 6


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
    for number in range(photos):
        write_photo(library.photos / f"{number:04}.png", number)
    with _import_job(library) as job:
        for number in range(kills):
            worker = cluster.worker(library)
            # At a commit, or later: a job whose workers all die before it gets on is given up.
            assets, done = _assets(library), job().done
            if number % 2:
                _until(lambda least=assets: _assets(library) > least)
            else:
                _until(lambda least=done: job().done > least)
            time.sleep(random.random() * 0.2)
            assert job().state is JobState.RUNNING, f"it ended after {number} kills"
            worker.kill()
            worker.communicate()
        worker = cluster.worker(library)
        _until(lambda: job().state is not JobState.RUNNING)
        assert job().state is JobState.DONE
        worker.terminate()
        worker.communicate()
    _expect_same_as_here(library, cluster.profile)


@pytest.mark.campaign
def test_killed_workers_lose_nothing(library: Library, cluster: Cluster) -> None:
    _work_while_workers_die(library, cluster, photos=1000, kills=2)


@pytest.mark.campaign
def test_twenty_killed_workers_lose_nothing(library: Library, cluster: Cluster) -> None:
    _work_while_workers_die(library, cluster, photos=4000, kills=20)


@contextlib.contextmanager
def _import_job(library: Library) -> Iterator[Callable[[], Job]]:
    """A job for workers that imports the photographs, as it is now."""
    library.home.mkdir()
    catalog = open_catalog(Settings(library.home).catalog_file)
    queue = SqlJobQueue(catalog)
    number = queue.add(JobKind.IMPORT, "all", root="photos", path="").id
    yield lambda: queue.get(number)
    catalog.close()


def test_batches_of_a_lost_node_are_done_again_elsewhere(
    library: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All cores are taken, so that the actor of the lost node finds no other place."""
    # So many that the actor of the other node gets some, on a fast machine too.
    for number in range(1500):
        write_photo(library.photos / f"{number:04}.png", number)
    with _running_cluster(tmp_path_factory, cpus=1) as made, made.node() as node:
        run = made.index(library)
        _until(lambda: _assets(library) > 8 and made.actors(".analyse", among=node))
        assert made.actors()
        _kill_all(node)
        assert run.poll() is None
        assert _report(run, code=0)["indexed"] == 1500
        _expect_same_as_here(library, made.profile)


@pytest.mark.campaign
def test_a_file_that_takes_its_nodes_along_is_listed(
    library: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whenever an actor dies, the test kills its node before Ray starts another actor."""
    for number in range(40):
        write_photo(library.photos / f"{number:02}.png", number)
    _deadly_photo(library.photos / "20-deadly.png")
    with _running_cluster(tmp_path_factory, cpus=0) as made, contextlib.ExitStack() as stack:
        nodes = {stack.enter_context(made.node()): set[int]() for _ in range(5)}
        run = made.index(library)
        while run.poll() is None:
            for node, known in list(nodes.items()):
                actors = {process.pid for process in made.actors(among=node)}
                if known - actors and run.poll() is None:
                    _kill_all(node)
                    del nodes[node]
                known.update(actors)
        report = _report(run, code=1)
    assert report["indexed"] == 40
    [failure] = report["failures"]
    assert Path(failure["uri"]).name == "20-deadly.png"
    assert failure["reason"] == "two nodes of the Ray cluster were lost while they analysed it"


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
