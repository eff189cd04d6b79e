"""The worker as a process: what kills it, stops it, wakes it, and who works when there are
several."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from made_gate import Gate
from made_library import Library, command
from made_processes import Forked, forking_subprocess

from regard.api.library.settings import DATABASE_VARIABLE, PASSWORD_FILE_VARIABLE, Settings
from regard.api.worker import process as worker_module
from regard.api.worker.process import WorkerProcess
from regard.core.jobs import Job, JobKind, JobState
from regard.storage.database.catalog import open_catalog
from regard.storage.service.jobs import SqlJobQueue

pytestmark = pytest.mark.slow

PHOTOS = 24


class Service:
    """A home with photographs to import, and the workers that a test starts on it."""

    def __init__(self, folder: Path, queue: SqlJobQueue) -> None:
        self.folder = folder
        self.library = Library(folder)
        self.settings = Settings(self.library.home)
        self.queue = queue
        self.processes: list[subprocess.Popen[bytes]] = []
        self.supervisors: list[WorkerProcess] = []

    def photos(self, count: int = PHOTOS) -> None:
        for number in range(count):
            self.library.photo(f"{number:03}.png", number)

    def add(self, kind: JobKind = JobKind.IMPORT) -> int:
        return self.queue.add(kind, "holiday", root="photos", path="").id

    def supervised(self, profile: str = "fake") -> WorkerProcess:
        worker = WorkerProcess(
            self.settings, roots={"photos": bytes(self.library.photos)}, profile=profile
        )
        self.supervisors.append(worker)
        worker.start()
        return worker

    def process(self) -> subprocess.Popen[bytes]:
        """A worker that nobody looks after."""
        started = Forked(
            [
                *(sys.executable, "-m", "regard.api.worker", "--profile", "fake"),
                *("--home", str(self.library.home), "--root", f"photos={self.library.photos}"),
            ],
            stdin=subprocess.PIPE,
        )
        self.processes.append(started)
        return started

    def until(self, condition: Callable[[], object], seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.queue.list(limit=10)
            time.sleep(0.01)

    def until_state(self, job: int, state: JobState) -> Job:
        self.until(lambda: self.queue.get(job).state is state)
        return self.queue.get(job)

    def until_under_way(self, job: int, gate: Gate) -> None:
        """Some photographs are done, and some are held at the gate.

        Batches are committed in order, so those that passed may wait for one that is still held.
        """
        since = time.monotonic()

        def is_under_way() -> bool:
            nonlocal since
            if gate.passed < gate.allowed:
                since = time.monotonic()
            elif time.monotonic() > since + 5:
                gate.let(1)
            return self.queue.get(job).done >= 2

        self.until(is_under_way)
        assert self.queue.get(job).state is JobState.RUNNING

    def role(self) -> int | None:
        """The process that has the worker's role."""
        rows = self.library.sql("SELECT pid FROM lease WHERE name = 'worker'")
        return rows[0][0] if rows else None

    def expect_whole(self) -> None:
        """Every photograph is there, once, with all that a run without trouble makes of it."""
        self.library.verify()
        straight = Library(self.folder / "straight")
        straight.photos = self.library.photos
        straight.index()
        assert self.library.everything() == straight.everything()
        counts = "SELECT (SELECT count(*) FROM asset), (SELECT count(*) FROM embedding)"
        assert self.library.sql(counts) == straight.sql(counts)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setattr(worker_module, "subprocess", forking_subprocess)
    (tmp_path / "home").mkdir()
    catalog = open_catalog(Settings(tmp_path / "home").catalog_file)
    made = Service(tmp_path, SqlJobQueue(catalog))
    yield made
    for worker in made.supervisors:
        worker.stop()
    for process in made.processes:
        process.kill()
        process.communicate()
    catalog.close()


@pytest.fixture
def patched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has processes that are started from now on run some lines first."""

    def patch(lines: str) -> None:
        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(lines)
        monkeypatch.setenv("PYTHONPATH", str(site))

    return patch


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Before the models of the processes that are started from now on, with batches of two;
    closed."""
    made = Gate(
        tmp_path / "gate",
        also="from regard.indexer.analysis import AnalysisSetup\n"
        "AnalysisSetup.is_full = lambda self, batch: len(batch) >= 2\n",
    )
    monkeypatch.setenv("PYTHONPATH", made.environ["PYTHONPATH"])
    made.let(0)
    yield made
    made.open()


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killed_in_the_midst_a_job_goes_on_by_itself(service: Service, gate: Gate) -> None:
    service.photos()
    gate.let(2)
    worker = service.supervised()
    job = service.add()
    worker.wake()
    service.until_under_way(job, gate)
    first = worker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    service.until(lambda: worker.pid not in {None, first})
    service.until_under_way(job, gate)
    gate.open()
    ended = service.until_state(job, JobState.DONE)
    assert ended.report is not None
    assert 0 < ended.report["unchanged"] < PHOTOS
    assert ended.report["indexed"] + ended.report["unchanged"] == PHOTOS
    assert ended.total == ended.done
    worker.stop()
    service.expect_whole()


