"""Two servers as one: each request goes to one of them at random."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from made_bucket import BUCKET, Bucket
from made_caddy import free_ports, proxy_before
from made_server import Server
from made_service import Served

_PREFIX = "library"


class ServedByTwo(Served):
    """Servers with homes of their own over one PostgreSQL with pgvector and one bucket, behind the
    proxy of the Compose profile `cluster`."""

    def __init__(self, folder: Path, database_url: str, bucket: Bucket) -> None:
        one, two = free_ports(2)
        environ = {**bucket.environ, "REGARD_STORE": f"s3://{BUCKET}/{_PREFIX}"}
        super().__init__(
            folder, database_url, "--port", str(one), vectors="pgvector", environ=environ
        )
        self._ports = one, two
        self._bucket = bucket
        self._second = Server(
            folder / "second home",
            *("--port", str(two)),
            roots={"photos": self.photos},
            environ=self.environ,
        )

    @property
    def url(self) -> str:
        return self._proxy

    @property
    def servers(self) -> Sequence[Server]:
        return [self.server, self._second]

    def __enter__(self) -> ServedByTwo:
        with contextlib.ExitStack() as opened:
            for server in self.servers:
                opened.enter_context(server)
            self._proxy = opened.enter_context(
                proxy_before(self._ports, self.folder, policy="random")
            )
            self.client = self.with_key(None)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        self.close_clients()
        self._opened.close()

    def originals(self) -> dict[str, bytes]:
        originals = self._bucket.objects(f"{_PREFIX}/originals/")
        return {key.rpartition("/")[2][:64]: data for key, data in originals.items()}

    def thumbnails(self) -> list[str]:
        return self._bucket.object_keys(f"{_PREFIX}/thumbnails/")
