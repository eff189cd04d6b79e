"""The writer lease: one indexing process per catalog, marked by a row with a heartbeat.

Further leases are those of the worker, which claims jobs, and of the builder, which writes a
pipeline that is not live.

A killed holder leaves its row behind. On the same host the lease is free as soon as that process
is gone (process id and start time, because ids are reused); on another host it is free when the
heartbeat is old. Every write checks the token in its own transaction, so a holder that slept
through its lease (a suspended laptop) can't write beside its successor.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import psutil
from sqlalchemy import Connection, delete, insert, select, update

from regard.core.errors import HomeError, LeaseHeld
from regard.storage.database import schema
from regard.storage.database.connection import Database

WRITER, WORKER, BUILDER = "writer", "worker", "builder"
_INDEXING = "is indexing into"
_DOING = {BUILDER: "is reindexing"}
HEARTBEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0


class SqlWriterLease:
    """A held lease; created by `hold_writer_lease`."""

    def __init__(self, database: Database, token: str, name: str = WRITER) -> None:
        self._database = database
        self._name = name
        self.token = token
        self._lost = threading.Event()

    def check(self) -> None:
        """Raise LeaseHeld if another process has taken over."""
        if self._lost.is_set():
            raise _taken_over()

    def guard(self, connection: Connection) -> None:
        """Refresh the lease inside a write transaction; raises LeaseHeld when it is lost."""
        refreshed = connection.execute(
            update(schema.lease)
            .where(schema.lease.c.name == self._name, schema.lease.c.token == self.token)
            .values(heartbeat_at=time.time())
        )
        if refreshed.rowcount != 1:
            self._lost.set()
            raise _taken_over()

    def beat(self, stopped: threading.Event) -> None:
        """Refresh the lease until `stopped` is set or the lease is lost."""
        while not stopped.wait(HEARTBEAT_SECONDS):
            try:
                with self._database.writing() as connection:
                    self.guard(connection)
            except LeaseHeld:
                return
            except HomeError:
                # A busy or briefly unreachable database: the next beat tries again, and every
                # write checks the token.
                continue


@contextlib.contextmanager
def hold_writer_lease(database: Database, name: str = WRITER) -> Iterator[SqlWriterLease]:
    """Hold the writer lease, or the one named, for the block.

    Raises LeaseHeld, which names the holder's process and host.
    """
    token = uuid.uuid4().hex
    now = time.time()
    with database.writing() as connection:
        # Without this, two processes that find no row would both insert one. If there is a row,
        # wait for what its holder is committing.
        database.take_turns(connection)
        row = connection.execute(
            select(schema.lease).where(schema.lease.c.name == name).with_for_update()
        ).one_or_none()
        if row is not None:
            if not is_free(row.host, row.pid, row.process_started, row.heartbeat_at, now):
                raise LeaseHeld(
                    f"process {row.pid} on {row.host} {_DOING.get(name, _INDEXING)} this home "
                    f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(row.acquired_at))}",
                    remedy="wait for it to end, or stop it, and run the command again",
                )
            connection.execute(delete(schema.lease).where(schema.lease.c.name == name))
        connection.execute(
            insert(schema.lease).values(
                name=name,
                token=token,
                host=socket.gethostname(),
                pid=os.getpid(),
                process_started=psutil.Process().create_time(),
                acquired_at=now,
                heartbeat_at=now,
            )
        )
    lease = SqlWriterLease(database, token, name)
    stopped = threading.Event()
    heart = threading.Thread(target=lease.beat, args=(stopped,), name="lease", daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        stopped.set()
        heart.join()
        with contextlib.suppress(HomeError), database.writing() as connection:
            connection.execute(delete(schema.lease).where(schema.lease.c.token == token))


def is_free(host: str, pid: int, started: float, heartbeat_at: float, now: float) -> bool:
    """Whether the holder is gone, or is on another host and its heartbeat is too old."""
    if host == socket.gethostname():
        try:
            process = psutil.Process(pid)
            # A zombie process still has its id.
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return bool(abs(process.create_time() - started) > 1.0)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            pass
    return now - heartbeat_at > EXPIRY_SECONDS


def _taken_over() -> LeaseHeld:
    return LeaseHeld(
        "another process has taken over the indexing of this home",
        remedy="run the command again when it has ended",
    )
