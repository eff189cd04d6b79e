"""Searches in the query language and by lists of terms over HTTP: pages, keys, and places of
errors."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

import pytest
from made_service import Served, Shelf, jpeg, png, refused

from regard.api.client import SearchTerm, ServerProblem
from regard.api.schemas import SearchAnswer
from regard.search.language.syntax import MAX_PICTURE_TERMS, MAX_TERMS

COLOURS = ("red", "blue", "green", "yellow")
DAY = datetime.datetime(2024, 5, 17, 8, 30)


@dataclass(frozen=True)
class Filled:
    """Photographs of one colour each, a month apart, and two in a folder below the root."""

    shelf: Shelf
    ids: dict[str, str]

    def ask(self, query: str | None = None, **terms: Any) -> SearchAnswer:
        terms = {"limit": 100, "filters": self.shelf.within, **terms}
        return self.shelf.client.search(query=query, **terms)

    def names(self, answer: SearchAnswer) -> list[str]:
        of = {id: name for name, id in self.ids.items()}
        return [of[hit.asset.id] for hit in answer.hits]

    def found(self, query: str | None = None, **terms: Any) -> list[str]:
        return self.names(self.ask(query, **terms))


@pytest.fixture(scope="module")
def filled(served: Served) -> Filled:
    shelf = served.shelf()
    pictures = [
        jpeg(colour, taken=DAY + datetime.timedelta(days=31 * number), seed=7_000 + number)
        for number, colour in enumerate(COLOURS)
    ]
    assets = shelf.add(*pictures, tags=["uploaded"])
    folder = shelf.folder() / "trip"
    folder.mkdir()
    for name in ("purple", "white"):
        (folder / f"{name}.jpg").write_bytes(jpeg(name, seed=7_100))
    shelf.bring(folder)
    ids = dict(zip(COLOURS, (asset.id for asset in assets), strict=True))
    for asset in shelf.client.assets.iterate(shelf.within):
        if asset.id not in ids.values():
            ids[asset.file_name.removesuffix(".jpg")] = asset.id
    return Filled(shelf, ids)


def hits(answer: SearchAnswer) -> list[tuple[object, ...]]:
    return [(hit.rank, hit.score, hit.asset.id, hit.region, hit.channels) for hit in answer.hits]


def test_a_plain_query_is_the_text(served: Served, filled: Filled) -> None:
    text = filled.ask(text="a red thing")
    query = filled.ask("a red thing")
    assert hits(query) == hits(text)
    assert query.query == text.query == {"text": "a red thing", "target": "image"}
    got = served.raw().get(
        "/v1/search", params={"q": "a red thing", "collection": filled.shelf.name}
    )
    assert [hit["score"] for hit in got.json()["hits"]] == [hit.score for hit in query.hits[:20]]


def test_a_query_says_what_its_fields_say(filled: Filled) -> None:
    written = filled.ask('"red" -blue^0.7 like:' + filled.ids["green"] + " tag:uploaded")
    listed = filled.ask(
        terms=[
            {"text": "red"},
            {"like": filled.ids["green"]},
            {"text": "blue", "negative": True, "weight": 0.7},
        ],
        filters=type(filled.shelf.within)(collection=[filled.shelf.name], tag=["uploaded"]),
    )
    # Phrases are for the keyword index alone, which knows no captions of another colour.
    assert filled.names(written) == filled.names(listed)
    assert written.query["parts"][1] == {
        "text": "blue", "phrase": False, "weight": 0.7, "negative": True, "position": 6, "length": 9,
    }  # fmt: skip


def test_terms_as_a_list(filled: Filled) -> None:
    terms: list[SearchTerm] = [
        {"text": "red", "weight": 2.0},
        {"like": filled.ids["blue"]},
        {"image": 2, "box": [0, 0, 9, 9], "weight": 0.3},
        {"image": 1, "negative": True},
        {"text": "tag:x -y", "negative": True, "weight": 0.1},
    ]
    images = [("a.png", png("green", seed=1)), ("b.png", png("yellow", seed=2))]
    answer = filled.ask(terms=terms, images=images)
    assert answer.query == {
        "text": "red",
        "like": filled.ids["blue"],
        "image": "2",
        "box": [0, 0, 9, 9],
        "negative_image": "1",
        "negative_text": "tag:x -y",
        "weights": {
            "text": 2.0, "like": 1.0, "image": 0.3, "negative_image": 0.5, "negative_text": 0.1,
        },
        "target": "image",
    }  # fmt: skip
    query = f'red^2 like:{filled.ids["blue"]} box:2,0,0,9,9^0.3 -image:1 -"tag:x -y"^0.1'
    assert filled.names(filled.ask(query, images=images)) == filled.names(answer)


def test_pictures_are_named_by_their_numbers(filled: Filled) -> None:
    images = [("x.png", png("green", seed=3)), ("y.png", png("yellow", seed=4))]
    assert filled.found("image:1^9 image:2", images=images)[0] == "green"
    assert filled.found("image:1 image:2^9", images=images)[0] == "yellow"
    assert filled.found("image:2 -image:1 image:2", images=images)[0] == "yellow"
    for query, at in (("image:3", 0), ("red image:x.png", 4), ("image:0", 0), ("image:1", None)):
        with pytest.raises(ServerProblem) as told:
            filled.ask(query, images=images)
        # A picture that nothing names is a mistake, too.
        assert told.value.name == ("validation" if at is None else "malformed-query")
        assert told.value.position == at
    with refused("malformed-query"):
        filled.ask("image:1")
    with refused("validation"):
        filled.ask(images=images)
    with refused("unusable-image"):
        filled.ask("image:1", images=[("x.png", b"no picture")])


def test_filters_alone_list_by_date(filled: Filled) -> None:
    newest = filled.ask("taken:2024-05..2024-07")
    assert filled.names(newest) == ["green", "blue", "red"]
    assert newest.matched
    assert [(hit.score, hit.region, hit.channels) for hit in newest.hits] == [(0.0, None, [])] * 3
    assert filled.names(filled.ask("tag:uploaded -taken:2024-05")) == ["yellow", "green", "blue"]
    pages = []
    answer = filled.ask("tag:uploaded", limit=3, facets=["month"])
    assert answer.facets is not None
    assert {facet.value for facet in answer.facets["month"]} == {
        "2024-05", "2024-06", "2024-07", "2024-08",
    }  # fmt: skip
    pages += answer.hits
    assert answer.next is not None
    pages += filled.ask("tag:uploaded", limit=3, cursor=answer.next).hits
    whole = filled.ask("tag:uploaded")
    assert pages == whole.hits
    assert whole.next is None
    assert [hit.rank for hit in whole.hits] == [1, 2, 3, 4]
    with refused("unanswerable-query"):
        filled.ask("tag:uploaded", target="region")


def test_the_list_leaves_out_what_no_search_finds(filled: Filled) -> None:
    shelf = filled.shelf.served.shelf()
    kept, trashed = shelf.add(png(), png())
    shelf.client.assets.delete(trashed.id)
    answer = shelf.client.search(query="-tag:x", filters=shelf.within)
    assert [hit.asset.id for hit in answer.hits] == [kept.id]


def test_paths_below_the_root_and_names_of_uploads(served: Served, filled: Filled) -> None:
    name = filled.shelf.name.replace(" ", "-")
    reader = served.with_key(served.key("read"))
    for client in (filled.shelf.client, reader):

        def found(path: str, client: Any = client) -> set[str]:
            answer = client.search(query=f'path:"{path}"', filters=filled.shelf.within)
            return set(filled.names(answer))

        assert (
            found("trip") == found(f"photos/{name}") == found(f"{name}/trip") == {"purple", "white"}
        )
        assert found(f"photos/{name}/trip/white.jpg") == found("white.jpg") == {"white"}
        assert found("1.png") == {"blue"}
        assert found("photos/trip") == found("tri") == set()
    # What lies above the root is not there for those who may not see paths of the server.
    above = served.folder.name
    query = f'path:"{above}"'
    assert len(filled.shelf.client.search(query=query, filters=filled.shelf.within).hits) == 2
    assert not reader.search(query=query, filters=filled.shelf.within).hits
    # Nor does a root's name lead there.
    assert not reader.search(query=f'path:"photos/{served.photos}"').hits
    with pytest.raises(ServerProblem, match="not a path"):
        reader.search(query="path:photos/../outside")
    absolute = f'red path:"{served.photos}"'
    assert len(filled.shelf.client.search(query=absolute, filters=filled.shelf.within).hits) == 2
    with pytest.raises(ServerProblem, match="starts with a slash") as told:
        reader.search(query=absolute)
    assert (told.value.name, told.value.position) == ("malformed-query", 4)


def test_what_a_key_may_not_see_is_not_there(served: Served, filled: Filled) -> None:
    mine = served.shelf()
    (own,) = mine.add(png("red"))
    bound = served.with_key(served.key("admin", mine.name))
    region = filled.shelf.client.assets.get(filled.ids["red"]).regions[0].id
    for query in (
        f"red like:{filled.ids['red']}",
        f"red -like:{filled.ids['red']}",
        f"red like:{region}",
        f"red -like:{region}",
        f'red collection:"{filled.shelf.name}"',
        f'red -collection:"{filled.shelf.name}"',
        f'collection:"{filled.shelf.name}"',
        "collection:nowhere",
    ):
        with pytest.raises(ServerProblem) as told:
            bound.search(query=query)
        assert (told.value.status, told.value.name) == (404, "not-found"), query
        assert told.value.remedy is None
    for terms in (
        [{"like": filled.ids["red"]}],
        [{"text": "x"}, {"like": region, "negative": True}],
    ):
        with refused("not-found"):
            bound.search(terms=terms)  # type: ignore[arg-type]
    for query in ("-tag:x", "red", f'collection:"{mine.name}"'):
        assert {hit.asset.id for hit in bound.search(query=query).hits} == {own.id}


@pytest.mark.parametrize(
    ("query", "position", "length"),
    [("red tags:x", 4, 5), ("日本 taken:2024-13", 9, 7), ('"red', 0, 1), ("😀 red^0", 5, 2)],
)
def test_problems_point_at_the_place(
    served: Served, query: str, position: int, length: int
) -> None:
    raw = served.raw()
    for answer in (
        raw.get("/v1/search", params={"q": query}),
        raw.post("/v1/search", json={"query": query}),
        raw.post(
            "/v1/search",
            files={"image": ("x.png", png()), "query": (None, json.dumps({"query": query}))},
        ),
    ):
        problem = answer.json()
        assert answer.status_code == problem["status"] == 422
        assert problem["type"] == "/v1/problems/malformed-query"
        assert (problem["position"], problem["length"]) == (position, length)
        assert problem["remedy"]


def test_what_is_no_query_is_told(served: Served, filled: Filled) -> None:
    raw = served.raw()
    like = filled.ids["red"]
    for body, name in (
        ({"query": ""}, "validation"),
        ({"query": " "}, "unanswerable-query"),
        ({"query": "-red"}, "unanswerable-query"),
        ({"query": "-red tag:x"}, "unanswerable-query"),
        ({"query": "x" * 2001}, "malformed-query"),
        ({"terms": []}, "validation"),
        ({"terms": [{}]}, "validation"),
        ({"terms": [{"text": "a", "like": like}]}, "validation"),
        ({"terms": [{"text": "a", "box": [0, 0, 1, 1]}]}, "validation"),
        ({"terms": [{"text": "a", "weight": 0}]}, "validation"),
        ({"terms": [{"text": "a", "colour": 1}]}, "validation"),
        ({"terms": [{"image": 1}]}, "validation"),
        ({"terms": [{"text": "a", "negative": True}]}, "unanswerable-query"),
        ({"terms": [{"text": "a"}] * (MAX_TERMS + 1)}, "validation"),
        ({"query": "a", "terms": [{"text": "a"}] * MAX_TERMS}, "validation"),
        ({"query": "-x " * (MAX_TERMS + 1)}, "malformed-query"),
    ):
        answer = raw.post("/v1/search", json=body)
        assert answer.status_code == 422, (body, answer.text)
        assert answer.json()["type"] == f"/v1/problems/{name}", (body, answer.text)
    assert (
        raw.post("/v1/search", json={"query": "-red", "terms": [{"text": "blue"}]}).status_code
        == 200
    )


def test_how_many_pictures_there_may_be(served: Served, filled: Filled) -> None:
    one = ("x.png", png("red", seed=5))
    boxes = " ".join(f"box:1,{x},0,5,5" for x in range(MAX_PICTURE_TERMS))
    assert filled.found(boxes, images=[one])
    with refused("malformed-query"):
        filled.ask(boxes + " image:1", images=[one])
    with refused("validation"):
        filled.ask(boxes, images=[one], terms=[{"image": 1}])
    with refused("too-large"):
        filled.ask("image:1", images=[one] * (MAX_PICTURE_TERMS + 1))
