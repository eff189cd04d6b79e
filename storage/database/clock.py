"""The catalog's clock."""

from __future__ import annotations

import datetime


def utc_now() -> datetime.datetime:
    """The time as the catalog keeps it: naive UTC."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
