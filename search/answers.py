"""Queries and answers of the search engine, and the public ids of what they name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from regard.core.assets import Asset, StoredRegion
from regard.core.errors import UnanswerableQuery, UsageError
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.geometry import Box
from regard.core.records import Image, Region, Target
from regard.core.relevance import RelevanceSource

_IDENTIFIER = re.compile(r"([ar])([1-9][0-9]{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A stored asset, or with `is_region` a stored region."""

    id: int
    is_region: bool


def asset_identifier(number: int) -> str:
    """The public id of an asset."""
    return f"a{number}"


def region_identifier(number: int) -> str:
    """The public id of a region."""
    return f"r{number}"


def parse_identifier(text: str) -> Reference:
    """Parse a public id; raises UsageError."""
    match = _IDENTIFIER.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not the id of an asset or a region",
            remedy="take an id from the hits of: regard search --json",
        )
    return Reference(int(match.group(2)), match.group(1) == "r")


class Order(StrEnum):
    """The order of hits: the most relevant first, or by the date of the photograph."""

    RELEVANCE = "relevance"
    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True)
class Scope:
    """What to search and how many hits to return.

    The first `offset` hits are skipped, and ranks count them. `min_relevance` decides whether the
    answer counts as a match, without changing its hits; None uses the profile's cut-off. An `exact`
    search compares the query with every vector; otherwise large indexes may miss a few. Hits
    of the first `refined_ranks` get the region that the query's text names (`search/refining.py`).
    By date, `order` puts the hits that are more likely right than not, or have `min_relevance`;
    lists are always by date, newest first unless `order` is OLDEST. With `fold_stacks`, of each
    stack and of the moments of each video only the best hit counts, and in a list what stands for
    the stack; None folds all but lists. What a filter by stack finds is never folded.
    """

    target: Target = Target.IMAGE
    limit: int = 10
    filter: AssetFilter = EVERYTHING
    offset: int = 0
    min_relevance: float | None = None
    exact: bool = False
    refined_ranks: int = 0
    order: Order = Order.RELEVANCE
    fold_stacks: bool | None = None

    def folds(self, *, is_list: bool = False) -> bool:
        """Whether a stack counts once in the answer."""
        wanted = not is_list if self.fold_stacks is None else self.fold_stacks
        return wanted and not self.filter.names_stack

    def __post_init__(self) -> None:
        if self.min_relevance is not None and not 0 <= self.min_relevance <= 1:
            raise UsageError(
                f"the relevance {self.min_relevance} is not between 0 and 1",
                remedy="give --min-relevance a number from 0 to 1",
            )
        if self.limit < 1:
            raise UsageError("the limit is less than 1", remedy="give --limit a number from 1")
        if self.offset < 0:
            raise UsageError("the offset is less than 0", remedy="give a number from 0")


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A sentence or a few words; the keyword index searches for a `phrase` exactly as written."""

    text: str
    phrase: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UnanswerableQuery("the query is empty", remedy='run: regard search "a red bus"')


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """A picture, or the part of it inside `box`; `name` identifies it in the answer.

    Raises UnanswerableQuery if the box lies outside the picture.
    """

    image: Image
    name: str
    box: Box | None = None

    def __post_init__(self) -> None:
        if self.box is not None and self.box.clipped(self.image.width, self.image.height) is None:
            raise UnanswerableQuery(
                f"the box lies outside the picture of {self.image.width}×{self.image.height} pixels",
                remedy="give x, y, width and height in pixels, measured from the top left",
            )


@dataclass(frozen=True, slots=True)
class LikeQuery:
    """A stored asset or region to find similar ones to."""

    reference: Reference


PlainQuery = TextQuery | ImageQuery | LikeQuery


@dataclass(frozen=True, slots=True)
class Term:
    """A weighted part of a composed query; a `negative` one lowers the scores of its matches.

    An `alternative` may be found in place of the term before it.
    """

    query: PlainQuery
    weight: float = 1.0
    negative: bool = False
    alternative: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UsageError(
                f"the weight {self.weight} is not a number above 0",
                remedy="give a positive weight, or remove the term",
            )


@dataclass(frozen=True, slots=True)
class ComposedQuery:
    """Several terms that are searched together, at least one of them positive."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if all(term.negative for term in self.terms):
            raise UnanswerableQuery(
                "the query has only negative terms", remedy="add a term to look for"
            )


