"""What a search may ask for: the bodies and parameters of `/v1/search`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regard.api.http.filters import JsonFilters
from regard.core.records import Target
from regard.search.language.syntax import (
    MAX_LENGTH,
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    MAX_WEIGHT,
    NEGATIVE_WEIGHT,
)

HITS = 20
MAX_HITS = 500
_MAX_SIDE = 1 << 30

Facet = Literal["camera", "month", "tags", "collection"]
Text = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
Side = Annotated[int, Field(ge=0, le=_MAX_SIDE)]
Sides = tuple[Side, Side, Side, Side]
MinRelevance = Annotated[
    float | None,
    Field(ge=0, le=1, description="`matched` says whether a hit is so relevant; hits stay."),
]


class Weights(BaseModel):
    """How much each of the fields of its name counts."""

    model_config = ConfigDict(extra="forbid")

    text: Weight = 1.0
    negative_text: Weight = NEGATIVE_WEIGHT
    image: Weight = 1.0
    like: Weight = 1.0


class TermRequest(BaseModel):
    """One of text, image and like: what is looked for, or with `negative` what is not wanted."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = Field(default=None, description="Plain text.")
    image: int | None = Field(
        default=None, ge=1, le=MAX_PICTURE_TERMS, description="Which of the pictures sent, from 1."
    )
    box: Sides | None = Field(default=None, description="x, y, width, height in its pixels.")
    like: str | None = Field(default=None, max_length=40, examples=["r92"])
    weight: Weight | None = Field(default=None, description="1, and 0.5 where negative.")
    negative: bool = False

    @model_validator(mode="after")
    def _is_one(self) -> TermRequest:
        if sum(value is not None for value in (self.text, self.image, self.like)) != 1:
            raise ValueError("give one of text, image and like")
        if self.box is not None and self.image is None:
            raise ValueError("a box needs an image")
        return self


class SearchRequest(BaseModel):
    """What to look for: a query, a text, pictures (in multipart), something stored, or several of these."""

    model_config = ConfigDict(extra="forbid")

    query: Text | None = Field(
        default=None,
        description="In the query language; see docs/query-language.md.",
        examples=['"red bus" -night taken:2024'],
    )
    text: Text | None = Field(default=None, description="Plain text.", examples=["a red bus"])
    negative_text: Text | None = Field(default=None, examples=["night"])
    like: str | None = Field(default=None, max_length=40, examples=["r92"])
    box: Sides | None = Field(
        default=None, description="x, y, width, height in pixels of the picture that is sent."
    )
    weights: Weights = Weights()
    terms: list[TermRequest] = Field(default=[], max_length=MAX_TERMS)
    target: Target = Target.IMAGE
    filters: JsonFilters = JsonFilters()
    limit: int = Field(default=HITS, ge=1, le=MAX_HITS)
    cursor: str | None = Field(default=None, max_length=2000)
    facets: list[Facet] = []
    min_relevance: MinRelevance = None


class QuerySearch(JsonFilters):
    """The parameters of `GET /v1/search`."""

    q: Text = Field(
        description="In the query language; see docs/query-language.md.", examples=["a red bus"]
    )
    without: Text | None = Field(default=None, alias="not", description="What it is not.")
    target: Target = Target.IMAGE
    limit: int = Field(default=HITS, ge=1, le=MAX_HITS)
    cursor: str | None = Field(
        default=None, max_length=2000, description="`next` of the page before."
    )
    facets: str | None = Field(
        default=None,
        max_length=100,
        description="camera,month,tags,collection: which of them to count.",
    )
    min_relevance: MinRelevance = None


SEARCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SearchRequest"},
                "examples": {
                    "query": {"value": {"query": '"red bus" -night taken:2024'}},
                    "text": {"value": {"text": "a red bus", "negative_text": "night"}},
                    "like": {"value": {"like": "r92", "target": "region"}},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "array",
                            "maxItems": MAX_PICTURE_TERMS,
                            "items": {"type": "string", "format": "binary"},
                        },
                        "query": {
                            "type": "string",
                            "description": "The JSON body, SearchRequest, as text.",
                        },
                    },
                }
            },
        },
    }
}
