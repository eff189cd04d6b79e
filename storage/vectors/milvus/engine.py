"""Indexes in collections of a Milvus server, which any number of servers may search.

Each index is an alias of one collection. A rebuilt one is filled under another name and takes the
alias over, so that searches go on meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regard.core.errors import HomeError
from regard.storage.database.connection import Database
from regard.storage.database.stored_pipelines import index_folder
from regard.storage.files.durable import exclusive, make_directory
from regard.storage.vectors.engine import IndexIdentity, VectorEngine, disk_errors_named
from regard.storage.vectors.milvus.index import MilvusIndex
from regard.storage.vectors.milvus.server import REQUEST_SECONDS, MilvusServer

# How often to try for the right to change an index that another process is changing.
_TURN_SECONDS = 0.05


class MilvusEngine(VectorEngine):
    """Keeps each index in a collection of its own.

    Processes that change one index take turns by a lock outside Milvus, which has none: in the
    catalog's PostgreSQL, or on a folder of the home when the catalog is in SQLite.
    """

    def __init__(self, url: str, token_file: Path | None, folder: Path, database: Database) -> None:
        """`url` is `milvus://host:port` or `https://host`; raises HomeError for the token file."""
        self.folder = folder
        self._database = database
        self._server = MilvusServer(url, "" if token_file is None else _token(token_file))

    def open(self, identity: IndexIdentity) -> MilvusIndex:
        index = self._index(identity)
        index.read_kept()
        return index

    def create(self, identity: IndexIdentity) -> MilvusIndex:
        index = self._index(identity)
        index.replaces = True
        return index

    def kept_stats(self, identity: IndexIdentity) -> Mapping[str, Any] | None:
        index = self.open(identity)
        return {**index.stats(), "applied_through": index.applied_through} if index.exists else None

    def forget(self, catalog: str, pipeline: str) -> None:
        prefix = _prefix(catalog, pipeline)
        with self._server.client() as client:
            for name in client.list_collections(timeout=REQUEST_SECONDS):
                if name.startswith(prefix):
                    for alias in client.list_aliases(name, timeout=REQUEST_SECONDS)["aliases"]:
                        client.drop_alias(alias, timeout=REQUEST_SECONDS)
                    client.drop_collection(name, timeout=REQUEST_SECONDS)

    def _index(self, identity: IndexIdentity) -> MilvusIndex:
        return MilvusIndex(identity, self._server, _alias(identity), lambda: self._alone(identity))

    @contextmanager
    def _alone(self, identity: IndexIdentity) -> Iterator[None]:
        """The right to change an index, which ends with the process.

        Raises EngineUnavailable if the server stops answering, which holds up others, too.
        """
        if self._database.is_sqlite:
            folder = index_folder(self.folder, identity.pipeline)
            directory = folder / f"{identity.space}-{identity.kind}"
            with disk_errors_named(folder):
                make_directory(directory)
                with exclusive(directory, self._wait):
                    yield
            return
        digest = hashlib.sha256(_alias(identity).encode()).digest()
        with self._database.writing() as connection:
            key = int.from_bytes(digest[:8], "big", signed=True)
            lock = f"SELECT pg_try_advisory_xact_lock({key})"
            while not connection.exec_driver_sql(lock).scalar_one():
                self._wait()
            yield

    def _wait(self) -> None:
        """Wait a moment for another process; raise EngineUnavailable if the server is away."""
        time.sleep(_TURN_SECONDS)
        self._server.check()


def _prefix(catalog: str, pipeline: str) -> str:
    return f"regard_{re.sub('[^0-9a-zA-Z]', '', catalog)}_{pipeline[:16]}_"


def _alias(identity: IndexIdentity) -> str:
    """A name of letters, digits and underscores; two channels never share one."""
    channel = f"{identity.space}_{identity.kind.value}"
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode()).hexdigest()
    readable = re.sub("[^0-9a-zA-Z]", "_", channel)[:60]
    return f"{_prefix(identity.catalog, identity.pipeline)}{readable}_{digest[:12]}"


def _token(file: Path) -> str:
    """The file's text without trailing newlines; raises HomeError."""
    try:
        token = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(
            f"the token file {file} can't be read: {getattr(error, 'strerror', None) or error}",
            remedy="let REGARD_VECTORS_TOKEN_FILE name a text file that this user may read",
        ) from error
    if not token:
        raise HomeError(
            f"the token file {file} is empty",
            remedy="let REGARD_VECTORS_TOKEN_FILE name a file with the server's token",
        )
    return token
