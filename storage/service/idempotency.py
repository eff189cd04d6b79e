"""Answers that were given under an idempotency key, so that a repeated request does nothing twice.

`recall` reserves the key in a transaction of its own before the work begins; whoever repeats the request
meanwhile waits for the first one's answer. A reservation names its process: when that is gone, on this
host at once and on another after a minute, the next request takes it over. Answers are kept for a day.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Row, and_, delete, insert, select, update

from regard.core.errors import KeyInUse, KeyReused, UsageError
from regard.core.keys import Caller
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.lease import is_free

KEPT = timedelta(days=1)
WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05
_LONGEST_KEY = 255
# The status of a row whose answer is still to come; its `answer` tells who works on it.
_RESERVED = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the HTTP status, from 100 up, and the body as text."""

    status: int
    body: str


class SqlIdempotency:
    """The answers of one catalog; safe to use from several threads and processes.

    After `recall` gave None the caller does the work and calls `remember`, or `forget` when it failed.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._database = catalog.database
        self._holder = json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": psutil.Process().create_time(),
            }
        )

    def recall(
        self, caller: Caller, key: str, request_sha256: str, *, wait_seconds: float = WAIT_SECONDS
    ) -> Answer | None:
        """The answer that was given to this request before; None when the work is the caller's now.

        Blocks while the first request is being answered. `request_sha256` (hex) stands for all that makes a
        request the same: method, path and body. Raises UsageError for a key that is not 1 to 255 printable
        ASCII characters, KeyReused when another request came under it, KeyInUse when the first one
        is not answered after `wait_seconds`.
        """
        if not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
            raise UsageError(
                f"an idempotency key has 1 to {_LONGEST_KEY} printable ASCII characters",
                remedy="use a random UUID",
            )
        deadline = time.monotonic() + wait_seconds
        while True:
            with self._database.writing() as connection:
                # Two that find no row would both insert one.
                self._database.take_turns(connection)
                connection.execute(
                    delete(schema.idempotency).where(
                        schema.idempotency.c.created_at < _now() - KEPT
                    )
                )
                row = connection.execute(
                    select(schema.idempotency).where(_is(caller, key))
                ).one_or_none()
                if row is not None and self._is_abandoned(row):
                    connection.execute(delete(schema.idempotency).where(_is(caller, key)))
                    row = None
                if row is None:
                    connection.execute(
                        insert(schema.idempotency).values(
                            caller=caller.identity,
                            key=key,
                            request_sha256=request_sha256,
                            status=_RESERVED,
                            answer=self._holder,
                            created_at=_now(),
                        )
                    )
                    return None
            if row.request_sha256 != request_sha256:
                raise KeyReused(
                    "another request came under this idempotency key",
                    remedy="use a new key for a new request",
                )
            if row.status != _RESERVED:
                return Answer(row.status, row.answer)
            if time.monotonic() >= deadline:
                raise KeyInUse(
                    "the first request under this idempotency key is still being answered",
                    remedy="ask again a little later",
                )
            time.sleep(_POLL_SECONDS)

    def remember(self, caller: Caller, key: str, answer: Answer) -> None:
        """Keep the answer to the request that `recall` gave None for.

        Nothing is kept when another process has taken the reservation over: its answer will stand.
        """
        with self._database.writing() as connection:
            connection.execute(
                update(schema.idempotency)
                .where(self._is_mine(caller, key))
                .values(status=answer.status, answer=answer.body)
            )

    def forget(self, caller: Caller, key: str) -> None:
        """Give the reservation back: the work failed, and the same request may try again."""
        with self._database.writing() as connection:
            connection.execute(delete(schema.idempotency).where(self._is_mine(caller, key)))

    def _is_mine(self, caller: Caller, key: str) -> ColumnElement[bool]:
        column = schema.idempotency.c
        return and_(_is(caller, key), column.status == _RESERVED, column.answer == self._holder)

    def _is_abandoned(self, row: Row[Any]) -> bool:
        if row.status != _RESERVED:
            return False
        holder = json.loads(row.answer)
        reserved_at = row.created_at.replace(tzinfo=UTC).timestamp()
        return is_free(holder["host"], holder["pid"], holder["started"], reserved_at, time.time())


def _is(caller: Caller, key: str) -> ColumnElement[bool]:
    column = schema.idempotency.c
    return and_(column.caller == caller.identity, column.key == key)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
