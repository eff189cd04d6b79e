"""Request models of `/v1/search`: the JSON body, the query parameters and their OpenAPI form."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regard.api.http.filters import JsonFilters
from regard.core.records import Target
from regard.search.answers import Order
from regard.search.language.syntax import MAX_LENGTH, MAX_PICTURE_TERMS, MAX_TERMS, MAX_WEIGHT

HITS = 20
MAX_HITS = 500
_MAX_SIDE = 1 << 30

Facet = Literal[
    "camera", "lens", "month", "country", "city", "rating", "format", "collection", "tags"
]
FACETS_HINT = f"Facets to count, separated by commas: {', '.join(get_args(Facet))}."
Text = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]
# Longer ones are malformed, which the parser says; its problem has the place.
QueryText = Annotated[str, Field(min_length=1, json_schema_extra={"maxLength": MAX_LENGTH})]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
Side = Annotated[int, Field(ge=0, le=_MAX_SIDE)]
Sides = tuple[Side, Side, Side, Side]
MinRelevance = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        description="`matched` says whether one of the first hits is this relevant. "
        "The hits themselves do not change.",
    ),
]

Exact = Annotated[
    bool,
    Field(
        description="Compare with every photograph, so that none is missed; "
        "slower in large libraries."
    ),
]


Refine = Annotated[
    bool,
    Field(
        description="Look in the photographs of the first 20 hits for what the text names: "
        "`refined` of each hit. This takes a moment for each hit; ask for a few at once."
    ),
]

FoldStacks = Annotated[
    bool | None,
    Field(
        description="Whether each stack is one hit, and counts once in facets. "
        "Default: true, but false for a query of filters alone."
    ),
]

Sort = Annotated[
    Order,
    Field(
        description="`newest` and `oldest` put the hits that are likely right by date, out of the "
        "500 most relevant ones."
    ),
]


class TermRequest(BaseModel):
    """One of `text`, `image` and `like`: what to look for or, with `negative`, what to avoid."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = Field(default=None, description="Plain text.")
    image: int | None = Field(
        default=None,
        ge=1,
        le=MAX_PICTURE_TERMS,
        description="Number of a picture of this request, from 1.",
    )
    box: Sides | None = Field(
        default=None, description="A part of the picture: x, y, width, height in pixels."
    )
    like: str | None = Field(
        default=None, max_length=40, description="Id of an asset or a region.", examples=["r92"]
    )
    weight: Weight | None = Field(
        default=None, description="Default: 1, or 0.5 for a negative term."
    )
    negative: bool = False

    @model_validator(mode="after")
    def _is_one(self) -> TermRequest:
        if sum(value is not None for value in (self.text, self.image, self.like)) != 1:
            raise ValueError("give exactly one of text, image and like")
        if self.box is not None and self.image is None:
            raise ValueError("a box needs an image")
        return self


class SearchRequest(BaseModel):
    """What to look for: a query in the query language, a list of terms, or both together."""

    model_config = ConfigDict(extra="forbid")

    query: QueryText | None = Field(
        default=None,
        description="In the query language; see docs/query-language.md.",
        examples=['"red bus" -night taken:2024'],
    )
    terms: list[TermRequest] = Field(default=[], max_length=MAX_TERMS)
    target: Target = Target.IMAGE
    filters: JsonFilters = JsonFilters()
    limit: int = Field(default=HITS, ge=1, le=MAX_HITS)
    cursor: str | None = Field(default=None, max_length=2000)
    facets: list[Facet] = []
    min_relevance: MinRelevance = None
    exact: Exact = False
    refine: Refine = False
    sort: Sort = Order.RELEVANCE
    fold_stacks: FoldStacks = None


class QuerySearch(JsonFilters):
    """The parameters of `GET /v1/search`."""

    q: QueryText = Field(
        description="In the query language; see docs/query-language.md.", examples=["a red bus"]
    )
    without: Text | None = Field(
        default=None, alias="not", description="Plain text that hits should not match."
    )
    target: Target = Target.IMAGE
    limit: int = Field(default=HITS, ge=1, le=MAX_HITS)
    cursor: str | None = Field(
        default=None, max_length=2000, description="`next` of the previous page."
    )
    facets: str | None = Field(
        default=None,
        max_length=100,
        description=FACETS_HINT,
    )
    min_relevance: MinRelevance = None
    exact: Exact = False
    refine: Refine = False
    sort: Sort = Order.RELEVANCE
    fold_stacks: FoldStacks = None

    def to_request(self) -> SearchRequest:
        """The same query as the body of `POST /v1/search`; its filters travel separately."""
        negative = [] if self.without is None else [TermRequest(text=self.without, negative=True)]
        return SearchRequest(query=self.q, terms=negative)


SEARCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SearchRequest"},
                "examples": {
                    "query": {"value": {"query": '"red bus" -night taken:2024'}},
                    "terms": {
                        "value": {
                            "terms": [
                                {"text": "a red bus"},
                                {"text": "night", "negative": True, "weight": 0.7},
                            ]
                        }
                    },
                    "like": {"value": {"terms": [{"like": "r92"}], "target": "region"}},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "query"],
                    "properties": {
                        "image": {
                            "type": "array",
                            "maxItems": MAX_PICTURE_TERMS,
                            "items": {"type": "string", "format": "binary"},
                            "description": "Pictures; terms name them by number, from 1.",
                        },
                        "query": {
                            "type": "string",
                            "description": "The JSON body, a SearchRequest, as text.",
                            "examples": ['{"terms": [{"image": 1, "box": [0, 0, 64, 64]}]}'],
                        },
                    },
                }
            },
        },
    }
}
