"""A real server: `regard serve` in a process of its own, with the fake models unless told
otherwise."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import httpx
import psutil
from made_library import Argument
from made_processes import WARNINGS, Forked

_WORKERS_AT_ONCE = str(Path(__file__).parent / "workers_at_once")
_ANNOUNCED = re.compile(rb"^regard serves .* at (http://\S+?)/?$", re.MULTILINE)


class Server:
    """`with Server(home, roots={"photos": folder}) as server:` serves until the block ends.

    Warnings are errors in it and in its worker, and whatever ends it, it must have written no
    traceback. `profile` None leaves it to the home. With `ready` False it need only listen when
    the block begins.
    """

    def __init__(
        self,
        home: Path,
        *arguments: Argument,
        roots: Mapping[str, Path] | None = None,
        environ: Mapping[str, str] | None = None,
        profile: str | None = "fake",
        ready: bool = True,
    ) -> None:
        self.home = home
        self.url = ""
        self._arguments: list[Argument] = ["--port", "0", "--home", home, *arguments]
        for name, folder in (roots or {}).items():
            self._arguments += ["--root", f"{name}={folder}"]
        if profile is not None:
            self._arguments += ["--profile", profile]
        self._environ = {
            **os.environ,
            "PYTHONWARNINGS": ",".join(WARNINGS),
            "PYTHONPATH": os.pathsep.join(
                filter(None, (_WORKERS_AT_ONCE, os.environ.get("PYTHONPATH")))
            ),
            **(environ or {}),
        }
        self._ready = ready
        self._out: BinaryIO | None = None
        self._err: BinaryIO | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.is_running:
                self.stop()
        finally:
            self._end()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def out(self) -> str:
        return _read(self._out)

    @property
    def err(self) -> str:
        return _read(self._err)

    def workers(self) -> list[psutil.Process]:
        """Its workers; each leads a process group, unlike the process that forks them."""
        children = psutil.Process(self.pid).children()
        return [child for child in children if os.getpgid(child.pid) == child.pid]

    def start(self, seconds: float = 200.0) -> None:
        """Start it, again too, and wait until it is ready; the port is another one then."""
        assert not self.is_running
        self._end()
        # Files, not pipes: nobody reads while a test does something else.
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - kept until the end
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = Forked(
            [sys.executable, "-m", "regard.api.cli", "serve", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=self._environ,
        )
        try:
            self._wait_until(self._is_announced, seconds)
            if self._ready:
                with httpx.Client(
                    base_url=self.url, timeout=120, trust_env=False, verify=False
                ) as client:
                    self._wait_until(lambda: client.get("/readyz").status_code == 200, seconds)
        except BaseException:
            self.kill()
            raise

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in order; its worker too."""
        assert self._process is not None
        family = self._family()
        self._process.send_signal(number)
        code = self._process.wait(120)
        assert code == (130 if number == signal.SIGINT else 0), (code, self.err)
        _wait_for(family)
        self._check()

    def kill(self) -> None:
        """End it without warning; its worker notices, and is gone when this returns."""
        assert self._process is not None
        family = self._family()
        self._process.kill()
        self._process.wait(120)
        _wait_for(family)
        self._check()

    def _is_announced(self) -> bool:
        assert self._out is not None
        found = _ANNOUNCED.search(_read(self._out).encode())
        if found is not None:
            self.url = found[1].decode()
        return found is not None

    def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.is_running, f"the server ended: {self.out} {self.err}"
            assert time.monotonic() < deadline, f"the server is not ready: {self.out} {self.err}"
            time.sleep(0.02)

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _check(self) -> None:
        assert "Traceback" not in self.err, self.err
        assert "Warning" not in self.err, self.err

    def _end(self) -> None:
        for file in (self._out, self._err):
            if file is not None:
                file.close()
        self._out = self._err = None


def _wait_for(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert not alive, alive


def _read(file: BinaryIO | None) -> str:
    if file is None:
        return ""
    # By position: the process at the other end writes where this file's own position stands.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
