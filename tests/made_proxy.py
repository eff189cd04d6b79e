"""A reverse proxy that serves one server below a sub-path, and nothing else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import httpx

_PER_CONNECTION = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy:
    """`with Proxy(url, "/photos") as proxy:` answers at `proxy.url` until the block ends.

    With `keep` the prefix stays in the forwarded path. `headers` are added to each request.
    """

    def __init__(
        self, server: str, prefix: str, headers: Mapping[str, str] | None = None, *, keep: bool
    ) -> None:
        self.outside: list[str] = []
        proxy = self
        client = httpx.Client(base_url=server, timeout=120, trust_env=False, verify=False)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                if not self.path.startswith((f"{prefix}/", f"{prefix}?")) and self.path != prefix:
                    proxy.outside.append(self.path)
                    self.send_error(404, "another program lives here")
                    return
                path = self.path if keep else self.path[len(prefix) :]
                sent = {k: v for k, v in self.headers.items() if k.lower() not in _PER_CONNECTION}
                answer = client.request(
                    self.command, path, content=body, headers={**sent, **(headers or {})}
                )
                self.send_response(answer.status_code)
                for name, value in answer.headers.multi_items():
                    if name not in {*_PER_CONNECTION, "content-encoding", "date"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                if self.command != "HEAD":
                    with contextlib.suppress(ConnectionError):  # the client has left
                        self.wfile.write(answer.content)

            do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = _forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._client = client
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{prefix}"

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()
