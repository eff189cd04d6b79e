"""Checks that databases can store the texts and values of a request."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator

_DEEPEST = 20


def is_storable(text: str) -> bool:
    """Whether every database accepts the text: no NUL and no unpaired surrogate."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def require_storable(value: Any, depth: int = 0) -> Any:
    """Return the value; raises ValueError for unstorable text, non-finite numbers and deep
    nesting."""
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    if isinstance(value, str):
        if not is_storable(value):
            raise ValueError("it contains a character that can't be stored")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("it contains a number that is not finite")
    elif isinstance(value, list | tuple):
        for item in value:
            require_storable(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            require_storable(name, depth + 1)
            require_storable(item, depth + 1)
    return value


Storable = AfterValidator(require_storable)
StorableText = Annotated[str, Storable]
