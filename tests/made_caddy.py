"""The proxy of the Compose profile `cluster`: Caddy with `deploy/Caddyfile`, before other servers."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

CADDYFILE = Path(__file__).resolve().parents[1] / "deploy" / "Caddyfile"
CADDY = Path(sys.executable).with_name("caddy")


def free_ports(count: int) -> list[int]:
    """Ports that stay free: none that the system gives to connections of clients, or Ray to workers."""
    free: list[int] = []
    while len(free) < count:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free.append(port)
    return free


@contextmanager
def proxy_before(ports: tuple[int, int], folder: Path, policy: str = "least_conn") -> Iterator[str]:
    """The URL of a proxy before the servers at two ports of this machine.

    `policy` says which of them gets a request, in Caddy's words.
    """
    (port,) = free_ports(1)
    text = CADDYFILE.read_text().replace("\n:8420 {", f"\nhttp://127.0.0.1:{port} {{")
    text = text.replace("lb_policy least_conn", f"lb_policy {policy}")
    for number, upstream in enumerate(ports, start=1):
        text = text.replace(f"server-{number}:8420", f"127.0.0.1:{upstream}")
    file = folder / "Caddyfile"
    file.write_text(text)
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [CADDY, "run", "--config", file, "--adapter", "caddyfile"], stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(url):
            assert process.poll() is None, (folder / "caddy.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=30, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
