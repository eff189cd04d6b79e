"""Cursors: the position in a list, as an opaque string.

A cursor holds the kind of list and the values of its page's last item. It is not a secret: a
forged cursor gives an error or a page, and never more than the caller may see.
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
    """Encode plain JSON values as an opaque string."""
    text = json.dumps([kind, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, kind: str, types: Sequence[type]) -> list[Any]:
    """Decode the values; raises UsageError for an invalid cursor or one of another kind of
    list."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(
            base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
        )
    except (binascii.Error, ValueError, RecursionError):
        content = None
    if not isinstance(content, list) or len(content) != len(types) + 1 or content[0] != kind:
        raise bad_cursor()
    values = content[1:]
    for value, expected in zip(values, types, strict=True):
        is_valid = is_storable(value) if isinstance(value, str) else _is_number(value)
        if type(value) is not expected or not is_valid:
            raise bad_cursor()
    return values


def bad_cursor() -> UsageError:
    """The error for a cursor that does not belong to the list."""
    return UsageError(
        "the cursor does not belong to this list", remedy="omit it to start at the beginning"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and -1 <= value < 1 << 63
