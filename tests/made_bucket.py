"""A bucket for tests: moto's server, and before it a proxy that fails, hangs or refuses."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

BUCKET = "photos"
_PER_CONNECTION = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Bucket:
    """`with Bucket() as bucket:` serves an empty bucket at `bucket.url` until the block ends.

    `failing` is the share of requests that fail: a third is answered 503, a third is carried out
    and then loses its answer, and a third breaks off halfway. With `hangs` above 0, as many as each
    of these are carried out and not answered for so many seconds. While `is_away`, all
    connections are cut. Each request takes `slow` seconds more, and `most_at_once` is how many were
    answered at the same time. `denied` are keys that nobody may read, with the code of the error; the
    empty key is the listing. `requests` counts the requests by method, `reads` names the keys that
    were read, and `listings` counts the pages that were listed.
    """

    def __init__(self, failing: float = 0.0, seed: int = 0) -> None:
        self.failing = failing
        self.hangs = 0.0
        self.slow = 0.0
        self.most_at_once = self._at_once = 0
        self.is_away = False
        self.denied: dict[str, str] = {}
        self.requests: dict[str, int] = {}
        self.reads: list[str] = []
        self.listings = 0
        self.failed = self.hung = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which regard, or any AWS tool, finds the bucket."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def object_keys(self, prefix: str = "") -> list[str]:
        """The keys of all objects, by moto's own records."""
        return sorted(key for key in self._store.buckets[BUCKET].keys if key.startswith(prefix))

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """The bytes of all objects by key, without requests."""
        return {key: self._store.get_object(BUCKET, key).value for key in self.object_keys(prefix)}

    def put(self, key: str, data: bytes) -> None:
        """Store an object, without a request."""
        self._store.put_object(BUCKET, key, data)

    def delete(self, *keys: str) -> None:
        """Delete objects, without requests."""
        for key in keys:
            self._store.delete_object(BUCKET, key)

    @property
    def _store(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]

    @contextlib.contextmanager
    def _slowly(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._ended.wait(self.slow)
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _next_failure(self) -> int | None:
        with self._lock:
            if self._random.random() >= self.failing:
                return None
            self.failed += 1
            return self._random.randrange(4 if self.hangs else 3)

    def _count(self, method: str, target: str) -> str | None:
        """The key that a request reads; empty for a listing, None for another request."""
        parts = urlsplit(target)
        if method != "GET":
            return None
        if "list-type=2" in parts.query:
            self.listings += 1
            return ""
        key = unquote(parts.path).removeprefix(f"/{BUCKET}/")
        self.reads.append(key)
        return key

    def __enter__(self) -> Bucket:
        from moto.server import ThreadedMotoServer

        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                with bucket._slowly():
                    self._answer()

            def _answer(self) -> None:
                if bucket.is_away:
                    self.close_connection = True
                    return
                with bucket._lock:
                    count = bucket.requests.get(self.command, 0)
                    bucket.requests[self.command] = count + 1
                    key = bucket._count(self.command, self.path)
                failure = bucket._next_failure()
                if self.headers.get("expect", "").lower() == "100-continue":
                    pass  # the base class has answered it
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if key in bucket.denied:
                    self._deny(bucket.denied[key])
                    return
                if failure == 0:
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                sent = {k: v for k, v in self.headers.items() if k.lower() not in _PER_CONNECTION}
                sent.pop("Expect", None)
                moto = http.client.HTTPConnection(host, port, timeout=60)
                moto.request(self.command, self.path, body, sent)
                answer = moto.getresponse()
                data = answer.read()
                moto.close()
                if failure == 3:
                    bucket.hung += 1
                    bucket._ended.wait(bucket.hangs)
                if failure in {1, 3}:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                has_length = False
                for name, value in answer.getheaders():
                    has_length |= name.lower() == "content-length"
                    if name.lower() not in {"connection", "transfer-encoding", "date", "server"}:
                        self.send_header(name, value)
                if not has_length:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    if failure == 2 and self.command != "HEAD":
                        self.wfile.write(data[: len(data) // 2])
                        self.close_connection = True
                    elif self.command != "HEAD":
                        self.wfile.write(data)

            def _deny(self, code: str) -> None:
                text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
                self.send_response(403)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        created = http.client.HTTPConnection(host, port, timeout=60)
        created.request("PUT", f"/{BUCKET}", headers={"Host": f"{host}:{port}"})
        assert created.getresponse().status == 200
        created.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._proxy.shutdown()
        self._proxy.server_close()
        self._moto.stop()
        # moto's records belong to the process, and the next bucket is to be empty.
        self.delete(*self.object_keys())


@contextlib.contextmanager
def used_here(bucket: Bucket) -> Iterator[Bucket]:
    """Let this process use the bucket."""
    from regard.photos.buckets import _client

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in bucket.environ.items():
            patch.setenv(name, value)
        _client.cache_clear()
        yield bucket
        _client.cache_clear()
