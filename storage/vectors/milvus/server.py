"""Requests to a Milvus server, each bounded in time; its errors are named by EngineUnavailable."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import grpc
from pymilvus import MilvusClient, MilvusException

from regard.core.errors import EngineUnavailable

# Each error is raised, too, and says the same in one line.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

# Seconds after which a request that reads, and one that writes, fails.
SEARCH_SECONDS, REQUEST_SECONDS = 10.0, 60.0
_CONNECT_SECONDS = 5.0
# Milvus' code for a collection that does not exist, and pymilvus' for a failed connection.
_NO_COLLECTION, _NO_CONNECTION = 100, 2
# Seconds in which requests fail at once after one that found nobody: each would wait for nothing.
_AWAY_SECONDS = 1.0


class CollectionGone(EngineUnavailable):
    """A collection was dropped, with or without the rest of the server's data."""


class MilvusServer:
    """One server, by `milvus://host:port` or `https://host`, and the token it asks for, if any."""

    def __init__(self, url: str, token: str = "") -> None:
        """Connects with the first request."""
        parts = urlsplit(url)
        self.address = parts.netloc
        self._uri = f"{'https' if parts.scheme == 'https' else 'http'}://{parts.netloc}"
        self._token = token
        self._connecting = threading.Lock()
        self._client: MilvusClient | None = None
        self._error: EngineUnavailable | None = None
        self._away_until = 0.0

    @contextmanager
    def client(self) -> Iterator[MilvusClient]:
        """The client, for requests that are given a `timeout`; raises EngineUnavailable."""
        if self._error is not None and time.monotonic() < self._away_until:
            raise self._error
        try:
            yield self._connected()
        except (MilvusException, grpc.RpcError) as error:
            self._error = self._unavailable(error)
            if _is_away(error):
                self._away_until = time.monotonic() + _AWAY_SECONDS
            raise self._error from error

    def _connected(self) -> MilvusClient:
        with self._connecting:
            if self._client is None:
                self._client = MilvusClient(
                    self._uri, token=self._token, timeout=_CONNECT_SECONDS, dedicated=True
                )
            return self._client

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        text = str(getattr(error, "message", "") or error).strip()
        reason = (text.splitlines() or [type(error).__name__])[0][:200]
        is_gone = getattr(error, "code", None) == _NO_COLLECTION
        return (CollectionGone if is_gone else EngineUnavailable)(
            f"the Milvus server {self.address} can't be used: {reason}",
            remedy="check that it runs, REGARD_VECTORS and REGARD_VECTORS_TOKEN_FILE",
        )

    def timestamp(self, seconds: float = SEARCH_SECONDS) -> int:
        """A moment of the server after all writes that it has answered, within some seconds."""
        with self.client() as client:
            # No public method asks for it.
            return int(client._get_connection().alloc_timestamp(timeout=seconds))

    def check(self) -> None:
        """Raise EngineUnavailable if the server does not answer soon."""
        self.timestamp(_CONNECT_SECONDS)


def _is_away(error: Exception) -> bool:
    """Whether nobody answered, rather than with an error."""
    code = error.code if isinstance(error, MilvusException) else None
    return not isinstance(code, int) or code == _NO_CONNECTION
