"""`regard search` on a server, in the shapes that a home gives."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from regard.api.cli.options import ChosenServer
from regard.api.cli.remote import WRONG_ARGUMENTS, open_client
from regard.api.cli.searching import AnswerTexts, Found, WantedPicture
from regard.api.client import Client, Filters, ServerProblem
from regard.api.client.searching import Terms
from regard.api.http.schemas import HitDocument
from regard.core.decoding import decode_bytes
from regard.core.errors import DecodeError
from regard.core.records import Image, Target
from regard.search.answers import LikeQuery, Scope, TextQuery
from regard.search.identifiers import asset_identifier, region_identifier

# Up to here any server answers in one page.
_PAGE = 100
_OF_THE_PICTURE = {"unusable-image", "unsupported-media", "too-large"}
_ASSET = "id", "uri", "width", "height", "caption"
_REGION = "id", "bbox", "area", "caption"


@contextlib.contextmanager
def remote_search(
    server: ChosenServer, wanted: TextQuery | LikeQuery | WantedPicture, scope: Scope
) -> Iterator[Found]:
    """Search a server; pictures can be got inside the block."""
    with open_client(server) as client:
        terms, text = _terms(scope), None
        if isinstance(wanted, TextQuery):
            text = wanted.text
        elif isinstance(wanted, LikeQuery):
            make = region_identifier if wanted.reference.is_region else asset_identifier
            terms["like"] = make(wanted.reference.id)
        else:
            terms["image"] = os.fsdecode(wanted.path)
            terms["box"] = None if wanted.box is None else wanted.box.to_list()
        try:
            document, hits = _search(client, text, terms, scope.limit)
        except ServerProblem as problem:
            if isinstance(wanted, WantedPicture) and problem.name in _OF_THE_PICTURE:
                raise DecodeError(f"{wanted.uri} can't be used: {problem.detail}") from problem
            raise
        if isinstance(wanted, WantedPicture):
            document["query"]["image"] = wanted.uri
        yield Found(
            document,
            [hit.asset.uri.encode() for hit in hits],
            [partial(_picture, client, hit) for hit in hits],
        )


@contextlib.contextmanager
def remote_answers(server: ChosenServer, scope: Scope) -> Iterator[AnswerTexts]:
    """Answers to many texts, each as JSON; one that the server refuses says so in its place."""
    with open_client(server) as client:

        def answer(texts: Sequence[TextQuery]) -> Iterator[dict[str, Any]]:
            for query in texts:
                try:
                    yield _search(client, query.text, _terms(scope), scope.limit)[0]
                except ServerProblem as problem:
                    if problem.name not in WRONG_ARGUMENTS:
                        raise
                    yield {"query": query.text, "error": problem.detail}

        yield answer


def _terms(scope: Scope) -> Terms:
    collections = scope.filter.collections
    filters = None if collections is None else Filters(collection=collections)
    wants_regions = scope.target is Target.REGION
    return Terms(target="region" if wants_regions else "image", filters=filters)


def _search(
    client: Client, text: str | None, terms: Terms, limit: int
) -> tuple[dict[str, Any], list[HitDocument]]:
    """The documented JSON form of an answer, from as many pages as it takes, and its hits."""
    page = limit if limit <= _PAGE else min(limit, client.info().limits.hits)
    answer = client.search(text, limit=page, **terms)
    hits, took = answer.hits, answer.took_ms
    while answer.next is not None and len(hits) < limit:
        size = min(page, limit - len(hits))
        answer = client.search(text, limit=size, cursor=answer.next, **terms)
        hits, took = hits + answer.hits, took + answer.took_ms
    document = {
        "query": answer.query,
        "took_ms": round(took, 1),
        "matched": bool(hits),
        "hits": [_documented(hit) for hit in hits],
    }
    return document, hits


def _picture(client: Client, hit: HitDocument) -> Image:
    try:
        return decode_bytes(client.assets.thumbnail(hit.asset.id, 512))
    except ServerProblem as problem:
        raise DecodeError(problem.detail) from problem


def _documented(hit: HitDocument) -> dict[str, Any]:
    """The fields of docs/cli.md, in their order."""
    document = hit.model_dump(mode="json")
    for part, names in (("asset", _ASSET), ("region", _REGION)):
        if document[part] is not None:
            document[part] = {name: document[part][name] for name in names}
    return document
