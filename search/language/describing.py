"""A written query as JSON, for whoever shows it: every part with its place in the text."""

from __future__ import annotations

from typing import Any

from regard.search.identifiers import Reference, asset_identifier, region_identifier
from regard.search.language.syntax import (
    Condition,
    WrittenPicture,
    WrittenQuery,
    WrittenTerm,
    WrittenText,
)


def describe_query(query: WrittenQuery, source: str) -> dict[str, Any]:
    """`query` and `parts`, the parts in their order in the text; nothing for a mere text."""
    if query.plain_text is not None:
        return {}
    parts: list[WrittenTerm | Condition] = [*query.terms, *query.conditions]
    parts.sort(key=lambda part: part.span.position)
    return {"query": source, "parts": [_described(part) for part in parts]}


def _described(part: WrittenTerm | Condition) -> dict[str, Any]:
    place = {"position": part.span.position, "length": part.span.length}
    if isinstance(part, Condition):
        name = f"custom.{part.name}" if part.name else part.field.value
        return {"field": name, "value": part.written, "negative": part.negative, **place}
    return {**_thing(part), "weight": part.weight, "negative": part.negative, **place}


def _thing(term: WrittenTerm) -> dict[str, Any]:
    match term.what:
        case WrittenText(text, quoted):
            return {"text": text, "phrase": quoted}
        case WrittenPicture(name, box):
            return {"image": name, **({} if box is None else {"box": box.to_list()})}
        case Reference(number, is_region):
            return {"like": (region_identifier if is_region else asset_identifier)(number)}
