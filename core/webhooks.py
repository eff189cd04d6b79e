"""Addresses that are told of changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that the log of assets is sent to, and how far it was sent.

    `secret` signs what is sent. `position` is the last position of the log that the address has
    accepted, `waiting` how many positions follow it. `failures` counts attempts in a row that
    failed, since `failing_since`, the last for the reason `failure`. Times are naive UTC.
    """

    id: int
    url: str
    secret: str = field(repr=False)
    position: int
    waiting: int
    created_at: datetime
    failures: int
    failing_since: datetime | None
    failure: str | None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON, without the secret."""
        return {
            "id": str(self.id),
            "url": self.url,
            "waiting": self.waiting,
            "created_at": _utc(self.created_at),
            "failures": self.failures,
            "failing_since": None if self.failing_since is None else _utc(self.failing_since),
            "failure": self.failure,
        }

    def __str__(self) -> str:
        state = f"{self.waiting} changes wait" if self.waiting else "nothing waits"
        if self.failing_since is not None:
            since = _utc(self.failing_since)
            state += f"; {self.failures} attempts failed since {since}: {self.failure}"
        return f"webhook {self.id} {self.url}: {state}"


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds") + "Z"
