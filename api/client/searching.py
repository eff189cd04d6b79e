"""Composes the request of a search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from regard.api.client.connection import Call
from regard.api.client.filters import Filters
from regard.api.client.forms import Source, form

Target = Literal["image", "region"]
Sort = Literal["relevance", "newest", "oldest"]
Facet = Literal[
    "camera", "lens", "month", "country", "city", "rating", "format", "collection", "tags"
]


class SearchTerm(TypedDict, total=False):
    """One of `text`, `image` (the number of one of `images`, from 1) and `like` (an id).

    `box` is a part of the picture: x, y, width, height in pixels. `weight` defaults to 1, or to
    0.5 with `negative`, which marks what hits should not match.
    """

    text: str
    image: int
    box: Sequence[int]
    like: str
    weight: float
    negative: bool


class SearchOptions(TypedDict, total=False):
    """What to search for besides the text, and where.

    `query` is in the query language. It and `terms` name `images` by their numbers, from 1.
    `refine` may take the server seconds for each hit: ask for few at once. `fold_stacks` of None
    shows each stack once, except in a query of filters alone.
    """

    query: str | None
    terms: Sequence[SearchTerm]
    images: Sequence[Source]
    filters: Filters | None
    target: Target | None
    min_relevance: float | None
    exact: bool
    refine: bool
    sort: Sort | None
    fold_stacks: bool | None


def search_call(
    text: str | None,
    options: SearchOptions,
    *,
    limit: int | None,
    cursor: str | None,
    facets: Sequence[Facet],
) -> Call:
    """The request: JSON, or a form when it sends pictures. `text` becomes the first term."""
    filters, images = options.get("filters"), options.get("images", ())
    terms: list[SearchTerm] = [] if text is None else [{"text": text}]
    terms += options.get("terms", ())
    given: dict[str, Any] = {
        "query": options.get("query"),
        "terms": terms or None,
        "target": options.get("target"),
        "filters": None if filters is None else filters.to_json(),
        "limit": limit,
        "cursor": cursor,
        "facets": list(facets) or None,
        "min_relevance": options.get("min_relevance"),
        "exact": options.get("exact") or None,
        "refine": options.get("refine") or None,
        "sort": options.get("sort"),
        "fold_stacks": options.get("fold_stacks"),
    }
    document = {name: value for name, value in given.items() if value is not None}
    if not images:
        return Call("POST", "/v1/search", json=document, repeatable=True)
    parts = form("image", images, [("query", json.dumps(document))])
    return Call("POST", "/v1/search", parts=parts, repeatable=True)
