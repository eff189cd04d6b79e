"""Turns texts and facts into values that every database stores and JSON can show."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from regard.core.facts import Capture, PhotoFacts

_LARGEST = {"rating": 2**15 - 1, "utc_offset_minutes": 2**31 - 1, "iso": 2**63 - 1}
_MOST = sys.float_info.max


def storable_text(text: str) -> str:
    """The text without NUL and unpaired surrogates, which databases reject."""
    return (
        text.encode("utf-8", errors="replace")
        .decode("utf-8")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def storable_facts(facts: PhotoFacts) -> PhotoFacts:
    """Facts without numbers that are not finite or too large, and with storable texts."""
    values = _storable_fields(facts)
    if (values["latitude"], values["longitude"]) != (facts.latitude, facts.longitude):
        # Half a place is none.
        values["latitude"] = values["longitude"] = None
    # Different keywords may have become equal.
    values["keywords"] = tuple(dict.fromkeys(map(storable_text, facts.keywords)))
    values["capture"] = Capture(**_storable_fields(facts.capture))
    return PhotoFacts(**values)


def _storable_fields(record: PhotoFacts | Capture) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = storable_text(value)
        # Written so that NaN fails too.
        elif isinstance(value, int | float) and not abs(value) <= _LARGEST.get(name, _MOST):
            values[name] = None
    return values