@pytest.mark.parametrize("way", ["SIGTERM", "end of stdin"])
def test_stopped_in_the_midst_a_job_is_queued_again(service: Service, gate: Gate, way: str) -> None:
    service.photos()
    gate.let(2)
    job = service.add()
    process = service.process()
    service.until_under_way(job, gate)
    if way == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    else:
        assert process.stdin is not None
        process.stdin.close()
    gate.open(pause=0.2)
    assert process.wait(200) == 0
    waiting = service.queue.get(job)
    assert (waiting.state, waiting.finished_at) == (JobState.QUEUED, None)
    assert waiting.report is not None
    kept = waiting.report["indexed"]
    assert 0 < kept < PHOTOS
    assert (waiting.done, service.role()) == (kept, None)
    if way == "end of stdin":
        return
    gate.open()
    service.process()
    ended = service.until_state(job, JobState.DONE)
    assert (ended.done, ended.total) == (PHOTOS, PHOTOS)
    assert ended.report is not None
    assert (ended.report["indexed"], ended.report["unchanged"]) == (PHOTOS, 0)
    service.expect_whole()


def test_a_worker_ends_however_its_server_died(service: Service) -> None:
    server = Forked(
        [
            *(sys.executable, "-c"),
            "import sys, time\n"
            "from pathlib import Path\n"
            "from regard.api.worker.process import WorkerProcess\n"
            "from regard.api.library.settings import Settings\n"
            "worker = WorkerProcess(Settings(Path(sys.argv[1])), roots={}, profile='fake')\n"
            "worker.start()\n"
            "time.sleep(60)\n",
            str(service.library.home),
        ]
    )
    service.processes.append(server)
    service.until(service.role)
    pid = service.role()
    assert pid not in {None, server.pid}
    server.kill()
    service.until(lambda: _is_gone(pid or 0))


