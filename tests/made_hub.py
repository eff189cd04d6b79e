"""A model hub on localhost, as much of one as a download needs: model info, the tree, files by
commit."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "c0ffee" + "0" * 34


@dataclass
class MadeHub:
    """Serves folders as models; `requests` are the paths asked for.

    Files in `slow` stop half-way until `go_on` is set; `stopped` tells that one has.
    """

    models: dict[str, Path]
    requests: list[str] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    def downloads(self) -> list[str]:
        """Files whose bytes were asked for."""
        return [
            path.split("/")[-1]
            for path in self.requests
            if path.startswith("GET /") and "/resolve/" in path
        ]

    def use_here(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        """Let the hub's library in this process use this hub, and `cache` as its HF_HOME."""
        template = "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "ENDPOINT", self.endpoint)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.endpoint + template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)

    def environ(self, cache: Path) -> dict[str, str]:
        """The same for other processes."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }


@contextmanager
def made_hub(models: dict[str, Path]) -> Iterator[MadeHub]:
    """A hub that serves these folders under these ids at `endpoint`."""
    hub = MadeHub(models)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.split("?")[0]
            hub.requests.append(f"{'GET' if with_body else 'HEAD'} {path}")
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
                self._describe(*found.groups())
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file(found[1], found[3], with_body)
            else:
                self._refuse("RepoNotFound")

        def _describe(self, model: str, what: str, revision: str) -> None:
            if model not in hub.models:
                self._refuse("RepoNotFound")
            elif revision not in {"main", COMMIT}:
                self._refuse("RevisionNotFound")
            else:
                files = sorted(p for p in hub.models[model].rglob("*") if p.is_file())
                names = [str(path.relative_to(hub.models[model])) for path in files]
                document: object = {
                    "id": model,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in names],
                }
                if what == "tree":
                    document = [
                        {
                            "type": "file",
                            "path": name,
                            "size": path.stat().st_size,
                            "oid": _digest(path),
                        }
                        for name, path in zip(names, files, strict=True)
                    ]
                self._send(json.dumps(document).encode(), {"Content-Type": "application/json"})

        def _file(self, model: str, name: str, with_body: bool) -> None:
            path = hub.models[model] / name
            content = path.read_bytes()
            headers = {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": COMMIT}
            start = int(re.sub(r"\D", "", self.headers.get("Range", "0-").split("-")[0]) or 0)
            if with_body and name in hub.slow:
                self._send(content, headers, half=True)
                return
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(content[start:], headers, status=206 if start else 200, with_body=with_body)

        def _refuse(self, code: str) -> None:
            self._send(b"{}", {"X-Error-Code": code}, status=404)

        def _send(
            self,
            body: bytes,
            headers: dict[str, str],
            *,
            status: int = 200,
            with_body: bool = True,
            half: bool = False,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if half:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                hub.stopped.set()
                hub.go_on.wait(200)
                self.close_connection = True
            elif with_body and self.command != "HEAD":
                self.wfile.write(body)

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that were killed."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
