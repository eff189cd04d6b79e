"""Turns texts and facts into values that every database stores and JSON can show."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from regard.core.facts import PhotoFacts

_LARGEST = {"rating": 2**15 - 1, "utc_offset_minutes": 2**31 - 1, "iso": 2**63 - 1}


def storable_text(text: str) -> str:
    """The text without NUL and unpaired surrogates, which databases reject."""
    return (
        text.encode("utf-8", errors="replace")
        .decode("utf-8")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def storable_facts(facts: PhotoFacts) -> PhotoFacts:
    """Facts without numbers that are not finite or too large, and with storable texts."""
    values = {name: _storable(name, value) for name, value in _fields(facts)}
    if (values["latitude"], values["longitude"]) != (facts.latitude, facts.longitude):
        # Half a place is none.
        values["latitude"] = values["longitude"] = None
    capture = {name: _storable(name, value) for name, value in _fields(facts.capture)}
    # Different keywords may have become equal.
    keywords = tuple(dict.fromkeys(map(storable_text, facts.keywords)))
    values |= {"keywords": keywords, "capture": type(facts.capture)(**capture)}
    return PhotoFacts(**values)


def _fields(record: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]


def _storable(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if name in _LARGEST and value is not None and abs(value) > _LARGEST[name]:
        return None
    return value
