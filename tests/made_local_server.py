"""A server and its worker in threads of the test's own process, which start quickly.

Tests of processes, signals and streams use `made_server.py`.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn

from regard.api.http.app import create_app
from regard.api.http.service import Service, ServiceOptions
from regard.api.library.home import open_or_make_home
from regard.api.library.settings import Settings
from regard.api.worker.process import work


class LocalServer:
    """`with LocalServer(home) as server:` serves at `server.url` until the block ends."""

    def __init__(self, home: Path, *, profile: str | None = "fake", **options: Any) -> None:
        self.home = home
        self._settings = Settings(home)
        self._profile = profile
        self._options = ServiceOptions(allowed_hosts=["127.0.0.1"], **options)
        self._opened = ExitStack()

    def __enter__(self) -> LocalServer:
        home = self._opened.enter_context(
            open_or_make_home(self._settings, self._profile, to_search=True)
        )
        stop, wake = threading.Event(), threading.Event()
        service = Service(home, self._options, wake.set)
        service.take_up()
        listener = self._opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(create_app(service), log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        roots = self._options.roots
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}),
            threading.Thread(target=work, args=(self._settings, roots, self._profile, stop, wake)),
        ]
        for thread in threads:
            thread.start()

        def end() -> None:
            service.close()
            server.should_exit = True
            stop.set()
            wake.set()
            for thread in threads:
                thread.join()
            # The service froze what it had loaded.
            gc.unfreeze()

        self._opened.callback(end)
        while not server.started:
            assert threads[0].is_alive()
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
