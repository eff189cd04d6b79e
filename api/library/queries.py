"""From a call's arguments to a written query, the same for a home and a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regard.api.library.results import Asset, Hit, Region
from regard.core.errors import NotFound, UnanswerableQuery, UsageError
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.geometry import Box
from regard.core.records import Target
from regard.core.words import composed
from regard.photos.files import absolute_path, uri_of_path
from regard.search.answers import Order, Scope, parse_identifier
from regard.search.language.parsing import parse_query
from regard.search.language.printing import describe_query
from regard.search.language.syntax import WrittenPicture, WrittenQuery, WrittenTerm
from regard.search.refining import MOST_REFINED

DEFAULT_COLLECTION = "default"
MAX_SUGGESTIONS = 50


def require_name(collection: str, what: str = "collection") -> str:
    """The name of a collection or an album, letters composed.

    Raises UsageError for one that is blank or not UTF-8.
    """
    if not collection.strip():
        raise UsageError(f"the {what}'s name is empty", remedy=f"name the {what}")
    return composed(require_text(collection, f"{what}'s name"))


def require_text(text: str, what: str = "query") -> str:
    """The text; raises UsageError for what is not UTF-8."""
    if not is_text(text):
        raise UsageError(f"the {what} is not text", remedy="give it in UTF-8")
    return text


def is_text(argument: str) -> bool:
    """Whether a command-line argument was valid UTF-8; other bytes cannot be stored or encoded."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


@dataclass(frozen=True, slots=True)
class WrittenSearch:
    """A query whose pictures are named by files on this machine, and its own text, if any.

    `described` is what an answer says of the text besides the terms: `query` and `parts`.
    """

    query: WrittenQuery
    text: str | None
    described: dict[str, Any]


def scope_of(
    target: str,
    limit: int,
    collection: str | None,
    min_relevance: float | None,
    exact: bool,
    refine: bool,
    sort: str,
    fold_stacks: bool | None,
) -> Scope:
    """The scope of a search; raises UsageError."""
    if target not in set(Target):
        raise UsageError(f"{target!r} is not a target", remedy='use "image" or "region"')
    if sort not in set(Order):
        raise UsageError(f"{sort!r} is not an order", remedy=f"use one of {', '.join(Order)}")
    assets = collection_filter(collection)
    return Scope(
        Target(target),
        limit,
        assets,
        min_relevance=min_relevance,
        exact=exact,
        refined_ranks=MOST_REFINED if refine else 0,
        order=Order(sort),
        fold_stacks=fold_stacks,
    )


def collection_filter(collection: str | None) -> AssetFilter:
    """The assets of one collection, None for all; raises UsageError for what is not a name."""
    if collection is None:
        return EVERYTHING
    return AssetFilter(collections=(require_name(collection),))


def filters_alone(text: str | None) -> WrittenQuery:
    """A query that only filters, None for no filter; raises UsageError."""
    if text is None:
        return WrittenQuery()
    written = parse_query(require_text(text))
    if written.terms or not written.conditions:
        raise UsageError(
            "only filters choose photographs here",
            remedy="give filters such as tag:lake, or save a search as an album: album:NAME",
        )
    return written


def suggestion_limit(limit: int) -> int:
    """The number of suggestions; raises UsageError."""
    if not 1 <= limit <= MAX_SUGGESTIONS:
        raise UsageError(f"the limit must be 1 to {MAX_SUGGESTIONS}")
    return limit


def star_rating(rating: int) -> int:
    """0 to 5 stars; raises UsageError for another number."""
    if not 0 <= rating <= 5:
        raise UsageError(f"{rating} is not a rating", remedy="give 1 to 5 stars, or 0 for none")
    return rating


def longest_side(longest: int) -> int:
    """The longer side of a picture in pixels; raises UsageError."""
    if longest < 1:
        raise UsageError("longest must be at least 1 pixel")
    return longest


def write_search(
    text: str | None,
    image: str | bytes | os.PathLike[str] | None,
    box: Sequence[int] | None,
    like: str | Hit | Asset | Region | None,
    target: Target,
) -> WrittenSearch:
    """All that is searched for as one query; raises UsageError."""
    if text is None and image is None and like is None:
        raise UsageError(
            "the query is empty", remedy="give a text, an image or something to look like"
        )
    if box is not None and image is None:
        raise UsageError("a box needs a picture", remedy="give the image that it is a part of")
    parsed = WrittenQuery()
    described: dict[str, Any] = {}
    if text is not None:
        if not text.strip():
            raise UnanswerableQuery("the query is empty", remedy='run: regard search "a red bus"')
        parsed = parse_query(require_text(text))
        described = describe_query(parsed, text)
    terms = list(parsed.terms)
    if image is not None:
        if not os.fspath(image):
            raise UsageError("the image is not named", remedy="give --image a photograph")
        name = os.fsdecode(os.path.expanduser(image))
        terms.append(WrittenTerm(WrittenPicture(name, None if box is None else _box(box))))
    if like is not None:
        terms.append(WrittenTerm(parse_identifier(_identifier(like, target))))
    return WrittenSearch(WrittenQuery(tuple(terms), parsed.conditions), text, described)


def picture_uri(name: str) -> str:
    """What an answer calls a picture of this machine; raises NotFound when there is none."""
    path = os.fsencode(name)
    uri = uri_of_path(absolute_path(path))
    if not os.path.exists(path):
        raise NotFound(f"there is no file {uri}", remedy="give --image or image: a photograph")
    return uri


def _box(sides: Sequence[int]) -> Box:
    if len(sides) != 4 or not all(isinstance(side, int) for side in sides):
        raise UsageError(
            f"{sides!r} is not a box", remedy="give x, y, width, height in whole pixels"
        )
    box = Box(*sides)
    if box.width < 1 or box.height < 1:
        raise UsageError("the box is empty", remedy="give it a width and a height of at least 1")
    return box


def _identifier(like: str | Hit | Asset | Region, target: Target) -> str:
    if isinstance(like, Hit):
        wants_region = target is Target.REGION and like.region is not None
        return like.region.id if wants_region and like.region else like.asset.id
    return like if isinstance(like, str) else like.id
