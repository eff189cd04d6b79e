"""`regard search` on a server, in the shapes that a home gives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from regard.api.cli.commands.search import AnswerTexts, Found, Wanted, picture_uri
from regard.api.cli.options import ChosenServer
from regard.api.cli.remote import WRONG_ARGUMENTS, open_client, uri_of
from regard.api.client import Client, Filters, ServerProblem
from regard.api.client.searching import SearchOptions
from regard.api.http.schemas import HitDocument
from regard.core.errors import DecodeError, MalformedQuery
from regard.core.records import Image, Target
from regard.photos.decoding import decode_bytes
from regard.search.answers import Scope, TextQuery
from regard.search.language.printing import print_query
from regard.search.language.syntax import WrittenPicture, WrittenQuery

# Up to here any server answers in one page.
_PAGE = 100
_OF_THE_PICTURE = {"unusable-image", "unsupported-media", "too-large"}
_PICTURES = {"image", "negative_image"}
_ASSET = "id", "uri", "width", "height", "caption"
_REGION = "id", "bbox", "area", "caption"


@contextlib.contextmanager
def remote_search(server: ChosenServer, wanted: Wanted, scope: Scope) -> Iterator[Found]:
    """Search a server, which gets the query's pictures; pictures of hits can be got inside the block."""
    query, files = _numbered(wanted.query)
    uris = [picture_uri(name) for name in files]
    options = _options(scope)
    options["query"] = print_query(query)
    options["images"] = files
    with open_client(server) as client:
        try:
            document, hits = _search(client, None, options, scope.limit)
        except ServerProblem as problem:
            if uris and problem.name in _OF_THE_PICTURE:
                raise DecodeError(
                    f"{' or '.join(uris)} can't be used: {problem.detail}"
                ) from problem
            if problem.position is not None and options["query"] == wanted.text:
                raise MalformedQuery(
                    problem.detail,
                    position=problem.position,
                    length=problem.length or 0,
                    remedy=problem.remedy,
                ) from problem
            raise
        document["query"] = _said(document["query"], uris, wanted)
        yield Found(
            document,
            [uri_of(client, hit.asset).encode() for hit in hits],
            [partial(_picture, client, hit) for hit in hits],
        )


def _numbered(query: WrittenQuery) -> tuple[WrittenQuery, list[str]]:
    """The query with numbers for its pictures' names, and the files that they stand for."""
    files: dict[str, int] = {}
    terms = []
    for term in query.terms:
        what = term.what
        if isinstance(what, WrittenPicture):
            what = replace(what, name=str(files.setdefault(what.name, len(files) + 1)))
        terms.append(replace(term, what=what))
    return replace(query, terms=tuple(terms)), list(files)


def _said(shown: dict[str, Any], uris: Sequence[str], wanted: Wanted) -> dict[str, Any]:
    """What the answer says of the query: with files for numbers, and as it was written here."""
    own = {name: value for name, value in shown.items() if name not in {"query", "parts"}}
    for name in _PICTURES & own.keys():
        numbers = own[name]
        many = [uris[int(number) - 1] for number in _listed(numbers)]
        own[name] = many if isinstance(numbers, list) else many[0]
    return own | wanted.said


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


@contextlib.contextmanager
def remote_answers(server: ChosenServer, scope: Scope) -> Iterator[AnswerTexts]:
    """Answers to many texts, each as JSON; one that the server refuses says so in its place."""
    with open_client(server) as client:

        def answer(texts: Sequence[TextQuery]) -> Iterator[dict[str, Any]]:
            for query in texts:
                try:
                    yield _search(client, query.text, _options(scope), scope.limit)[0]
                except ServerProblem as problem:
                    if problem.name not in WRONG_ARGUMENTS:
                        raise
                    yield {"query": query.text, "error": problem.detail}

        yield answer


def _options(scope: Scope) -> SearchOptions:
    collections = scope.filter.collections
    filters = None if collections is None else Filters(collection=collections)
    wants_regions = scope.target is Target.REGION
    return SearchOptions(
        target="region" if wants_regions else "image",
        filters=filters,
        min_relevance=scope.min_relevance,
    )


def _search(
    client: Client, text: str | None, options: SearchOptions, limit: int
) -> tuple[dict[str, Any], list[HitDocument]]:
    """The documented JSON form of an answer, from as many pages as it takes, and its hits."""
    page = limit if limit <= _PAGE else min(limit, client.info().limits.hits)
    answer = client.search(text, limit=page, **options)
    hits, took, matched = answer.hits, answer.took_ms, answer.matched
    while answer.next is not None and len(hits) < limit:
        size = min(page, limit - len(hits))
        answer = client.search(text, limit=size, cursor=answer.next, **options)
        hits, took = hits + answer.hits, took + answer.took_ms
    document = {
        "query": answer.query,
        "took_ms": round(took, 1),
        "matched": matched,
        "hits": [_documented(client, hit) for hit in hits],
    }
    return document, hits


def _picture(client: Client, hit: HitDocument) -> Image:
    try:
        return decode_bytes(client.assets.thumbnail(hit.asset.id, 512))
    except ServerProblem as problem:
        raise DecodeError(problem.detail) from problem


def _documented(client: Client, hit: HitDocument) -> dict[str, Any]:
    """The fields of docs/cli.md, in their order."""
    document = hit.model_dump(mode="json", exclude_unset=True)
    document["asset"]["uri"] = uri_of(client, hit.asset)
    for part, names in (("asset", _ASSET), ("region", _REGION)):
        if document[part] is not None:
            document[part] = {name: document[part][name] for name in names}
    return document
