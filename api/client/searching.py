"""What a search asks for, as a call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from regard.api.client.connection import Call
from regard.api.client.filters import Filters
from regard.api.client.forms import Source, form

Target = Literal["image", "region"]
Facet = Literal["camera", "month", "tags", "collection"]


class Weights(TypedDict, total=False):
    """How much each term counts; 1, and 0.5 for the negative text, where nothing is said."""

    text: float
    negative_text: float
    image: float
    like: float


class SearchTerm(TypedDict, total=False):
    """One of text, image (a number from 1 among `images`) and like; what else is left out is as usual."""

    text: str
    image: int
    box: Sequence[int]
    like: str
    weight: float
    negative: bool


class Terms(TypedDict, total=False):
    """What is looked for besides the text, and where.

    `query` is in the query language; it and `terms` name `images` by their numbers, from 1.
    """

    query: str | None
    terms: Sequence[SearchTerm]
    images: Sequence[Source]
    negative_text: str | None
    image: Source | None
    box: Sequence[int] | None
    like: str | None
    weights: Weights | None
    filters: Filters | None
    target: Target | None
    min_relevance: float | None


def search_call(
    text: str | None,
    terms: Terms,
    *,
    limit: int | None,
    cursor: str | None,
    facets: Sequence[Facet],
) -> Call:
    """The call of a search, as JSON, or as a form where a picture goes with it."""
    filters, box, image = terms.get("filters"), terms.get("box"), terms.get("image")
    images = [*terms.get("images", ()), *([] if image is None else [image])]
    given: dict[str, Any] = {
        "query": terms.get("query"),
        "text": text,
        "negative_text": terms.get("negative_text"),
        "like": terms.get("like"),
        "box": None if box is None else list(box),
        "weights": terms.get("weights"),
        "terms": list(terms.get("terms", ())) or None,
        "target": terms.get("target"),
        "filters": None if filters is None else filters.to_json(),
        "limit": limit,
        "cursor": cursor,
        "facets": list(facets) or None,
        "min_relevance": terms.get("min_relevance"),
    }
    document = {name: value for name, value in given.items() if value is not None}
    if not images:
        return Call("POST", "/v1/search", json=document, repeatable=True)
    parts = form("image", images, [("query", json.dumps(document))])
    return Call("POST", "/v1/search", parts=parts, repeatable=True)
