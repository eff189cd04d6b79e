"""What the figures of `library_size.py` are measured with: processes, servers, memory, clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

_REGARD = (sys.executable, "-m", "regard.api.cli")
_RUNNER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = round(time.perf_counter() - started, 2)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
figures = {"seconds": seconds, "peak_mb": peak, "exit": status.returncode}
print(json.dumps(figures), file=sys.stderr)
"""


@dataclass(frozen=True)
class Server:
    """A server in its own process, with the seconds until it was ready and of its first search."""

    url: str
    pid: int
    ready: float
    first: float

    def processes(self) -> dict[str, psutil.Process]:
        """The server and its worker."""
        server = psutil.Process(self.pid)
        workers = [one for one in server.children(True) if "regard.api.worker" in one.cmdline()]
        return {"server": server} | ({"worker": workers[0]} if workers else {})


@contextmanager
def serving(home: Path, text: str) -> Iterator[Server]:
    """Start a server, wait until it is ready, and search for `text` once."""
    started = time.perf_counter()
    command = [*_REGARD, "serve", "--port", "0", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with httpx.Client(base_url=url, timeout=600) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.02)
            ready = time.perf_counter() - started
            first = seconds(lambda: get(client, "/v1/search", q=text))
        yield Server(url, process.pid, round(ready, 2), round(first, 3))
    finally:
        process.terminate()
        process.wait()


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """The JSON of an answer; raises httpx.HTTPStatusError for a problem."""
    return client.get(path, params=parameters).raise_for_status().json()


def post(client: httpx.Client, path: str, document: object) -> Any:
    """The JSON of an answer; raises httpx.HTTPStatusError for a problem."""
    return client.post(path, json=document).raise_for_status().json()


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def spread(times: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    return {f"p{p}_ms": round(1000 * float(np.percentile(times, p)), 2) for p in (50, 95)}


def repeated(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Percentiles of several calls, without the first of them, which is for warmth."""
    calls[0]()
    return spread([seconds(call) for call in calls[1:]])


def together(clients: int, lasting: float, call: Callable[[int], object]) -> dict[str, float]:
    """Calls by several clients without pause for `lasting` seconds: calls a second, percentiles."""
    times: list[float] = []
    end = time.perf_counter() + lasting

    def work(number: int) -> None:
        while time.perf_counter() < end:
            times.append(seconds(lambda: call(number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"searches_per_second": round(len(times) / lasting, 2), **spread(times)}


def run(*arguments: str | Path) -> dict[str, Any]:
    """`regard` with these arguments: seconds, peak memory in MB, and its exit status."""
    # Linux counts the memory of the process that starts it: a small one does that.
    command = [sys.executable, "-c", _RUNNER, *_REGARD, *map(str, arguments)]
    # As when installed, there is bytecode: the first process writes it.
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    report: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return report


def forget_pages(folder: Path) -> None:
    """Drop the files of a folder from the system's cache, as after a restart."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def memory(process: psutil.Process) -> dict[str, float]:
    """Memory of a process in MB: private, proportional (Pss), and anonymous.

    Private memory includes pages of files that no other process maps at the moment, which the
    system takes back when it needs memory; anonymous memory does not.
    """
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    figures = {"private": private, "pss": kib["Pss"], "anonymous": kib["Anonymous"]}
    return {f"{name}_mb": round(value / 1024, 1) for name, value in figures.items()}


def bytes_below(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