@dataclass(frozen=True, slots=True)
class ListQuery:
    """No terms: every photograph that passes the filter, newest first."""


@dataclass(frozen=True, slots=True)
class AlternativeQueries:
    """Queries; a hit answers at least one of them."""

    queries: tuple[PlainQuery | ComposedQuery, ...]


Query = PlainQuery | ComposedQuery | AlternativeQueries | ListQuery


@dataclass(frozen=True, slots=True)
class WordMatch:
    """A word or quoted phrase of the query, and the field of the photograph that has it."""

    text: str
    field: str


@dataclass(frozen=True, slots=True)
class ChannelMatch:
    """A channel that found the hit: the rank and score there, and its part of the hit's score.

    The parts of a hit's channels add up to its score. The keyword index has `words` and no `space`;
    words that were read in the picture are a channel of their own, `text`.
    """

    kind: str
    rank: int
    score: float
    contribution: float
    space: str | None = None
    words: tuple[WordMatch, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        match = {
            "kind": self.kind,
            "rank": self.rank,
            "score": round(self.score, 6),
            "contribution": round(self.contribution, 6),
        }
        if self.space is None:
            # `asdict` takes ten times as long.
            words = [{"text": word.text, "field": word.field} for word in self.words]
            return {**match, "words": words}
        return {"space": self.space, **match}


@dataclass(frozen=True, slots=True)
class Hit:
    """An asset, perhaps a region of it, and why it matched.

    `relevance` is the probability that the hit is right, or None if unknown; `evidence` is what it
    was derived from, or None in a list. `refined` is what the query's text names, found in the
    photograph itself, in place of `region`.
    """

    rank: int
    score: float
    asset: Asset
    region: StoredRegion | None
    channels: tuple[ChannelMatch, ...]
    relevance: float | None = None
    evidence: Mapping[str, float] | None = None
    refined: Region | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """An assessment of the whole answer, independent of the page.

    `presence` is the probability that anything right exists, derived from `evidence`, or None if
    unknown. `is_match` says that it reaches the calibration's cut-off, that one of the first hits is
    almost surely right, or that names or tags given by people match the query. `best_relevance` is
    the highest among the first hits, None if unknown.
    """

    evidence: Mapping[str, float]
    presence: float | None = None
    is_match: bool = True
    best_relevance: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query, best first; `took_ms` in milliseconds.

    `unknown_words` are those of the query's texts that the models cannot read; if they can read
    nothing of it, hits come from the keyword index alone. `relevance_source` is None where
    relevance is unknown.
    """

    query: Query
    target: Target
    took_ms: float
    hits: tuple[Hit, ...]
    judgement: Judgement | None = None
    min_relevance: float | None = None
    unknown_words: tuple[str, ...] = ()
    relevance_source: RelevanceSource | None = None

    @property
    def matched(self) -> bool:
        """Whether anything matches; there may be hits even if not.

        Decided by the profile's cut-off or, with `min_relevance`, by the best of the first hits.
        If relevance is unknown, any hit is a match.
        """
        if not self.hits or self.judgement is None:
            return bool(self.hits)
        if self.min_relevance is None or self.judgement.best_relevance is None:
            return self.judgement.is_match
        return self.judgement.best_relevance >= self.min_relevance


def query_json(query: Query) -> dict[str, Any]:
    """The documented JSON form of a query."""
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
        case AlternativeQueries(queries):
            return {"any_of": [query_json(one) for one in queries]}
        case ListQuery():
            return {}


def _terms_json(terms: Sequence[Term]) -> dict[str, Any]:
    """The fields of all terms with their weights; a list where several terms are of one kind."""
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
