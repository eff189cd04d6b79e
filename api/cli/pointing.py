"""Shows the place in a query where something is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from regard.api.cli.app import printable
from regard.core.errors import MalformedQuery

# How much of a long query is shown before and after the place, in characters.
_AROUND = 60


@contextlib.contextmanager
def pointing_into(query: str) -> Iterator[None]:
    """Add two lines that show the place to the block's errors about a place in `query`."""
    try:
        yield
    except MalformedQuery as error:
        error.add_note(pointed(query, error.position, error.length))
        raise


def pointed(query: str, position: int, length: int) -> str:
    """Two lines: the query, or what surrounds the place, and marks below the place."""
    from rich.cells import cell_len

    begin = max(0, position - _AROUND)
    end = min(len(query), position + length + _AROUND)
    before = ("…" if begin else "") + printable(query[begin:position])
    marked = printable(query[position : position + length][:_AROUND])
    after = printable(query[position + length : end]) + ("…" if end < len(query) else "")
    marks = " " * cell_len(before) + "^" * max(1, cell_len(marked))
    return f"  {before}{marked}{after}\n  {marks}"
