"""Responses by idempotency key, so that a repeated request is not carried out twice.

`recall` reserves the key in its own transaction before the work begins; a repetition waits for the
first response. A reservation names its process: once that is gone (on another host: after a
minute), the next request takes the reservation over. Responses are kept for a day.
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
# The status of a reservation; its `answer` names the process that works on it.
_RESERVED = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored response: HTTP status, 100 or more, and body as text."""

    status: int
    body: str


class SqlIdempotency:
    """The responses of one catalog; safe to use from several threads and processes.

    After `recall` returned None the caller does the work, then calls `remember`, or `forget` if it
    failed.
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
        """The response to an earlier, equal request; None if the caller must do the work now.

        Blocks while the first request is running. `request_sha256` (hex) is a digest of method,
        path and body. Raises UsageError for a key that is not 1 to 255 printable ASCII characters,
        KeyReused if another request used it, KeyInUse if the first one is still running after
        `wait_seconds`.
        """
        if not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
            raise UsageError(
                f"an idempotency key has 1 to {_LONGEST_KEY} printable ASCII characters",
                remedy="use a random UUID",
            )
        deadline = time.monotonic() + wait_seconds
        while True:
            with self._database.writing() as connection:
                # Otherwise two requests that find no row would both insert one.
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
                    "this idempotency key was used for another request",
                    remedy="use a new key for a new request",
                )
            if row.status != _RESERVED:
                return Answer(row.status, row.answer)
            if time.monotonic() >= deadline:
                raise KeyInUse(
                    "the first request with this idempotency key is still running",
                    remedy="ask again a little later",
                )
            time.sleep(_POLL_SECONDS)

    def remember(self, caller: Caller, key: str, answer: Answer) -> None:
        """Store the response to a request for which `recall` returned None.

        Does nothing if another process has taken the reservation over.
        """
        with self._database.writing() as connection:
            connection.execute(
                update(schema.idempotency)
                .where(self._is_mine(caller, key))
                .values(status=answer.status, answer=answer.body)
            )

    def forget(self, caller: Caller, key: str) -> None:
        """Drop the reservation because the work failed, so that the request can be repeated."""
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
