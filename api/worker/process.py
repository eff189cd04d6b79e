"""The worker does jobs in a separate process, so that searches in the server's process stay quick.

`python -m regard.api.worker --home DIR [--root NAME=DIR]… [--profile NAME] [--ray ADDRESS]
[--watch NAME [--poll]]` works until SIGTERM or the end of its stdin, which also comes when the
server is killed. A byte on stdin makes it look for a job at once. It may watch one of the roots. Of
several workers on one catalog, one works; another takes over when it ends. Models are loaded when
the first job needs them. A minute after the last job the process executes itself again, which gives
back their memory; not while it watches a root, because watching begins with a look at every file.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regard.api.library.settings import (
    DATABASE_VARIABLE,
    PASSWORD_FILE_VARIABLE,
    STORE_VARIABLE,
    TOKEN_FILE_VARIABLE,
    VECTORS_VARIABLE,
    Settings,
)
from regard.core.errors import LeaseHeld, PipelineConflict, RegardError, UsageError
from regard.photos.files import absolute_path

if TYPE_CHECKING:
    from regard.storage.database.catalog import Catalog

_log = logging.getLogger(__name__)

# Work beside the jobs, until the event is set.
_Upkeep = Callable[[threading.Event], None]

DONE, CANNOT_WORK = 0, 3
_NICE = 19
_MODULE = ("-P", "-m", "regard.api.worker")
_ROLE_RETRY_SECONDS = 1.0
_STACKING_PAUSE_SECONDS = 60.0
# Without a job, after one.
_IDLE_SECONDS = 60.0
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 0.5, 60.0
# A worker that died after so long did not fail at its start, and is restarted without delay.
_STEADY_SECONDS = 60.0


class WorkerProcess:
    """Keeps a worker running for a server, restarting it when it dies. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        *,
        roots: Mapping[str, bytes],
        profile: str | None = None,
        environ: Mapping[str, str] | None = None,
        watched: str | None = None,
        is_polled: bool = False,
    ) -> None:
        """`roots` are the absolute paths of what may be imported, by name; one may be watched.

        `profile` is for a home without a live pipeline; `environ` replaces this process's
        environment.
        """
        self._environ = dict(os.environ if environ is None else environ)
        self._settings = settings
        self._command: list[str | bytes] = [sys.executable, *_MODULE]
        self._command += ["--home", str(settings.home)]
        for name, folder in roots.items():
            self._command += ["--root", os.fsencode(f"{name}=") + folder]
        if profile is not None:
            self._command += ["--profile", profile]
        if settings.ray is not None:
            self._command += ["--ray", settings.ray]
        if watched is not None:
            self._command += ["--watch", watched, *(["--poll"] if is_polled else [])]
        # A signal's handler may terminate the worker while its thread wakes it.
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._terminated_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="worker", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id of the worker, None when it does not run."""
        with self._lock:
            process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start the worker; call it once."""
        self._thread.start()

    def wake(self) -> None:
        """Make the worker look for a job at once. Never blocks."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._process is not None and self._process.stdin is not None:
                # When the pipe is full, enough bytes wait in it already.
                self._process.stdin.write(b"\n")

    def terminate(self) -> None:
        """Tell the worker to end; `stop` waits for it. Never blocks for long."""
        if not self._stopping.is_set():
            self._terminated_at = time.monotonic()
            self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def stop(self, timeout: float = 7.0) -> None:
        """End the worker in order, or kill it `timeout` seconds after it was told to end.

        Either way its job continues when a worker starts again.
        """
        self.terminate()
        with self._lock:
            process = self._process
        if process is not None:
            try:
                process.wait(max(self._terminated_at + timeout - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _supervise(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while True:
            started = time.monotonic()
            try:
                with self._lock:
                    if self._stopping.is_set():
                        return
                    process = self._process = self._launch()
            except OSError as error:
                ended = f"could not start: {error.strerror}"
            else:
                ended = f"ended with code {process.wait()}"
                with self._lock:
                    self._process = None
                    if process.stdin is not None:
                        process.stdin.close()
            if time.monotonic() - started > _STEADY_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            if self._stopping.is_set():
                return
            _log.warning("the worker %s; it starts again in %.1f s", ended, delay)
            if self._stopping.wait(delay):
                return
            delay = min(2 * delay, _LAST_DELAY_SECONDS)

    def _launch(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own command
            self._command,
            stdin=subprocess.PIPE,
            bufsize=0,
            env=_environment(self._settings, self._environ),
            # Ctrl-C in the terminal goes to the server alone, which then ends its worker in order.
            process_group=0,
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process


def _environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """An environment that gives another process the same settings."""
    environ = dict(environ)
    if Settings.resolve(settings.home, environ) != replace(settings, ray=None):
        environ.pop(PASSWORD_FILE_VARIABLE, None)
        environ[DATABASE_VARIABLE] = settings.database_url or ""
        environ[STORE_VARIABLE] = settings.store or ""
        environ[VECTORS_VARIABLE] = settings.vectors
        environ[TOKEN_FILE_VARIABLE] = str(settings.vectors_token_file or "")
    return environ


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker; returns the exit code."""
    # Before numerical libraries start threads, which would keep the former priority.
    _give_way()
    parser = argparse.ArgumentParser(
        "python -m regard.api.worker.process", description="Does jobs."
    )
    parser.add_argument("--home", type=Path)
    parser.add_argument("--root", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--profile")
    parser.add_argument("--ray")
    parser.add_argument("--watch", metavar="NAME")
    parser.add_argument("--poll", action="store_true")
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    logging.basicConfig(format="regard worker: %(message)s", stream=sys.stderr)
    stop, wake = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threading.Thread(target=_listen, args=(stop, wake), name="stdin", daemon=True).start()
    try:
        settings = replace(Settings.resolve(given.home), ray=given.ray)
        roots = _roots(given.root)
        work(
            *(settings, roots, given.profile, stop, wake),
            watched=given.watch,
            is_polled=given.poll,
            idle_seconds=_IDLE_SECONDS if given.watch is None else math.inf,
        )
    except RegardError as error:
        _log.error("%s", error)
        return CANNOT_WORK
    if not stop.is_set():
        os.execv(sys.executable, [sys.executable, *_MODULE, *arguments])  # noqa: S606
    return DONE


def work(
    settings: Settings,
    roots: Mapping[str, bytes],
    profile: str | None,
    stop: threading.Event,
    wake: threading.Event,
    *,
    watched: str | None = None,
    is_polled: bool = False,
    idle_seconds: float = math.inf,
) -> None:
    """Do jobs until `stop` is set; `wake` makes it look for one at once. Raises RegardError.

    What changes below the root named `watched` becomes jobs. Returns too when there was no job for
    `idle_seconds` after one.
    """
    from regard.api.library.home import Home, open_home_catalog, open_or_make_home
    from regard.api.library.reading import follow_indexing
    from regard.api.library.reindexing import HomeJobs
    from regard.api.worker.watching import RootWatch
    from regard.core.jobs import INDEXING_KINDS, Job
    from regard.indexer.indexing import Indexer
    from regard.indexer.job_work import JobWork
    from regard.indexer.jobs import JobRunner
    from regard.indexer.report import IndexReport, Progress, Stoppable
    from regard.storage.assets.uploads import SqlUploads
    from regard.storage.service.jobs import SqlJobQueue

    with contextlib.ExitStack() as opened:
        catalog = opened.enter_context(open_home_catalog(settings, make=True))
        library: Home | None = None
        library_opened = opened.enter_context(contextlib.ExitStack())

        def is_current() -> bool:
            return library is not None and library.is_live()

        def current_home() -> Home:
            nonlocal library
            if not is_current():
                library = None
                library_opened.close()
                of_new_home = profile if catalog.live_pipeline() is None else None
                library = library_opened.enter_context(open_or_make_home(settings, of_new_home))
            assert library is not None
            return library

        def indexer(collection: str) -> Indexer:
            return current_home().indexer(collection)

        queue = SqlJobQueue(catalog)
        originals = SqlUploads(catalog).waiting_originals
        for_home = HomeJobs(settings, catalog, queue, current_home)
        do_job = JobWork(indexer, roots, originals, queue.imported_folders, for_home)

        def work_with_live(job: Job, progress: Progress) -> IndexReport:
            try:
                report = do_job(job, progress)
                if job.kind in INDEXING_KINDS and not report.interrupted:
                    # It has no part in the counts of files.
                    follow_indexing(current_home(), report, Stoppable(progress.should_stop))
                return report
            except PipelineConflict:
                if library is None or is_current():
                    raise
                # Other models went live meanwhile; the job continues with them.
                return IndexReport(interrupted=True)

        runner = JobRunner(queue, work_with_live)
        upkeep = _upkeep(settings, catalog)
        if watched is not None:
            watch = RootWatch(settings, catalog, watched, roots[watched], wake, is_polled=is_polled)
            upkeep.append(watch.keep_adding)
        while not stop.is_set():
            try:
                with queue.worker_role(), _beside(*upkeep):
                    runner.run_until(stop, wake, idle_seconds)
                    return
            except LeaseHeld:
                # Another worker has the role, and may end at any moment.
                stop.wait(_ROLE_RETRY_SECONDS)


def _upkeep(settings: Settings, catalog: Catalog) -> list[_Upkeep]:
    from regard.api.library.duplicates import keep_signing
    from regard.api.library.home import open_originals, open_thumbnails
    from regard.api.library.purging import Purging
    from regard.api.worker.webhooks import WebhookSender

    upkeep: list[_Upkeep] = [
        partial(keep_signing, catalog),
        partial(_keep_stacking, catalog),
        WebhookSender(catalog).keep_sending,
    ]
    if settings.store:
        # A folder never keeps files from being deleted at once.
        purging = Purging(catalog, open_originals(settings, catalog), open_thumbnails(settings))
        upkeep.append(purging.keep_deleting)
    return upkeep


def _keep_stacking(catalog: Catalog, stop: threading.Event) -> None:
    """Find the stacks of an older home, and those that a killed process left, until `stop`."""
    from regard.storage.assets.stacks import update_stacks

    while not stop.is_set():
        try:
            update_stacks(catalog.database, should_stop=stop.is_set)
        except RegardError as error:
            _log.warning("stacks have to wait: %s", error)
        stop.wait(_STACKING_PAUSE_SECONDS)


@contextlib.contextmanager
def _beside(*upkeep: _Upkeep) -> Iterator[None]:
    """Do each upkeep in a thread of its own for the duration of the block."""
    ended = threading.Event()
    threads = [threading.Thread(target=one, args=(ended,), name="upkeep") for one in upkeep]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _roots(given: Sequence[str]) -> dict[str, bytes]:
    roots = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"the root {text!r} has no name", remedy="give --root NAME=DIR")
        roots[name] = absolute_path(folder)
    return roots


def _listen(stop: threading.Event, wake: threading.Event) -> None:
    """Wake at each byte on stdin, stop at its end."""
    with contextlib.suppress(OSError):  # stdin may never have been open
        while os.read(0, 4096):
            wake.set()
    stop.set()
    wake.set()


def _give_way() -> None:
    """Give searches precedence: the nice value also lowers the priority of disk access."""
    os.nice(_NICE)
    if sys.platform == "linux":
        # A sandbox may forbid it; nothing depends on it.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
