"""Processes of regard that start quickly, forked from one that has imported it.

Imports take most of the time of a short process. Each test process starts one process that imports
regard, with warnings as errors, and that forks one for each `Forked`. The forked process becomes a
child of the one that asked for it, by way of Linux's subreapers.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from made_schemas import MIGRATED, copy_or_upgrade

from regard.storage.database import catalog

# pycocotools 2.0.11 under NumPy 2; see pyproject.toml.
WARNINGS = ("error", "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
_SET_CHILD_SUBREAPER = 36
_IMPORTED = (
    "alembic.command",
    "faiss",
    "PIL.JpegImagePlugin",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "regard.api.cli.app",
    "regard.api.cli.commands.index",
    "regard.api.cli.commands.search",
    "regard.api.cli.commands.serve",
    "regard.api.http.app",
    "regard.api.library.local",
    "regard.api.library.remote",
    "regard.api.worker.process",
    "regard.api.worker.watching",
    "regard.indexer.job_work",
    "regard.models.fake",
    "regard.models.profiles.composition",
    "regard.search.duplicates.finder",
    "regard.storage.assets.uploads",
    "regard.storage.vectors.segments.faiss_engine",
)


class ForkServer:
    """The other end of a process in which `_wait_for_request` runs."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def start(cls) -> ForkServer:
        """In a new process, which imports regard first."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = [word for warning in WARNINGS for word in ("-W", warning)]
        process = subprocess.Popen(
            [sys.executable, *options, __file__, str(there.fileno())],
            # What the first test has set, its `sitecustomize` above all, is not for all others.
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            stdin=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
        )
        there.close()

        def end() -> None:
            here.close()
            process.wait(120)

        atexit.register(end)
        return cls(here)

    def fork(self, request: dict[str, Any], files: Sequence[int]) -> int:
        """A new child of this process; its id. `files` become its stdin, stdout and stderr."""
        with self._lock:
            _set_subreaper(True)
            try:
                socket.send_fds(self._connection, [json.dumps(request).encode()], files)
                pid = self._connection.recv(32)
                assert pid, "the process that forks has ended"
                # The process between has ended, so this one is the parent now.
                self._connection.recv(1)
            finally:
                _set_subreaper(False)
        return int(pid)


class Forked(subprocess.Popen[Any]):
    """A `Popen` for commands that run Python, with warnings as errors whatever their options say.

    Of Popen's options it takes those for files, `cwd`, `env` and `process_group`. On other systems
    than Linux it is a plain Popen.
    """

    _server: ForkServer | None = None

    def _execute_child(self, args: Any, *rest: Any) -> None:
        if sys.platform != "linux":
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        if Forked._server is None:
            Forked._server = ForkServer.start()
        cwd, env, pipes, group = rest[4], rest[5], rest[9:15], rest[-1]
        assert not any((rest[1], rest[3], rest[-2])), "an option that Forked does not support"
        request = {
            "words": _without_options([os.fsdecode(word) for word in args]),
            "cwd": os.fsdecode(cwd or os.getcwd()),
            "environ": dict(os.environ if env is None else env),
            "group": group,
        }
        theirs = pipes[0], pipes[3], pipes[5]
        files = [number if fd == -1 else fd for number, fd in enumerate(theirs)]
        self.pid = Forked._server.fork(request, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


# In place of the module `subprocess`, in modules whose processes shall be forked.
forking_subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": Forked})


def _without_options(words: Sequence[str]) -> list[str]:
    """What follows Python's name and options: `-m module …`, `-c code …` or `script …`."""
    place = 1
    while words[place] in {"-P", "-W"}:
        place += 1 if words[place] == "-P" else 2
    return list(words[place:])


def _set_subreaper(is_one: bool) -> None:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(is_one), 0, 0, 0)


def _wait_for_request(connection: socket.socket) -> dict[str, Any]:
    """Fork a process for each request. Returns only in these processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        except ConnectionResetError:  # by a process that was killed
            os._exit(0)
        if not data:
            os._exit(0)
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                break
            connection.send(str(pid).encode())
            os._exit(0)
        for file in files:
            os.close(file)
        os.waitpid(between, 0)
        connection.send(b".")
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # Python chose the forms of its streams by the files that it started with.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", errors="backslashreplace", buffering=1, closefd=False
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    request: dict[str, Any] = json.loads(data)
    return request


def _run(request: dict[str, Any]) -> None:
    """Become the process that the request describes."""
    os.chdir(request["cwd"])
    if request["group"] not in {None, -1}:
        os.setpgid(0, request["group"])
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    if (migrated := os.environ.get(MIGRATED)) is not None:
        catalog.upgrade = partial(copy_or_upgrade, Path(migrated))  # type: ignore[assignment]
    form, *words = request["words"]
    if words[:2] == ["regard.api.cli", "serve"]:
        _prepare_workers()
    folders = [Path(name) for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name]
    sys.path[:0] = map(str, folders)
    for folder in folders:
        if (folder / "sitecustomize.py").is_file():
            runpy.run_path(str(folder / "sitecustomize.py"))
            break
    if form == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif form == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(words[0], {"__name__": "__main__"})
    else:
        sys.argv = [form, *words]
        sys.path.insert(0, os.path.dirname(form))
        runpy.run_path(form, run_name="__main__")


def _end(request: dict[str, Any]) -> NoReturn:
    """Become that process until it ends, but do not free what was imported: that takes longer than
    most commands."""
    code = 0
    try:
        _run(request)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # Whatever was left open is told.
    gc.collect()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)


def _prepare_workers() -> None:
    """Have this server's workers forked, as its children, from what it is now."""
    from regard.api.worker import process

    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        here.close()
        _end(_wait_for_request(there))
    there.close()
    Forked._server = ForkServer(here)
    process.subprocess = forking_subprocess  # type: ignore[assignment]


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _end(_wait_for_request(socket.socket(fileno=int(sys.argv[1]))))
