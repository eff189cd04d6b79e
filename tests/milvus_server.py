"""A Milvus server for the tests: started once, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

_START_SECONDS = 60
# Processes of the tests may rest for minutes, in which the server must not give itself up; and it
# polls its own parts more often than it would have to. Graphs are built for few rows.
_SETTINGS: dict[str, Any] = {
    "common.session.ttl": 36_000,
    "indexCoord.segment.minSegmentNumRowsToEnableIndex": 300,
    "proxy.timeTickInterval": 50,
    "queryCoord.checkInterval": 100,
    "queryCoord.distPullInterval": 50,
    "queryCoord.heartbeatAvailableInterval": 600_000,
}


class MilvusServer:
    """The standalone server of the package `milvus`, on ports of its own."""

    def __init__(self, **settings: Any) -> None:
        import milvus

        self.folder = Path(tempfile.mkdtemp(prefix="regard-milvus-"))
        server = milvus.MilvusServer(wait_for_started=False)
        names = [name for name in server.config_keys if name.endswith("_port")]
        *ports, self._health, peers = _free_ports(len(names) + 2)
        settings = _SETTINGS | settings | dict(zip(names, ports, strict=True))
        config = server.config
        config.update(**settings, data_dir=str(self.folder))
        for name, value in settings.items():
            config.set(name, value)
        with warnings.catch_warnings():
            # It tries the ports without closing its sockets.
            warnings.simplefilter("ignore", ResourceWarning)
            config.resolve()
        milvus._initialize_data_files(str(self.folder))
        self.url = f"milvus://127.0.0.1:{settings['proxy_port']}"
        # The embedded etcd has one port for all servers unless it has its own file.
        own, peers = (f"http://127.0.0.1:{port}" for port in (settings["etcd_port"], peers))
        etcd = {
            "name": "etcd",
            "data-dir": str(self.folder / "data" / "etcd.data"),
            **dict.fromkeys(("listen-client-urls", "advertise-client-urls"), own),
            **dict.fromkeys(("listen-peer-urls", "initial-advertise-peer-urls"), peers),
            "initial-cluster": f"etcd={peers}",
        }
        (self.folder / "etcd.json").write_text(json.dumps(etcd))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it; once more when its parts did not find each other in time."""
        for _ in range(2):
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [self.folder / "bin" / "milvus", "run", "standalone"],
                    cwd=self.folder,
                    env={
                        **os.environ,
                        "DEPLOY_MODE": "STANDALONE",
                        "METRICS_PORT": str(self._health),
                        "MILVUS_RUN_DIR": str(self.folder / "run"),
                        "LD_LIBRARY_PATH": str(self.folder / "bin"),
                        "ETCD_CONFIG_PATH": str(self.folder / "etcd.json"),
                    },
                    stdout=log,
                    stderr=log,
                )
            if self._is_healthy():
                return
            self.kill()
        log_text = (self.folder / "log").read_text(errors="replace")
        raise RuntimeError(f"Milvus did not start:\n{log_text[-3000:]}")

    def _is_healthy(self) -> bool:
        """Whether it becomes healthy in time."""
        deadline = time.monotonic() + _START_SECONDS
        assert self._process is not None
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                url = f"http://127.0.0.1:{self._health}/healthz"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200 and b"OK" in answer.read():
                        return True
            except OSError:
                pass
            time.sleep(0.1)
        return False

    def pause(self) -> None:
        """Let it answer nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once. A new one then waits until the sessions of its parts have run out."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
