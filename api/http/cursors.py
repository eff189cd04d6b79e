"""Cursors: where a list goes on, as an opaque string.

A cursor carries the values that the next page begins after, and what kind of list it belongs to; it is no
secret and promises nothing: a forged one gives an error or a page, never more than its caller may see.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from regard.api.http.storable import is_storable
from regard.core.errors import UsageError


def write_cursor(kind: str, *values: Any) -> str:
    """An opaque string for plain JSON values."""
    text = json.dumps([kind, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, kind: str, types: Sequence[type]) -> list[Any]:
    """The values again; raises UsageError for a cursor of another list, or none at all."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != len(types) + 1
        or found[0] != kind
        or not all(type(value) is wanted for value, wanted in zip(found[1:], types, strict=True))
    ):
        raise UsageError("the cursor is not one of this list", remedy="leave it out to begin anew")
    if not all(
        is_storable(value) if isinstance(value, str) else -1 <= value < 1 << 63
        for value in found[1:]
    ):
        raise UsageError("the cursor is not one of this list", remedy="leave it out to begin anew")
    return found[1:]
