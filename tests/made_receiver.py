"""A receiver of webhooks: a process that writes what it gets into a file, and answers as told."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from made_caddy import free_ports


class Message(NamedTuple):
    """A request: its id, the positions in it, whether its signature is right, and the answer."""

    id: str
    positions: list[int]
    is_signed: bool
    answer: int | None


class Receiver:
    """`with Receiver(folder) as receiver:` listens at `receiver.url`, always the same, until the
    block ends; it may listen again then."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        folder.mkdir(exist_ok=True)
        (self._port,) = free_ports(1)
        self._folder = folder
        self._certificate = certificate
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://localhost:{self._port}/changes?from=regard"
        self.answer(200)

    def trust(self, secret: str) -> None:
        """The secret that it checks signatures with."""
        (self._folder / "secret").write_text(secret)

    def answer(self, status: int) -> None:
        """Answer with this status from now on; 0 is never."""
        (self._folder / "status").write_text(str(status))

    def messages(self) -> list[Message]:
        """What it got, oldest first."""
        log = self._folder / "log"
        if not log.exists():
            return []
        *lines, _ = log.read_text().split("\n")
        return [Message(*json.loads(line)) for line in lines]

    def accepted(self) -> list[int]:
        """The positions that it has accepted, without repeats, in the order in which they came."""
        found = [message for message in self.messages() if message.answer == 200]
        assert all(message.is_signed for message in found)
        return list(dict.fromkeys(position for one in found for position in one.positions))

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, self.messages()[-3:]
            time.sleep(0.02)

    def __enter__(self) -> Receiver:
        arguments = [str(self._port), str(self._folder), str(self._certificate or "")]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _listen(port: int, folder: Path, certificate: str) -> None:
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            document: dict[str, Any] = json.loads(body)
            try:
                secret = (folder / "secret").read_text()
                Webhook(secret).verify(body, dict(self.headers))
                is_signed = True
            except WebhookVerificationError:
                is_signed = False
            status = int((folder / "status").read_text())
            positions = [change["position"] for change in document["data"]["changes"]]
            with (folder / "log").open("a") as log:
                message = [self.headers["webhook-id"], positions, is_signed, status or None]
                log.write(json.dumps(message) + "\n")
            while not status:
                time.sleep(1)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", port), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _listen(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
