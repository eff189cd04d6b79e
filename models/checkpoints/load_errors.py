"""Turns what libraries raise over a checkpoint's files into errors for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regard.core.errors import ModelError, RegardError

# Some libraries quote whole configs in their messages.
_LONGEST_REASON = 300


def guarded(load: Callable[[], Any], where: str) -> Any:
    """Run a library's loader; turn any exception into a ModelError that names `where`.

    Faults in a checkpoint's files make libraries raise arbitrary exceptions.
    """
    try:
        return load()
    except RegardError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        first = words.partition(". ")[0][:_LONGEST_REASON]
        raise ModelError(f"{where} can't be loaded: {first}") from error
