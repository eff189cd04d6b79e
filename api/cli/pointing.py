"""Where in a query something is wrong, shown below it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from regard.api.cli.app import printable
from regard.core.errors import MalformedQuery

# Of a long query, as much is shown before and after the place.
_AROUND = 60


@contextlib.contextmanager
def pointing_into(query: str) -> Iterator[None]:
    """Add to errors of the block that are about a place in `query` the lines that show it."""
    try:
        yield
    except MalformedQuery as error:
        error.add_note(pointed(query, error.position, error.length))
        raise


def pointed(query: str, position: int, length: int) -> str:
    """Two lines: the query, or what is around the place, and marks below it."""
    from rich.cells import cell_len

    begin = max(0, position - _AROUND)
    end = min(len(query), position + length + _AROUND)
    before = ("…" if begin else "") + printable(query[begin:position])
    marked = printable(query[position : position + length][:_AROUND])
    after = printable(query[position + length : end]) + ("…" if end < len(query) else "")
    marks = " " * cell_len(before) + "^" * max(1, cell_len(marked))
    return f"  {before}{marked}{after}\n  {marks}"
