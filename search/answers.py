"""Queries and their answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regard.core.assets import Asset, StoredRegion
from regard.core.catalog import WordField
from regard.core.errors import UnanswerableQuery, UsageError
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.geometry import Box
from regard.core.records import Channel, Image, Target
from regard.search.identifiers import Reference, asset_identifier, region_identifier


@dataclass(frozen=True, slots=True)
class Scope:
    """What is searched for and where: parameters that travel with each call.

    `offset` hits are left out at the beginning, and ranks go on after them. `min_relevance` is for whether
    an answer counts as a match, which leaves its hits as they are; None takes the profile's cut-off.
    """

    target: Target = Target.IMAGE
    limit: int = 10
    filter: AssetFilter = EVERYTHING
    offset: int = 0
    min_relevance: float | None = None

    def __post_init__(self) -> None:
        if self.min_relevance is not None and not 0 <= self.min_relevance <= 1:
            raise UsageError(
                f"the relevance {self.min_relevance} lies outside 0 to 1",
                remedy="give --min-relevance a number from 0 to 1",
            )
        if self.limit < 1:
            raise UsageError("the limit is less than 1", remedy="give --limit a number from 1 up")
        if self.offset < 0:
            raise UsageError("the offset is less than 0", remedy="give a number from 0 up")


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A sentence or a few words; the keyword index looks for those of a `phrase` as they stand."""

    text: str
    phrase: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UnanswerableQuery("the query is empty", remedy='run: regard search "a red bus"')


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """A picture, or the part of it inside `box`; `name` is how the answer calls it.

    Raises UnanswerableQuery when nothing of the picture is inside.
    """

    image: Image
    name: str
    box: Box | None = None

    def __post_init__(self) -> None:
        if self.box is not None and self.box.clipped(self.image.width, self.image.height) is None:
            raise UnanswerableQuery(
                f"the box lies outside the picture of {self.image.width}×{self.image.height} pixels",
                remedy="give a box of x, y, width, height in pixels from the top left",
            )


@dataclass(frozen=True, slots=True)
class LikeQuery:
    """A stored asset or region: find what looks like it."""

    reference: Reference


PlainQuery = TextQuery | ImageQuery | LikeQuery


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a composed query: how much it counts, and whether it says what is not wanted."""

    query: PlainQuery
    weight: float = 1.0
    negative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UsageError(
                f"the weight {self.weight} is no number above 0",
                remedy="leave the term out instead",
            )


@dataclass(frozen=True, slots=True)
class ComposedQuery:
    """Several terms that are looked for together; at least one of them says what is wanted."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if all(term.negative for term in self.terms):
            raise UnanswerableQuery(
                "the query says only what is not wanted", remedy="add what is looked for"
            )


@dataclass(frozen=True, slots=True)
class ListQuery:
    """No term at all: every photograph that passes the filter, newest first."""


Query = PlainQuery | ComposedQuery | ListQuery


@dataclass(frozen=True, slots=True)
class WordMatch:
    """A word or phrase of the query, and where the hit has it."""

    text: str
    field: WordField


@dataclass(frozen=True, slots=True)
class ChannelMatch:
    """Where a channel ranked the hit, its score there, and its part of the hit's fused score.

    The contributions of a hit's channels add up to its score. `words`: what the keyword index found.
    """

    channel: Channel
    rank: int
    score: float
    contribution: float
    words: tuple[WordMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: an asset, perhaps a region of it, and why it matched.

    `relevance`: the probability that it is right, None where that can't be told; `evidence`: what it was
    judged by, None where nothing was judged.
    """

    rank: int
    score: float
    asset: Asset
    region: StoredRegion | None
    channels: tuple[ChannelMatch, ...]
    relevance: float | None = None
    evidence: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of an answer as a whole, whichever of its hits are shown.

    `presence`: the probability that anything right is there, None where that can't be told; `found`:
    whether it reaches the profile's cut-off, or names and tags that people gave say what was asked.
    `best`: the highest relevance among the first hits, where the call has a `min_relevance`. `evidence`:
    what presence was judged by.
    """

    evidence: Mapping[str, float]
    presence: float | None = None
    found: bool = True
    best: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query, best first; `took_ms` in milliseconds."""

    query: Query
    target: Target
    took_ms: float
    hits: tuple[Hit, ...]
    judgement: Judgement | None = None
    min_relevance: float | None = None

    @property
    def matched(self) -> bool:
        """Whether anything matches; hits are there whether or not.

        By the profile's cut-off, or where `min_relevance` was given by whether one of the first hits is
        that relevant. Where relevance can't be told any hit is a match.
        """
        if not self.hits or self.judgement is None:
            return bool(self.hits)
        if self.min_relevance is None or self.judgement.best is None:
            return self.judgement.found
        return self.judgement.best >= self.min_relevance


def query_json(query: Query) -> dict[str, Any]:
    """What an answer says of its query."""
    match query:
        case TextQuery(text):
            return {"text": text}
        case ImageQuery(_, name, box):
            return {"image": name, **({} if box is None else {"box": box.to_list()})}
        case LikeQuery(reference):
            make = region_identifier if reference.is_region else asset_identifier
            return {"like": make(reference.id)}
        case ComposedQuery(terms):
            return _terms_json(terms)
        case ListQuery():
            return {}


def _terms_json(terms: Sequence[Term]) -> dict[str, Any]:
    """As the plain ones side by side, with all weights; a list where several terms are of one kind."""
    values: dict[str, list[Any]] = {}
    weights: dict[str, list[float]] = {}
    for term in terms:
        prefix = "negative_" if term.negative else ""
        fields = query_json(term.query)
        for name, value in fields.items():
            values.setdefault(prefix + name, []).append(value)
        weights.setdefault(prefix + next(iter(fields)), []).append(term.weight)
    return {**_singly(values), "weights": _singly(weights)}


def _singly(lists: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {name: items[0] if len(items) == 1 else items for name, items in lists.items()}