def test_an_idle_worker_gives_back_the_memory_of_its_models(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays the same process for its server, and later jobs load the models again."""
    module = (
        "-c",
        "from regard.api.worker import process; process._IDLE_SECONDS = 2.0\n"
        "import sys; sys.exit(process.main())",
    )
    monkeypatch.setattr(worker_module, "_MODULE", module)
    # Not forked: the process must not share what others have loaded.
    monkeypatch.setattr(worker_module, "subprocess", subprocess)
    service.photos(3)
    worker = service.supervised("lite")
    service.until(service.role)
    pid = worker.pid
    process = psutil.Process(pid)
    at_rest = process.memory_info().rss
    service.until_state(service.add(), JobState.DONE)
    laden = process.memory_info().rss
    assert laden > at_rest + 100e6
    service.until(lambda: process.memory_info().rss < (at_rest + laden) / 2)
    service.until(service.role)
    service.photos(4)
    ended = service.until_state(service.add(), JobState.DONE)
    assert ended.report is not None
    assert (ended.report["indexed"], ended.report["unchanged"]) == (1, 3)
    assert worker.pid == pid
    service.library.verify()


def test_cancelled_in_the_midst(service: Service, gate: Gate) -> None:
    service.photos()
    gate.let(2)
    worker = service.supervised()
    job, behind = service.add(), service.add()
    service.until_under_way(job, gate)
    service.queue.cancel(job)
    # It asks every half a second.
    gate.open(pause=0.3)
    ended = service.until_state(job, JobState.CANCELLED)
    gate.open()
    assert ended.report is not None
    assert 0 < ended.report["indexed"] < PHOTOS
    # The worker lives on, and does what comes next.
    service.until_state(behind, JobState.DONE)
    assert worker.pid is not None
    assert service.queue.get(job) == ended
    service.expect_whole()


def test_of_two_workers_one_works_and_the_other_takes_over(service: Service, gate: Gate) -> None:
    service.photos()
    gate.let(2)
    first, second = service.process(), service.process()
    job = service.add()
    service.until_under_way(job, gate)
    working = service.role()
    assert working in {first.pid, second.pid}
    idle = second if working == first.pid else first
    assert idle.poll() is None
    os.kill(working or 0, signal.SIGKILL)
    service.until(lambda: service.role() == idle.pid)
    gate.open()
    service.until_state(job, JobState.DONE)
    service.expect_whole()


def test_a_job_waits_while_the_command_line_indexes(service: Service, gate: Gate) -> None:
    service.photos()
    gate.let(1)
    service.supervised()
    service.until(service.role)
    arguments = ("--home", service.library.home, "--profile", "fake", "--collection", "other")
    process = Forked(
        command("index", service.library.photos, *arguments), stdout=subprocess.DEVNULL
    )
    service.processes.append(process)
    service.until(lambda: service.library.sql("SELECT 1 FROM asset"))
    job = service.add()
    service.until(lambda: "indexing into this home" in (service.queue.get(job).message or ""))
    assert process.poll() is None
    gate.open()
    assert process.wait(200) == 0
    ended = service.until_state(job, JobState.DONE)
    assert ended.message is None
    assert ended.report is not None
    assert ended.report["indexed"] == PHOTOS


def test_nothing_is_loaded_or_made_before_there_is_a_job(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "subprocess", subprocess)
    worker = service.supervised("lite")
    service.until(service.role)
    pid = worker.pid
    assert pid is not None
    time.sleep(0.3)
    assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
    assert service.library.sql("SELECT 1 FROM pipeline") == []
    # All its threads have the lowest priority, so that searches get the processor.
    threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    assert len(threads) > 1
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {19}
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH


def test_the_first_job_makes_the_pipeline_and_a_later_worker_keeps_it(service: Service) -> None:
    service.photos(2)
    job = service.add()
    first = service.supervised("fake")
    service.until_state(job, JobState.DONE)
    first.stop()
    assert service.library.sql("SELECT profile FROM pipeline") == [("fake",)]
    service.library.photo("later.png", 50)
    job = service.add()
    service.supervised("lite")
    service.until_state(job, JobState.DONE)
    assert len(service.library.shown()) == 3


def test_a_profile_that_is_not_there_fails_the_job(service: Service) -> None:
    service.photos(1)
    job = service.add()
    service.supervised("none")
    ended = service.until_state(job, JobState.FAILED)
    assert "none" in (ended.message or "")


def test_waking(service: Service, patched: Callable[[str], None]) -> None:
    patched("import regard.indexer.jobs as jobs\njobs.POLL_SECONDS = 600\n")
    service.photos(2)
    worker = service.supervised()
    worker.wake()
    service.until(service.role)
    time.sleep(0.3)
    for _ in range(2):
        job = service.add()
        worker.wake()
        service.until(lambda number=job: service.queue.get(number).state is JobState.DONE)
    # A worker that does not listen must not hold up who wakes it: that would never end.
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    for _ in range(100_000):
        worker.wake()
    os.kill(pid, signal.SIGCONT)


def test_what_does_not_end_in_time_is_killed(service: Service, gate: Gate) -> None:
    service.photos()
    gate.let(1)
    job = service.add()
    worker = service.supervised()
    service.until_under_way(job, gate)
    pid = worker.pid
    worker.terminate()
    # It would wait at the gate, and then be done with the job.
    worker.stop(timeout=0.3)
    assert _is_gone(pid or 0)
    assert worker.pid is None
    worker.wake()
    worker.stop()
    assert service.queue.get(job).state is JobState.RUNNING


def test_a_worker_that_can_not_start_is_not_tried_in_a_rush(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "_FIRST_DELAY_SECONDS", 0.05)
    starts: list[float] = []
    popen = worker_module.subprocess.Popen

    def fail(*_: object, **options: object) -> subprocess.Popen[bytes]:
        starts.append(time.monotonic())
        if len(starts) % 2:
            raise OSError(12, "Cannot allocate memory")
        return popen([sys.executable, "-c", "raise SystemExit(1)"], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(worker_module.subprocess, "Popen", fail)
    worker = service.supervised()
    service.until(lambda: len(starts) == 5)
    monkeypatch.undo()
    worker.stop()
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert all(gap >= delay for gap, delay in zip(gaps, (0.05, 0.1, 0.2, 0.4), strict=True))
    assert "could not start: Cannot allocate memory" in caplog.text
    assert "ended with code 1" in caplog.text


def test_stopping_from_many_threads_at_once(service: Service) -> None:
    worker = service.supervised()
    threads = [threading.Thread(target=worker.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert worker.pid is None


def test_the_database_is_handed_on_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://regard:secret@host/name"
    seen: list[dict[str, str]] = []

    def record(arguments: list[str], *, env: dict[str, str], **_: object) -> object:
        assert not any("secret" in argument for argument in arguments)
        seen.append(env)
        raise OSError(1, "enough")

    monkeypatch.setattr(worker_module.subprocess, "Popen", record)

    def started(settings: Settings) -> Settings:
        worker = WorkerProcess(settings, roots={})
        worker.start()
        while not seen:
            time.sleep(0.01)
        worker.stop()
        return Settings.resolve(settings.home, seen.pop())

    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    assert started(Settings(tmp_path, url)) == Settings(tmp_path, url)
    (tmp_path / "password").write_text("other")
    monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(tmp_path / "password"))
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://regard@host/name")
    assert started(Settings(tmp_path, url)) == Settings(tmp_path, url)
    assert started(Settings(tmp_path)) == Settings(tmp_path)
    by_token = Settings(tmp_path, url, "https://milvus.example", tmp_path / "token")
    assert started(by_token) == by_token
    by_file = Settings.resolve(tmp_path)
    assert "other" in (by_file.database_url or "")
    worker = WorkerProcess(by_file, roots={})
    worker.start()
    while not seen:
        time.sleep(0.01)
    worker.stop()
    assert "other" not in str(seen.pop())


@pytest.mark.parametrize("root", ["photos", "=/x", "photos="])
def test_a_root_without_name_or_folder(root: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "regard.api.worker", "--home", tmp_path, "--root", root],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 3
    assert done.stderr.startswith(b"regard worker: the root")
